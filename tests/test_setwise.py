"""The front door: every verb teaches, every answer is for people and machines, every refusal is one line."""

from __future__ import annotations

import argparse
import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pandas as pd
import pytest

import setwise
from building.description import Building, load_building
from building.errors import BadBundleError, BadDescriptionError, IrregularTimeError
from building.variables import Role
from setwise import Answer, Table, main
from simulation.rc import RcPredictor

ROOT = Path(__file__).resolve().parent.parent
WANTED = [
    "demo",
    "adopt",
    "audit",
    "simulate",
    "train",
    "intervals",
    "evaluate",
    "calibrate",
    "optimise",
    "prove",
    "serve",
    "replay",
    "points",
    "bundle",
    "token",
    "audit-log",
    "sign",
    "install",
    "rollback",
    "diagnostics",
    "backup",
    "restore",
    "export",
    "downgrade",
    "savings",
    "commission",
    "doctor",
]


@pytest.fixture
def a_verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], Answer]], None]:
    """Let `setwise points` be anything."""

    def replace_with(run: Callable[[argparse.Namespace], Answer]) -> None:
        monkeypatch.setitem(setwise.VERBS, "points", setwise.Verb(run, "A verb.", "setwise points", (), ""))

    return replace_with


def last_line(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in shlex.split(text.strip().splitlines()[-1]))


def test_there_is_a_verb_for_each_task_and_no_other() -> None:
    assert sorted(setwise.VERBS) == sorted(WANTED)


@pytest.mark.parametrize("verb", WANTED)
def test_help_of_each_verb_shows_an_example_that_its_own_parser_accepts(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    example = shown.rsplit("example:", 1)[1].strip()
    program, *arguments = shlex.split(example)
    assert program == "setwise"
    assert setwise.parser().parse_args(arguments).verb == verb


@pytest.mark.parametrize("verb", WANTED)
def test_seed_json_quiet_and_debug_are_everywhere(verb: str) -> None:
    _, *arguments = shlex.split(setwise.VERBS[verb].example)
    a = setwise.parser().parse_args([*arguments, "--seed", "7", "--json", "--quiet", "--debug"])
    assert (a.seed, a.json, a.quiet, a.debug) == (7, True, True, True)


def test_an_answer_for_people_ends_with_one_line_of_key_value_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["points", "medium_office"]) == 0
    out = capsys.readouterr().out
    assert "outdoor_air_temperature" in out
    assert last_line(out) == {"measured": "52", "missing": "0", "settings_without_command": "0"}


def test_json_is_one_object_with_the_same_facts_and_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["points", "medium_office", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["measured"] == 52
    assert len(said["points"]) == 52
    assert {p["variable"]: p["unit"] for p in said["points"]}["outdoor_air_temperature"] == "degF"


def test_numbers_that_are_none_become_null_and_numpy_becomes_plain() -> None:
    answer = Answer({"a": float("nan"), "b": np.float64(0.5), "c": np.bool_(True), "d": Path("x")}, details={"e": np.arange(2)})
    assert json.loads(json.dumps(setwise.document(answer), allow_nan=False)) == {
        "a": None, "b": 0.5, "c": True, "d": "x", "e": [0, 1],
    }  # fmt: skip


def test_an_answer_that_says_two_things_under_one_name_is_refused() -> None:
    with pytest.raises(ValueError, match="points"):
        setwise.document(Answer({"points": 3}, [Table("points", ("a",), [])]))


def test_words_with_spaces_stay_one_value_of_the_last_line(a_verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    a_verb(lambda _a: Answer({"reason": "too few data", "is_good": False, "share": 0.123456}))
    main(["points"])
    assert last_line(capsys.readouterr().out) == {"reason": "too few data", "is_good": "0", "share": "0.1235"}


def test_an_answer_that_is_no_ends_with_code_1(a_verb: Any) -> None:
    a_verb(lambda _a: Answer({"passed": 0}, is_good=False))
    assert main(["points"]) == 1


def test_a_refusal_is_one_line_on_stderr_with_code_2_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("setwise: ")
    assert "bundle.json" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_refusal_with_json_is_an_object_with_its_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["error"] == "BadBundleError"
    assert said["facts"]["path"] == str(tmp_path)


def test_debug_shows_the_whole_error(tmp_path: Path) -> None:
    with pytest.raises(BadBundleError):
        main(["bundle", str(tmp_path), "--debug"])


def test_a_mistake_of_the_program_is_not_dressed_up_as_a_refusal(a_verb: Any) -> None:
    def wrong(_a: argparse.Namespace) -> Answer:
        raise KeyError("a mistake")

    a_verb(wrong)
    with pytest.raises(KeyError):
        main(["points"])


def test_ctrl_c_ends_with_130(a_verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_a: argparse.Namespace) -> Answer:
        raise KeyboardInterrupt

    a_verb(interrupted)
    assert main(["points"]) == 130
    assert capsys.readouterr().err == "setwise: interrupted\n"


def test_an_interrupted_campaign_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stand_in(monkeypatch, "simulation.campaign", "run_campaign", None).side_effect = KeyboardInterrupt
    assert main(["simulate", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == (
        f"setwise: interrupted; finished runs are kept in {tmp_path}; the same command goes on from there\n"
    )


@pytest.mark.parametrize(("every_s", "n_lines"), [(0, 6), (60, 1)])
def test_in_a_log_file_progress_is_a_line_now_and_then_and_the_last(
    every_s: float, n_lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(setwise, "LINE_EVERY_S", every_s)

    def run(_campaign: object, _folder: Path, _spread: object, progress: Callable[[int, int, int, float], None]) -> None:
        for done in range(1, 7):
            progress(done, 6, 1, 120.0 * (6 - done))

    stand_in(monkeypatch, "simulation.campaign", "run_campaign", None).side_effect = run
    dataset = type("Dataset", (), {"origin": {"runs": 6, "core_hours": 0.01}, "__len__": lambda _: 18})()
    stand_in(monkeypatch, "simulation.campaign", "export", dataset)
    assert main(["simulate", "--runs", "6", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == n_lines and said[-1] == "simulations: 6 of 6, 1 failed"
    assert n_lines == 1 or said[2] == "simulations: 3 of 6, 1 failed, 0.5 a minute, 6 min left"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} setwise.py points medium_office --json | head -c 10",
        shell=True, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == '{"measured'
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ("audit", "simulate"),
        ("simulate --out x", "simulate"),
        ("train d --out b", "train"),
        ("demo", "demo"),
        ("prove", "simulate"),
    ],
)
def test_a_verb_whose_libraries_are_missing_names_the_extra_to_install(
    arguments: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main(shlex.split(arguments)) == 2
    assert f"pip install 'setwise[{extra}]'" in capsys.readouterr().err


def test_token_is_printed_once_and_kept_as_a_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from service.access import who_is

    file = tmp_path / "token"
    monkeypatch.setenv("SETWISE_API__TOKEN_FILE", str(file))
    assert main(["token", "--json"]) == 0
    token = json.loads(capsys.readouterr().out)["token"]
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert who_is(file, f"Bearer {token}").role == "admin"


def test_doctor_finds_the_absent_broker_and_the_absent_bundle_and_still_looks_at_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SETWISE_MQTT__HOST", "127.0.0.1")
    monkeypatch.setenv("SETWISE_MQTT__PORT", str(port))
    monkeypatch.setenv("SETWISE_BUILDING__BUNDLE", str(tmp_path))
    assert main(["doctor", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    state = {row["what"]: row["state"] for row in said["looked_at"]}
    assert {what for what, s in state.items() if s == "FAULT"} == {"bundle", "broker"}
    assert said["faults"] == 2 and "messages in flight" not in state  # it only follows from the broker's being away
    assert not (tmp_path / "state").exists(), "doctor must change nothing"


def test_doctor_says_that_a_broker_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.config import load_config
    from service.doctor import examine

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        config = load_config(environ={"SETWISE_MQTT__HOST": "127.0.0.1", "SETWISE_MQTT__PORT": str(port)})
        found = {f.what: f for f in examine(config)}
    assert found["broker"].is_good
    assert found["broker"].fact == f"127.0.0.1:{port} answers"


# ------------------------------------------------------------------------------------------------------------ files at the desk


def test_time_stamps_without_a_zone_are_utc_and_others_are_converted(tmp_path: Path) -> None:
    file = tmp_path / "measured.csv"
    file.write_text("time,a\n2026-01-05T08:00,1\n2026-01-05T10:00+01:00,2\n", encoding="utf-8")
    assert list(setwise.read_frame(file).index) == [pd.Timestamp("2026-01-05T08:00Z"), pd.Timestamp("2026-01-05T09:00Z")]


def test_a_first_column_that_is_no_time_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "measured.csv"
    file.write_text("a,b\nwarm,1\n", encoding="utf-8")
    with pytest.raises(IrregularTimeError, match="first column"):
        setwise.read_frame(file)


@pytest.fixture(scope="module")
def month(two_node: Building, rc: RcPredictor) -> pd.DataFrame:
    """Five weeks of a two-node building whose parameters are not the defaults, measured with a little noise."""
    rng = np.random.default_rng(3)
    index = pd.date_range("2026-01-05T06:00Z", periods=840, freq="h")
    hour, day = index.hour.to_numpy(), np.arange(840) / 24
    frame = two_node.own_schedule().unroll(index, two_node.site.time_zone)
    frame["outdoor_air_temperature"] = 2 + 5 * np.sin(2 * np.pi * day / 9) + 4 * np.sin(2 * np.pi * (hour - 15) / 24)
    for v in two_node.inputs.having(Role.WEATHER):
        if v.name not in frame:
            frame[v.name] = 0.0 if "beam" in v.name else max(v.low, min(v.high, 0.15 * (v.low + v.high)))
    frame["direct_normal_irradiance"] = 500.0 * np.clip(np.sin(2 * np.pi * (hour - 12) / 24), 0, None)
    frame = two_node.with_sun(frame)
    truth = {p.name: float(p.from_unit(rng.uniform(0.3, 0.7))) for p in two_node.parameter_space.parameters}
    x_tc = np.column_stack([np.full(840, truth[n]) if n in truth else frame[n] for n in rc.inputs.names])
    y_to = rc.predict(x_tc[None])[0]
    noise = {"degC": 0.1, "ppm": 10.0, "W": 0.0}
    for o, v in enumerate(rc.outputs):
        frame[v.name] = y_to[:, o] + rng.normal(0, noise.get(v.quantity.unit, 0.0), 840)
    return frame


def test_the_desk_calibrates_a_csv_and_plans_the_hours_after_it(
    month: pd.DataFrame,
    two_node: Building,
    rc: RcPredictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(setwise, "opened", lambda _bundle: (two_node, rc))
    csv, calibration, plan = (tmp_path / n for n in ("measured.csv", "calibration.json", "plan.json"))
    month.to_csv(csv)

    assert main(["calibrate", str(csv), "--out", str(calibration), "--seed", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["is_accepted"] is True
    assert said["electricity_cv_rmse"] < 0.3

    arguments = ["optimise", str(csv), "--calibration", str(calibration), "--out", str(plan), "--seed", "1", "--hours", "48"]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    told = json.loads(plan.read_text())
    assert told["settings"].keys() == set(two_node.settings.names)
    assert pd.Timestamp(told["start"]) == month.index[-1] + pd.Timedelta(hours=1)
    assert said["saving"] >= 0
    assert said["comfort_no_worse"] is True
    assert {row["input"] for row in said["expected"]} >= {"outdoor_air_temperature", "occupancy_share"}


def test_replay_says_what_the_points_file_of_the_service_understands(tmp_path: Path) -> None:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    from proof.broker import start_broker
    from service.points import AgeLimits, load_points

    building = load_building("medium_office")
    points = load_points(building)
    index = pd.date_range("2026-01-05T06:00Z", periods=2, freq="h")
    middle = {v.name: (v.low + v.high) / 2 for v in points.measured}
    measured = pd.DataFrame(middle, index=index)
    measured.loc[index[1], "core_mid_air_temperature"] = np.nan  # a silent sensor
    file = tmp_path / "measured.csv"
    measured.to_csv(file)
    limits = AgeLimits(pd.Timedelta(minutes=5), pd.Timedelta(days=1))
    heard: list[tuple[str, bytes]] = []
    with start_broker() as broker:
        listener = paho.Client(CallbackAPIVersion.VERSION2)
        listener.on_message = lambda _c, _d, m: heard.append((m.topic, m.payload))
        subscribed = []
        listener.on_subscribe = lambda *_: subscribed.append(True)
        listener.connect(broker.host, broker.port)
        listener.subscribe("setwise/#", qos=1)
        while not subscribed:
            listener.loop(0.1)
        listener.loop_start()
        arguments = [
            "replay",
            str(file),
            "--host",
            broker.host,
            "--port",
            str(broker.port),
            "--hours-per-second",
            "1000",
            "--quiet",
        ]
        assert main(arguments) == 0
        n_sent, deadline = len(index) + int(measured.notna().to_numpy().sum()), time.monotonic() + 20
        while len(heard) < n_sent and time.monotonic() < deadline:
            time.sleep(0.01)
        listener.disconnect()
        listener.loop_stop()

    received, readings = index[0], []
    for topic, payload in heard:
        if topic.endswith("/clock"):
            received = pd.Timestamp(payload.decode())
            continue
        good, refused = points.read_message(topic, payload, received, limits)
        assert not refused, refused
        readings += good
    found = pd.DataFrame({"v": r.variable, "t": r.stamp, "x": r.value} for r in readings).pivot(
        index="t", columns="v", values="x"
    )
    pd.testing.assert_frame_equal(
        found[measured.columns], measured, check_names=False, check_freq=False, rtol=1e-4, atol=1e-4, check_index_type=False
    )


# ----------------------------------------------------------------------------- verbs of the workshop: called as they are declared


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, function: str, answer: Any) -> Any:
    """Replace a function by one of the same signature, so that a verb that no longer fits it fails here."""
    real = getattr(pytest.importorskip(module), function)
    fake = create_autospec(real, return_value=answer)
    monkeypatch.setattr(import_module(module), function, fake)
    return fake


class Said:
    is_good = True

    def facts(self) -> dict[str, Any]:
        return {"speedup": 700.0}

    def tables(self, everything: bool = True) -> list[tuple[str, tuple[str, ...], list[tuple[object, ...]]]]:
        return [("outputs", ("output", "r2"), [("fan", 0.97)])]

    def details(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [
        ("audit medium_office --workers 1", "simulation.audit", "audit"),
        ("evaluate bundles/medium_office --runs 2 --seed 5", "proof.fresh", "evaluate"),
        ("prove bundles/medium_office --plants 1 --seed 5", "proof.prove", "prove"),
        ("demo --seed 5 --exit-when-done", "proof.demo", "demo"),
    ],
)
def test_verbs_of_the_workshop_call_their_package_and_say_what_it_returns(
    arguments: str, module: str, function: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = stand_in(monkeypatch, module, function, Said())
    assert main([*shlex.split(arguments), "--json"]) == 0
    fake.assert_called_once()
    assert json.loads(capsys.readouterr().out) == {"speedup": 700.0, "outputs": [{"output": "fan", "r2": 0.97}]}


def test_train_passes_seed_steps_and_folders_and_says_the_accuracy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = SimpleNamespace(
        bundle=SimpleNamespace(folder=tmp_path),
        accuracy={"heating_r2": 0.96},
        outputs={"fan_electricity": {"rmse": 1.0, "r2": 0.9}},
        n_weights=10,
        n_weights_dense=20,
        core_hours=0.1,
        graph_gap=1e-6,
    )
    fake = stand_in(monkeypatch, "models.training", "train", made)
    assert main(["train", "runs/x", "--out", str(tmp_path), "--seed", "9", "--steps", "5000", "--json"]) == 0
    *folders, config = fake.call_args.args
    assert (folders, config.n_steps) == ([Path("runs/x"), tmp_path], 5000)
    assert fake.call_args.kwargs["seed"] == 9
    said = json.loads(capsys.readouterr().out)
    assert (said["heating_r2"], said["weights"], said["outputs"][0]["r2"]) == (0.96, 10, 0.9)


def test_intervals_are_fitted_to_the_dataset_named_and_say_their_coverage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"intervals": {"runs": 9, "cross_fit_coverage": {"fan_electricity": 0.89, "co2": 0.91}}}
    fake = stand_in(monkeypatch, "models.training", "add_intervals", SimpleNamespace(facts=facts))
    assert main(["intervals", "bundles/x", "--dataset", "runs/fresh/dataset", "--json"]) == 0
    assert fake.call_args.args == (Path("bundles/x"), Path("runs/fresh/dataset"))
    said = json.loads(capsys.readouterr().out)
    assert (said["runs"], said["coverage_min"], said["coverage_max"]) == (9, 0.89, 0.91)


def test_fresh_simulations_are_drawn_as_those_that_judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran = stand_in(monkeypatch, "simulation.campaign", "run_campaign", None)
    dataset = type("Dataset", (), {"origin": {"runs": 2, "core_hours": 0.01}, "__len__": lambda _: 6})()
    stand_in(monkeypatch, "simulation.campaign", "export", dataset)
    assert main(["simulate", "--runs", "2", "--windows", "1", "--fresh", "--out", str(tmp_path), "--workers", "1"]) == 0
    assert ran.call_args.args[0].held_out


def test_simulate_goes_through_campaign_and_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran = stand_in(monkeypatch, "simulation.campaign", "run_campaign", None)
    dataset = type("Dataset", (), {"origin": {"runs": 2, "core_hours": 0.01}, "__len__": lambda _: 6})()
    stand_in(monkeypatch, "simulation.campaign", "export", dataset)
    assert (
        main(["simulate", "--runs", "2", "--windows", "3", "--out", str(tmp_path), "--seed", "4", "--workers", "1", "--json"])
        == 0
    )
    campaign = ran.call_args.args[0]
    assert (campaign.building, campaign.n_runs, campaign.n_windows, campaign.seed) == ("medium_office", 2, 3, 4)
    assert json.loads(capsys.readouterr().out)["windows"] == 6


@pytest.fixture(autouse=True)
def unchanged_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep a developer's own SETWISE_SECTION__KEY out of the tests."""
    import os

    for name in [n for n in os.environ if n.startswith("SETWISE_") and "__" in n]:
        monkeypatch.delenv(name)
    yield


# ---------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimise", "m.csv", "--hours", "0"], "--hours: 0 is not 24 .. 336"),
        (["prove", "--plants", "0"], "--plants: 0 is not at least 1"),
        (["prove", "--plants", "two"], "--plants: 'two' is not a whole number"),
        (["evaluate", "--seed", "-1"], "--seed: -1 is not at least 0"),
        (["replay", "m.csv", "--port", "99999"], "--port: 99999 is not 1 .. 65535"),
        (["replay", "m.csv", "--hours-per-second", "0"], "--hours-per-second: 0 is not at least"),
        (["replay", "m.csv", "--hours-per-second", "nan"], "--hours-per-second: nan is not at least"),
        (["simulate", "--out", "x", "--cluster", "here"], "--cluster: 'here' is no address like tcp://host:8786"),
        (["serv"], "invalid choice: 'serv'"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_with_its_limits(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


HEAD = "time,outdoor_air_temperature,direct_normal_irradiance"
FIRST = "2026-01-05T08:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not a CSV file"),
        (b"\x83\x00\xff", "not a CSV file"),
        (b"a\nb\nc,d,e\n", "not a CSV file"),
        (
            f"time,outdor_air_temperature\n{FIRST},1\n".encode(),
            "no column is a variable of 'two_node'. Did you mean 'outdoor_air_t",
        ),
        (f"time,outdoor_air_temperature\n{FIRST},1\n".encode(), "lacks 1 of the 1 columns asked for: direct_normal_irradiance"),
        (
            f"{HEAD}\n{FIRST},unknown,0\n".encode(),
            "1 values that are not numbers in 'outdoor_air_temperature', the first at 2026",
        ),
        (f"{HEAD}\n{FIRST},1,0\n2026-01-05T10:00Z,1,0\n".encode(), "at 2026-01-05 10:00:00+00:00 it does not"),
    ],
)
def test_a_file_that_is_no_measured_frame_is_refused_in_one_sentence(
    text: bytes, said: str, two_node: Building, rc: RcPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(setwise, "opened", lambda _bundle: (two_node, rc))
    file = tmp_path / "measured.csv"
    file.write_bytes(text)
    for verb in ("calibrate", "optimise"):
        assert main([verb, str(file)]) == 2
        err = capsys.readouterr().err.strip()
        assert said in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a calibration"),
        ('{"parameters": {}}', "not a calibration"),
        (None, "no such file or directory."),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(
    text: str | None, said: str, tmp_path: Path, month: pd.DataFrame, two_node: Building, rc: RcPredictor,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(setwise, "opened", lambda _bundle: (two_node, rc))
    month.iloc[:48].to_csv(tmp_path / "measured.csv")
    file = tmp_path / "calibration.json"
    if text is not None:
        file.write_text(text)
    assert main(["optimise", str(tmp_path / "measured.csv"), "--calibration", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"setwise: {file}: {said}")


def test_a_calibration_that_was_refused_is_not_planned_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from calibration.report import Calibration

    monkeypatch.setattr(Calibration, "from_dict", lambda _data: None)
    file = tmp_path / "calibration.json"
    file.write_text('{"is_accepted": false, "refusals": ["facility_electricity: CV(RMSE) 0.41, at most 0.30"]}')
    with pytest.raises(BadDescriptionError, match=r"this calibration was refused: facility_electricity: CV\(RMSE\) 0\.41"):
        setwise.read_calibration(file)


def test_a_missing_file_is_said_without_the_systems_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["replay", str(tmp_path / "nope.csv")]) == 2
    assert capsys.readouterr().err.strip() == f"setwise: {tmp_path / 'nope.csv'}: no such file or directory."
