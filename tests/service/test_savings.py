"""Savings with a truth put in by hand: a switchback trial through guard, store, job and API; what does not count, and why."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pages
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sites import NOW, fill, lived, open_rc, two_node_config

import setwise
from building.description import load_building
from building.errors import BadDescriptionError
from service import operations
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.config import Config
from service.savings import assigned, own_day, report, savings_job
from service.store import RegimeRecord, SqlStore

TWO_NODE = load_building("two_node")
ZONE = TWO_NODE.site.time_zone
START = date(2026, 1, 5)
QUARTER = pd.Timedelta(minutes=15)
TRIAL = {"savings__trial": "day", "savings__start": f"{START}", "savings__weeks": "4", "savings__seed": "3"}


def midnight(day: date) -> pd.Timestamp:
    return pd.Timestamp(day).tz_localize(ZONE).tz_convert("UTC")


def day_of(config: Config, side: str) -> date:
    return next(d for i in range(28) if assigned(config.savings, d := START + timedelta(days=i)) == side)


def lived_trial(store: SqlStore, config: Config, saving: float, noise: float, seed: int, n_days: int = 28) -> None:
    """Fill a store with days whose heating follows the weather, less `saving` where the trial runs the plan; run as asked."""
    rng = np.random.default_rng(seed)
    index = pd.date_range(midnight(START), midnight(START + timedelta(days=n_days)), freq="h", inclusive="left")
    local = index.tz_convert(ZONE)
    number = np.array([(d - START).days for d in local.date])
    outdoor = (2 + 5 * rng.standard_normal(n_days))[number] + 3 * np.sin(2 * np.pi * (local.hour - 15) / 24)
    side = np.array([assigned(config.savings, d) for d in local.date])
    daily = (1 + noise * rng.standard_normal(n_days))[number]
    power = (2000 + 300 * (15 - pd.Series(outdoor).groupby(number).transform("mean").to_numpy())) * daily
    columns = {
        "outdoor_air_temperature": outdoor,
        "fan_electricity": power * np.where(side == "plan", 1 - saving, 1.0),
        "occupancy_share": ((local.hour >= 8) & (local.hour < 18)).astype(float),
        "zone_air_temperature": np.where(side == "plan", 21.0, 19.0),
        "zone_co2": np.where(side == "plan", 1320.0, 900.0),
    }
    fill(store, pd.DataFrame(columns, index=index))
    for i in range(n_days):
        day = START + timedelta(days=i)
        asked = assigned(config.savings, day)
        store.note_regime(RegimeRecord(midnight(day), midnight(day + timedelta(days=1)), asked, asked))


@pytest.fixture
def trial_site(tmp_path: Path):
    config = two_node_config(tmp_path, **TRIAL)
    store = SqlStore(config.store.url.get_secret_value())
    yield config, store
    store.close()


def reported(config: Config, store: SqlStore, n_days: int = 28) -> dict:
    return report(store, TWO_NODE, config, midnight(START + timedelta(days=n_days)) + pd.Timedelta(hours=5))


# -- the figures


def test_a_known_saving_lies_in_the_interval_and_both_arms_are_told(trial_site) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.15, noise=0.02, seed=1)
    found = reported(config, store)
    assert found["method"] == "switchback" and not found["is_model_based"] and found["is_shown"]
    assert found["low"] <= 0.15 <= found["high"] and found["high"] - found["low"] < 0.06
    assert found["saved_kwh"] == pytest.approx(found["baseline_kwh"] - found["reported_kwh"])
    assert found["said"].startswith("Saved ") and "% interval" in found["said"]
    own, plan = found["arms"]["own"], found["arms"]["plan"]
    price = TWO_NODE.carriers["electricity"].price  # fans alone
    assert own["cost"] == pytest.approx(price * own["energy_kwh"]) and found["currency"] == TWO_NODE.facts.currency
    assert (own["discomfort"], plan["discomfort"]) == (10.0, 0.0)  # 1 K too cold over ten occupied hours
    assert (own["co2_excess"], plan["co2_excess"]) == (0.0, 1000.0)  # 100 ppm over 420 + 800 for ten hours
    assert (own["co2"], plan["co2"]) == (900.0, 1320.0)
    assert len(found["days"]) == 28
    assert found["n_own"] + found["n_plan"] + sum(found["left_out"].values()) == 28


def test_a_saving_without_noise_is_exact_and_the_washout_leaves_its_hours_out(trial_site) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.2, noise=0.0, seed=2)
    found = reported(config, store)
    assert found["saving"] == pytest.approx(0.2, abs=1e-9)
    whole = report(store, TWO_NODE, config.model_copy(update={"savings": config.savings.model_copy(update={"washout_h": 0})}),
                   midnight(START + timedelta(days=29)))  # fmt: skip
    assert found["arms"]["own"]["energy_kwh"] == pytest.approx(whole["arms"]["own"]["energy_kwh"] * 20 / 24)


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path) -> None:
    hits = []
    for seed in range(10):
        config = two_node_config(tmp_path, **TRIAL | {"savings__weeks": "8"}, store__url=f"sqlite:///{tmp_path}/{seed}.db")
        store = SqlStore(config.store.url.get_secret_value())
        lived_trial(store, config, saving=0.12, noise=0.05, seed=seed, n_days=56)
        found = reported(config, store, n_days=56)
        hits.append(found["low"] <= 0.12 <= found["high"])
        store.close()
    assert np.sum(hits) >= 7  # 90 % is asked for; 200 draws stand in tests/calibration/test_savings.py


def test_too_few_days_are_said_and_no_figure_is_given(trial_site) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.15, noise=0.02, seed=1, n_days=9)
    found = reported(config, store, n_days=9)
    assert not found["is_enough"] and found["saving"] is None and found["is_shown"] is None
    assert found["said"].startswith(
        f"Not enough days yet: {found['n_own']} of 10 days under the own schedule and {found['n_plan']}"
    )


# -- what does not count


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"held": ("heating_setpoint",)}, "a person held heating_setpoint"),
        ({"run": "own", "why": "plan 7 is 49 h old"}, "plan 7 is 49 h old"),
        ({"run": "none", "why": "the broker was away"}, "the broker was away"),
        ({"assigned": "own"}, "the trial was set up otherwise on that day"),
    ],
)
def test_a_day_that_was_not_run_as_asked_is_left_out_with_the_reason(trial_site, change, why) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.15, noise=0.02, seed=1)
    day = day_of(config, "plan")
    noon = midnight(day) + pd.Timedelta(hours=12)
    store.note_regime(replace(RegimeRecord(noon, noon + pd.Timedelta(hours=2), "plan", "plan"), **change))
    entry = next(d for d in reported(config, store)["days"] if d["day"] == f"{day}")
    assert entry["left_out"].endswith(why) and entry["expected_kwh"] is None


def test_an_hour_astray_is_forgiven_and_a_service_that_stood_still_is_not(trial_site) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.15, noise=0.02, seed=4, n_days=6)
    day = day_of(config, "plan")
    noon = midnight(day) + pd.Timedelta(hours=12)
    store.note_regime(RegimeRecord(noon, noon + pd.Timedelta(hours=1), "own", "plan", why="no plan"))
    verdicts = {d["day"]: d["left_out"] for d in reported(config, store, n_days=8)["days"]}
    assert "run otherwise" not in (verdicts[f"{day}"] or "")
    assert verdicts[f"{START + timedelta(days=6)}"].endswith("the service did not run")


def test_a_day_with_a_gap_in_its_energy_is_left_out(trial_site, tmp_path) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.15, noise=0.02, seed=1, n_days=4)
    hole = midnight(START + timedelta(days=1)) + pd.Timedelta(hours=10)
    with store._writing() as c:
        c.exec_driver_sql(
            "DELETE FROM readings WHERE variable = 'fan_electricity' AND stamp >= ? AND stamp < ?",
            (int(hole.timestamp() * 1000), int((hole + pd.Timedelta(hours=4)).timestamp() * 1000)),
        )
    entry = reported(config, store, n_days=4)["days"][1]
    assert entry["energy_kwh"] is None and "not measured" in entry["left_out"]


def test_weeks_leave_whole_days_out_after_each_switch(tmp_path) -> None:
    config = two_node_config(tmp_path, **TRIAL | {"savings__trial": "week", "savings__washout_h": "30"})
    store = SqlStore(config.store.url.get_secret_value())
    lived_trial(store, config, saving=0.1, noise=0.0, seed=1)
    found = reported(config, store)
    washed = [d["day"] for d in found["days"] if d["left_out"] and d["left_out"].startswith("washout")]
    sides = [assigned(config.savings, START + timedelta(days=7 * w)) for w in range(4)]
    n_switches = 1 + sum(a != b for a, b in pairwise(sides))
    assert len(washed) == 2 * n_switches and washed[:2] == ["2026-01-05", "2026-01-06"]
    assert found["saving"] == pytest.approx(0.1, abs=1e-9)
    store.close()


def test_without_a_trial_the_days_before_the_first_plan_are_the_baseline_and_it_is_called_model_based(tmp_path) -> None:
    drawn = two_node_config(tmp_path, **TRIAL)
    store = SqlStore(drawn.store.url.get_secret_value())
    rng = np.random.default_rng(5)
    index = pd.date_range(midnight(START), midnight(START + timedelta(days=60)), freq="h", inclusive="left")
    number = np.array([(d - START).days for d in index.tz_convert(ZONE).date])
    outdoor = (2 + 4 * rng.standard_normal(60))[number]
    power = (2000 + 300 * (15 - outdoor)) * np.where(number >= 30, 0.9, 1.0)
    fill(store, pd.DataFrame({"outdoor_air_temperature": outdoor, "fan_electricity": power}, index=index))
    store.note_regime(RegimeRecord(midnight(START + timedelta(days=30)), midnight(START + timedelta(days=60)), "plan"))
    found = report(store, TWO_NODE, two_node_config(tmp_path), midnight(START + timedelta(days=60)) + QUARTER)
    assert found["method"] == "before_after" and found["is_model_based"] and found["source"].startswith("model-based")
    assert found["n_own"] == 30 and found["saving"] == pytest.approx(0.1, abs=1e-6)
    store.close()


def test_a_store_without_anything_reports_that_there_is_nothing(tmp_path) -> None:
    config = two_node_config(tmp_path)
    store = SqlStore(config.store.url.get_secret_value())
    found = report(store, TWO_NODE, config, NOW)
    assert found["said"].startswith("Not enough days yet: 0 of 10") and found["energy"] == "no consumption is measured"
    store.close()


# -- the trial in the service


class Line:
    """Stands for the broker."""

    is_connected = True

    def __init__(self) -> None:
        self.sent: list[str] = []

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int:
        self.sent.append(topic)
        return len(self.sent)


def service_on(tmp_path: Path, day: date, hour: float = 10.0, **environ: str) -> Service:
    clock = TurnedClock(midnight(day) + pd.Timedelta(hours=hour))
    service = Service(two_node_config(tmp_path, **TRIAL | environ), clock, open_rc)
    now = clock.now()
    fill(service.store, lived(now=now, hours=24))
    index = pd.date_range(now.floor("h"), periods=48, freq="h")
    row = {"heating_setpoint": 18.0, "cooling_setpoint": 26.0, "system_on": 1.0, "outdoor_air_flow": 3.0}
    plan = operations.Plan(pd.DataFrame({**row, "supply_air_temperature": 15.0}, index=index), "optimised", now)
    service.store.add_calibration({"parameters": {}}, now, is_accepted=True)
    service.store.add_plan(plan, now)
    service.publisher.line = service.publisher.outbox.line = Line()
    service.link.is_connected = True  # type: ignore[misc]
    return service


@pytest.fixture
def connected(monkeypatch) -> None:
    monkeypatch.setattr("service.mqtt.MqttLink.is_connected", property(lambda _self: True, lambda _self, _value: None))


@pytest.mark.usefixtures("connected")
def test_on_an_own_day_the_own_schedule_is_sent_and_setpoints_say_why(tmp_path) -> None:
    config = two_node_config(tmp_path, **TRIAL)
    day = day_of(config, "own")
    service = service_on(tmp_path, day)
    service.tick()
    client = TestClient(
        create_api(service.sources()), headers={"Authorization": f"Bearer {make_token(tmp_path / 'token', 'viewer')}"}
    )
    shown = client.get("/v1/setpoints").json()
    n = (day - START).days + 1
    assert shown["origin"] == "own" and shown["notes"][0] == f"own schedule today: switchback day {n} of 28"
    assert {s["source"] for s in shown["settings"]} <= {"own", "safety"}
    now = service.clock.now()
    assert service.store.regimes(now, now + QUARTER)[0].run == "own"
    answer = client.get("/v1/savings").json()
    assert answer["trial"]["today"] == "own" and answer["report"] is None
    assert "today the own schedule" in answer["next"]
    service.store.close()


@pytest.mark.usefixtures("connected")
def test_on_a_plan_day_the_plan_is_sent_and_how_it_was_run_is_noted_step_by_step(tmp_path) -> None:
    service = service_on(tmp_path, day_of(two_node_config(tmp_path, **TRIAL), "plan"))
    for _ in range(4):
        service.tick()
        service.clock.turn(service.clock.now() + QUARTER)
    now = service.clock.now()
    (one,) = service.store.regimes(now - 5 * QUARTER, now)
    assert (one.run, one.assigned, one.until - one.since) == ("plan", "plan", 4 * QUARTER)
    service.clock.turn(now + pd.Timedelta(hours=2))  # stood still, and goes on
    service.tick()
    first, second = service.store.regimes(now - 5 * QUARTER, now + pd.Timedelta(hours=3))
    assert second.since - first.until == pd.Timedelta(hours=2)
    service.store.close()


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("environ", "run", "why"),
    [
        ({"publish__mode": "watch"}, "none", "mode watch"),
        ({"publish__mode": "advise"}, "own", "no plan was confirmed"),
        ({"guard__max_plan_age_h": "0.001"}, "own", "h old"),
    ],
)
def test_what_keeps_the_plan_from_the_building_is_noted(tmp_path, environ, run, why) -> None:
    service = service_on(tmp_path, day_of(two_node_config(tmp_path, **TRIAL), "plan"), **environ)
    service.clock.turn(service.clock.now() + QUARTER)
    service.tick()
    now = service.clock.now()
    (one,) = service.store.regimes(now, now + QUARTER)
    assert one.run == run and why in one.why
    service.store.close()


def test_a_broker_that_is_away_is_noted_as_nothing_that_reached_the_building(tmp_path) -> None:
    service = Service(two_node_config(tmp_path, **TRIAL), TurnedClock(NOW), open_rc)
    service.tick()
    (one,) = service.store.regimes(NOW, NOW + QUARTER)
    assert (one.run, one.why) == ("none", "the broker was away")
    service.store.close()


def test_the_day_of_the_trial_is_the_local_one(tmp_path) -> None:
    config = two_node_config(tmp_path, **TRIAL)
    own = day_of(config, "own")
    assert own_day(config.savings, TWO_NODE, midnight(own)) and own_day(config.savings, TWO_NODE, midnight(own) + 95 * QUARTER)
    before = own - timedelta(days=1)
    assert bool(own_day(config.savings, TWO_NODE, midnight(own) - QUARTER)) == (assigned(config.savings, before) == "own")
    assert own_day(config.savings, TWO_NODE, midnight(START + timedelta(days=28))) == ""


def test_the_job_brings_the_report_to_the_api_and_the_metrics(tmp_path) -> None:
    config = two_node_config(tmp_path, **TRIAL)
    service = Service(config, TurnedClock(midnight(START + timedelta(days=28))), open_rc)
    lived_trial(service.store, config, saving=0.15, noise=0.02, seed=1)
    now = service.clock.now()
    service._enter_savings(service.store.start_job("savings", now), savings_job(config, now))
    client = TestClient(
        create_api(service.sources()), headers={"Authorization": f"Bearer {make_token(tmp_path / 'token', 'viewer')}"}
    )
    answer = client.get("/v1/savings").json()
    assert answer["trial"]["state"] == "over" and answer["report"]["low"] <= 0.15 <= answer["report"]["high"]
    assert service.store.jobs("savings")[0].log == answer["report"]["said"]
    metrics = client.get("/metrics").text
    assert 'setwise_savings_ratio{end="saved"}' in metrics and 'setwise_savings_days{side="own"}' in metrics
    service.store.close()


# -- what is refused


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"trial": "day"}, "a trial needs its first day"),
        ({"trial": "day", "start": "2026-02-30"}, "is no date"),
        ({"trial": "day", "start": "2026-02-01", "washout_h": "13"}, "at most 12"),
        ({"trial": "day", "start": "2026-02-01", "weeks": "3"}, "weeks"),
        ({"trial": "fortnight"}, "trial"),
    ],
)
def test_a_trial_that_cannot_be_is_refused_by_name(tmp_path, told, said) -> None:
    with pytest.raises(BadDescriptionError, match=said):
        two_node_config(tmp_path, **{f"savings__{k}": v for k, v in told.items()})


# -- the verb


def write_days(file: Path, n_days: int = 56, saving: float = 0.15) -> Path:
    rng = np.random.default_rng(4)
    lines = ["day,energy_kwh,outdoor_air_temperature,side"]
    for i in range(n_days):
        outdoor, side = 2 + 5 * rng.standard_normal(), "plan" if i % 2 else "own"
        energy = (500 + 30 * (15 - outdoor)) * (1 - saving * (side == "plan"))
        lines.append(f"{START + timedelta(days=i)},{energy:.3f},{outdoor:.3f},{side}")
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_verb_reads_a_daily_csv(tmp_path, capsys) -> None:
    file = write_days(tmp_path / "days.csv")
    assert setwise.main(["savings", "--csv", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Saved ") and "saving=0.15 " in said and "is_model_based=0" in said


def test_the_verb_says_no_while_there_are_not_days_enough(tmp_path, capsys, trial_site) -> None:
    config, store = trial_site
    lived_trial(store, config, saving=0.15, noise=0.02, seed=1, n_days=4)
    told = tmp_path / "service.toml"
    told.write_text(
        f'[building]\nname = "two_node"\n[store]\nurl = "{config.store.url.get_secret_value()}"\n'
        f'[savings]\ntrial = "day"\nstart = "{START}"\nweeks = 4\nseed = 3\n'
    )
    assert setwise.main(["savings", "--config", str(told)]) == 1
    assert "Not enough days yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("side", "which"), "no column side"),
        ((",own\n", ",ours\n"), "wanted: plan or own"),
        (("2026-01-06", "2026-01-05"), "stands there twice"),
        (("2026-01-06", "yesterday"), "a date per line"),
    ],
)
def test_a_bad_daily_csv_is_refused_with_its_fault(tmp_path, capsys, change, said) -> None:
    file = write_days(tmp_path / "days.csv")
    file.write_text(file.read_text().replace(*change, 1))
    assert setwise.main(["savings", "--csv", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_every_command_of_the_page_does_what_it_says(tmp_path, monkeypatch, capsys) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "savings.md").read_text(encoding="utf-8")
    blocks = dict.fromkeys(("toml", "csv", "sh"), "")
    for kind, text in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        blocks[kind] += text
    monkeypatch.chdir(tmp_path)
    Path("service.toml").write_text('[building]\nname = "two_node"\n' + blocks["toml"])
    SqlStore("sqlite:///state/setwise.db").close()
    write_days(Path("days.csv"))
    assert Path("days.csv").read_text().splitlines()[0] == blocks["csv"].splitlines()[0]
    for command in pages.commands("docs/savings.md"):
        code = setwise.main(shlex.split(command)[1:])
        assert code == (0 if "--csv" in command else 1), command  # an empty store has not days enough
        assert ("model-based" in capsys.readouterr().out) == (" --method before_after" in command), command
