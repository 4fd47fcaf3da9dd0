"""The hostile user: what is broken, jumped, garbled or damaged has a clear answer, loses nothing, and nothing unsafe leaves.

docs/faults.md lists every bad input and the test that proves it; the last test here keeps that list true.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from recovery import FAULTS, Recovery
from sites import NOW, fill, lived, open_rc, two_node_config

from building.errors import BadBundleError, StoreError
from building.plan import Plan
from service import operations, retention
from service.access import make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.config import Config
from service.jobs import Cadence, Jobs, Kind, Timetable
from service.store import Reading, SqlStore

ROOT = Path(__file__).parents[2]
HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
PLANNED = {
    "heating_setpoint": 18.0,
    "cooling_setpoint": 26.0,
    "system_on": 1.0,
    "outdoor_air_flow": 3.0,
    "supply_air_temperature": 15.0,
}


class SetBackClock(TurnedClock):
    """A machine's clock: it can be set back."""

    def set(self, instant: pd.Timestamp) -> None:
        self._now = instant


@pytest.fixture
def service(tmp_path: Path):
    """A day measured, a calibration and a plan in force; not started."""
    service = Service(two_node_config(tmp_path), SetBackClock(NOW), open_rc)
    fill(service.store, lived(hours=24))
    service.store.add_calibration({"parameters": {}}, NOW, is_accepted=True)
    index = pd.date_range(NOW.floor("h"), periods=168, freq="h")
    service.store.add_plan(Plan(pd.DataFrame(PLANNED, index=index), "optimised", NOW), NOW)
    assert service.decide().origin == "optimised"
    yield service
    service.store.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    token = make_token(service.config.api.token_file)
    headers = {"Authorization": f"Bearer {token}"}
    return TestClient(create_api(service.sources()), raise_server_exceptions=False, headers=headers)


def damage(service: Service, table: str, text: str) -> None:
    with sqlite3.connect(service.config.store.url.get_secret_value().removeprefix("sqlite:///")) as c:
        c.execute(f"update {table} set json = ?", (text,))


def own_settings(service: Service) -> dict[str, float]:
    hour = pd.DatetimeIndex([service.clock.now().floor("h")])
    row = service.building.own_schedule().unroll(hour, service.building.site.time_zone).iloc[0]
    return {name: float(row[name]) for name in service.building.settings.names}


def published(service: Service) -> dict[str, float]:
    return {name: p.value for name, p in service.store.last_publications().items()}


# -- the store holds nonsense


def plan_with(value: object) -> str:
    hours = pd.date_range(NOW.floor("h"), periods=168, freq="h")
    data = Plan(pd.DataFrame(PLANNED, index=hours), "optimised", NOW).to_dict()
    data["settings"]["heating_setpoint"][0] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("table", "text", "said"),
    [
        ("plans", "{", "row 1 of 'plans' is damaged"),
        ("plans", "[]", "row 1 of 'plans' is damaged"),
        ("plans", plan_with(None), "1 values that are not numbers in 'heating_setpoint'"),
        ("plans", plan_with(float("nan")), "1 values that are not numbers in 'heating_setpoint'"),
        ("plans", plan_with("warm"), "row 1 of 'plans' is damaged"),
        ("calibrations", "{", "row 1 of 'calibrations' is damaged"),
        ("calibrations", "[]", "row 1 of 'calibrations' is damaged (not an object)"),
        ("calibrations", '{"parameters": {}, "profile": {"heating_setpoint": 1}}', "what is kept cannot be used"),
        ("calibrations", '{"parameters": {"occupant_density": "many"}}', "what is kept cannot be used"),
    ],
)
def test_damaged_row_leaves_the_own_schedule_with_its_reason(
    service: Service, client: TestClient, table: str, text: str, said: str
) -> None:
    damage(service, table, text)
    decided = service.decide()
    assert decided.origin == "own" and said in str(decided.actions[0])
    service.tick()
    assert published(service) == own_settings(service)
    answer = client.get("/v1/setpoints").json()
    assert answer["origin"] == "own" and said in answer["notes"][0]
    for route in ("plan", "calibration", "status"):
        assert client.get(f"/v1/{route}").status_code in (200, 503)  # never a traceback


def test_plan_beyond_the_bounds_is_not_followed(service: Service) -> None:
    damage(service, "plans", plan_with(3.0))
    assert "plan 1 is broken (heating_setpoint = 3 degC lies outside 14 .. 24 degC" in str(service.decide().actions[0])
    service.tick()
    assert published(service) == own_settings(service)


def test_file_that_is_no_store_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "setwise.db").write_bytes(b"not a database " * 100)
    with pytest.raises(StoreError, match=r"setwise\.db: file is not a database\. Move it away and put back a copy"):
        Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    assert (tmp_path / "setwise.db").read_bytes().startswith(b"not a database")  # and left as it was


# -- the bundle is damaged while the service runs


def shipped(folder: Path) -> Path:
    source = ROOT / "bundles" / "medium_office"
    if not (source / "bundle.json").is_file():
        pytest.skip("no bundle ships")
    return Path(shutil.copytree(source, folder / "bundle"))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("graph.onnx", lambda data: data[:-1000], "sha256 of 'graph.onnx'"),
        ("bundle.json", lambda data: data[:-1000], "bundle.json is not JSON"),
        ("bundle.json", lambda data: data.replace(b'"schema_version": 2', b'"schema_version": 99'), "schema version 99"),
        ("bundle.json", lambda data: data.replace(b'"outputs"', b'"output"'), "lacks or garbles 'outputs'"),
    ],
)
def test_damaged_bundle_is_refused_before_anything_is_computed(
    service: Service, tmp_path: Path, file: str, change: Any, said: str
) -> None:
    bundle = shipped(tmp_path)
    data = (bundle / file).read_bytes()
    assert change(data) != data
    (bundle / file).write_bytes(change(data))
    with pytest.raises(BadBundleError, match=re.escape(said)):
        operations.open_bundle(with_bundle(service, bundle))


@pytest.mark.faults("bundle damaged")
def test_damaged_bundle_refuses_the_job_and_the_plan_in_force_goes_on(
    service: Service, tmp_path: Path, recovery: Recovery
) -> None:
    bundle = shipped(tmp_path)
    (bundle / "graph.onnx").write_bytes(b"")
    jobs = Jobs([Kind("plan", operations.open_bundle, lambda job, result: None, 60)], service.store, service.clock)
    jobs.start("plan", with_bundle(service, bundle))
    assert jobs.wait("plan", 60)
    job = service.store.jobs()[0]
    assert job.outcome == "refused" and "sha256 of 'graph.onnx'" in job.log and "Traceback" not in job.log
    assert service.decide().origin == "optimised"
    with recovery:
        shutil.copyfile(ROOT / "bundles" / "medium_office" / "graph.onnx", bundle / "graph.onnx")
        operations.open_bundle(with_bundle(service, bundle))


def with_bundle(service: Service, bundle: Path) -> Config:
    section = service.config.building.model_copy(update={"bundle": bundle})
    return service.config.model_copy(update={"building": section})


# -- the clock jumps


@pytest.mark.faults("clock jump")
@pytest.mark.parametrize("jump", [-400 * DAY, -2 * HOUR, 3 * DAY, 30_000 * DAY], ids=str)
def test_clock_that_jumps_leaves_the_own_schedule_and_deletes_nothing(
    service: Service, recovery: Recovery, jump: pd.Timedelta
) -> None:
    service.tick()
    before = service.store.counts()
    service.clock.set(NOW + jump)
    service.tick()
    assert service.decide().origin == "own"
    ramped = {a.setting for a in service.decide().actions if a.rule == "rate"}
    wanted, given = own_settings(service), published(service)
    assert {n: given[n] for n in given if n not in ramped} == {n: wanted[n] for n in wanted if n not in ramped}
    assert {k: before[k] for k in ("readings", "plans", "calibrations")} == {
        k: service.store.counts()[k] for k in ("readings", "plans", "calibrations")
    }
    with recovery:
        service.clock.set(NOW + pd.Timedelta(minutes=20))
        service.tick()
        assert service.decide().origin == "optimised"  # and when the clock is right again, the plan is


def test_compaction_waits_for_a_clock_that_went_on_for_a_day_without_a_jump(tmp_path: Path) -> None:
    service = Service(two_node_config(tmp_path, jobs__compaction="0 * * * *"), SetBackClock(NOW), open_rc)
    asked: list[pd.Timestamp] = []
    service.ask = lambda kind: asked.append(service.clock.now()) or 1  # type: ignore[method-assign]
    hours = (*range(0, 30, 6), 24 * 800, *range(24 * 800 + 6, 24 * 800 + 40, 6))
    for hour in hours:
        service.clock.set(NOW + hour * HOUR)
        service.tick()
    assert asked == [NOW + h * HOUR for h in (24, 24 * 800 + 24, 24 * 800 + 30, 24 * 800 + 36)]
    service.store.close()


def test_service_that_is_started_anew_each_day_compacts_all_the_same(tmp_path: Path) -> None:
    asked: list[pd.Timestamp] = []
    clock = SetBackClock(NOW)
    for start in range(0, 96, 20):
        service = Service(two_node_config(tmp_path, jobs__compaction="0 3 * * *"), clock, open_rc)
        service.ask = lambda kind: asked.append(clock.now()) or 1  # type: ignore[method-assign]
        for hour in range(start, start + 18):  # and two hours off
            clock.set(NOW + hour * HOUR)
            service.tick()
        service.store.close()
    assert asked == [NOW + h * HOUR for h in (42, 66, 90)]  # after three in the morning, from the second night on


def test_steady_clock_that_cannot_be_read_from_the_store_begins_anew(store: SqlStore) -> None:
    for damaged in (["x", "y"], 5, ["2026-01-01T00:00"], ["2026-01-01T00:00", "2026-01-02T00:00"]):
        store.put("steady", damaged)
        steady = retention.Steadiness(store)
        assert not steady.look(NOW) and not steady.look(NOW + 23 * HOUR) and steady.look(NOW + 24 * HOUR)


def test_compaction_job_keeps_the_hours_and_forgets_what_is_too_old(service: Service) -> None:
    old = NOW - 900 * DAY
    service.store.add_readings([Reading("zone_co2", old, 500.0, old)])
    service.store.add_readings([Reading("zone_co2", NOW - 50 * DAY + i * HOUR / 60, 500.0 + i, NOW) for i in range(120)])
    hours = service.store.hourly(["zone_co2"], NOW - 51 * DAY, NOW)
    n = service.store.counts()["readings"]
    service.jobs.start("compaction", service.config, NOW)
    assert service.jobs.wait("compaction", 90)
    job = service.store.jobs()[0]
    assert (job.outcome, job.log) == ("done", "120 readings became 15 min, 0 rows hourly, 1 were forgotten.")
    assert service.store.counts()["readings"] == n - 121 and service.store.counts()["summaries"] == 9
    pd.testing.assert_frame_equal(service.store.hourly(["zone_co2"], NOW - 51 * DAY, NOW), hours)


def test_backup_job_makes_a_backup_and_keeps_the_newest_only(service: Service) -> None:
    folder = service.config.store.backups
    for day in range(5):
        retention.backup(service.store, folder, 3, NOW + day * DAY)
    assert [f.name[8:16] for f in retention.backups(folder)] == ["20260204", "20260205", "20260206"]
    service.clock.set(NOW + 9 * DAY)
    service.jobs.start("backup", service.config, service.clock.now())
    assert service.jobs.wait("backup", 90)
    assert service.store.jobs()[0].outcome == "done" and "setwise-20260211T151000Z.backup" in service.store.jobs()[0].log
    assert [f.name[8:16] for f in retention.backups(folder)] == ["20260205", "20260206", "20260211"]


def test_timetable_follows_a_clock_that_is_set_back() -> None:
    wrong = pd.Timestamp("2099-01-01T00:00Z")
    table = Timetable({"plan": Cadence.parse("30 3 * * *"), "calibration": Cadence.parse("never")}, "UTC", wrong)
    assert table.take_due(NOW) == []
    assert table.take_due(NOW + DAY) == ["plan"]


@pytest.mark.faults("daylight saving")
@pytest.mark.parametrize(("day", "hours", "cadence"), [("2026-03-08", 23, "30 2 * * *"), ("2026-11-01", 25, "30 1 * * *")])
def test_day_of_the_clock_change_has_its_own_schedule_by_local_time_and_each_job_once(
    tmp_path: Path, recovery: Recovery, day: str, hours: int, cadence: str
) -> None:
    """The hour that is there twice or not at all: every step is published, within limits, and follows the clock on the wall."""
    start = pd.Timestamp(day, tz="America/Chicago").tz_convert("UTC")
    end = (pd.Timestamp(day, tz="America/Chicago") + pd.DateOffset(days=1)).tz_convert("UTC")
    assert (end - start) / HOUR == hours
    service = Service(two_node_config(tmp_path, jobs__plan=cadence), SetBackClock(start - HOUR / 4), open_rc)
    asked: list[pd.Timestamp] = []
    service.ask = lambda kind: asked.append(service.clock.now()) or 1  # type: ignore[method-assign]
    zone, wanted = service.building.site.time_zone, service.building.own_schedule()
    quarters = pd.date_range(start, end, freq="15min", inclusive="left")
    service.store.add_readings([Reading("zone_co2", now, 500.0, now) for now in quarters])
    service.tick()
    for now in quarters[:18]:  # until half past four
        service.clock.set(now)
        with recovery:
            service.tick()
        given = published(service)
        hour = wanted.unroll(pd.DatetimeIndex([now.floor("h")]), zone).iloc[0]
        ramped = {a.setting for a in service.decide().actions if a.rule == "rate"}
        for v in service.building.settings:
            one = service.store.last_publications()[v.name]
            assert v.low <= given[v.name] <= v.high and one.made == now and now < one.valid_until <= now + HOUR
            assert given[v.name] == pytest.approx(hour[v.name]) or v.name in ramped
    assert len(asked) == 1  # 02:30 is not there in March, 01:30 twice in November
    assert service.store.hourly(["zone_co2"], start, end)["zone_co2"].notna().sum() == hours
    service.store.close()


# -- the API is asked nonsense


def routes(client: TestClient) -> list[tuple[str, str]]:
    paths = client.get("/openapi.json").json()["paths"]
    return [(method, path.replace("{job}", "1")) for path, methods in paths.items() for method in methods]


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "bearer null", "Basic c2V0d2lzZQ==", "Token x"]
)
def test_wrong_token_opens_no_route_of_the_openapi_and_starts_nothing(service: Service, client: TestClient, header: Any) -> None:
    stranger = TestClient(client.app, raise_server_exceptions=False)
    asked = [(m, p) for m, p in routes(client) if p not in ("/healthz", "/readyz")]
    assert len(asked) >= 14 and ("post", "/v1/plans") in asked
    for method, path in asked:
        answer = stranger.request(method, path, headers={} if header is None else {"Authorization": header}, json={})
        assert answer.status_code == 401, (method, path)
        assert answer.json()["error"] == "NotAuthorisedError" and "Authorization: Bearer" in answer.json()["what_to_do"]
    assert service.store.jobs() == [] and service.store.counts()["forecasts"] == 0


@pytest.mark.parametrize("ruin", ["garbage", "empty", "folder"])
def test_token_file_that_cannot_be_read_lets_nobody_in(service: Service, client: TestClient, ruin: str) -> None:
    file = service.config.api.token_file
    file.unlink()
    file.mkdir() if ruin == "folder" else file.write_bytes(b"\xff\xfe" if ruin == "garbage" else b"")
    for token in ("x", ""):
        answer = client.get("/v1/status", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401 and "token" in answer.json()["message"].lower()


ISSUED, START = '"issued": "2026-02-02T15:00Z"', '"start": "2026-02-02T15:00Z"'


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "Field required"),
        ("{", "JSON decode error"),
        ("[]", "valid dictionary"),
        (f'{{{ISSUED}, {START}, "series": {{}}}}', "every series needs the same number of hours, at least one; there are none"),
        (
            f'{{{ISSUED}, {START}, "series": {{"outdoor_air_temperature": [1, 2], "occupancy_share": [1]}}}}',
            "outdoor_air_temperature has 2, occupancy_share has 1",
        ),
        (f'{{{ISSUED}, {START}, "series": {{"outdoor_air_temperature": [NaN]}}}}', "= nan, wanted -35 .. 50 degC"),
        (f'{{{ISSUED}, {START}, "series": {{"outdoor_air_temperature": [1, null]}}}}', "valid number"),
        (f'{{{ISSUED}, {START}, "series": {{"outdoor_air_temperatur": [1]}}}}', "Did you mean 'outdoor_air_temperature'"),
        (f'{{{START}, "issued": "2999-01-01T00:00Z", "series": {{"outdoor_air_temperature": [1]}}}}', "from_future"),
    ],
)
def test_forecast_that_is_none_is_refused_whole_with_its_fault(
    service: Service, client: TestClient, body: str, said: str
) -> None:
    answer = client.post("/v1/forecasts", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["message"] and answer.json()["what_to_do"]
    assert service.store.counts()["forecasts"] == 0


def test_variable_asked_twice_is_answered_once(client: TestClient) -> None:
    answer = client.get("/v1/series?variable=zone_co2&variable=zone_co2&start=2026-02-02T00:00")
    assert answer.status_code == 200 and list(answer.json()["series"]) == ["zone_co2"]


# -- sensors fall silent


def test_gap_in_the_readings_hands_over_to_the_own_schedule_and_back(service: Service) -> None:
    service.clock.set(NOW + 7 * HOUR)
    decided = service.decide()
    assert decided.origin == "own" and "no reading for 8 h" in str(decided.actions[0])
    stamp = service.clock.now() - HOUR
    service.store.add_readings([Reading("zone_air_temperature", stamp, 21.0, stamp)])
    assert service.decide().origin == "optimised"
    values = np.array(list(service.decide().settings.values()))
    assert np.isfinite(values).all()


# -- the list of all this


def test_every_test_that_the_list_of_faults_names_exists() -> None:
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text))
    assert len(named) >= 30
    for file, test in sorted(named):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_table_of_recoveries_is_the_one_that_the_tests_hold_the_service_to() -> None:
    """And every fault of it has a test that times it; every test that times one, its row."""
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [f"| {f.what} | {f.lost} | {f.recovery} | {f.within_s:g} s |" for f in FAULTS.values()]
    assert [row for row in rows if row not in page] == []
    timed = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        timed |= set(re.findall(r'mark\.faults\(\s*"([^"]+)"\s*\)', file.read_text(encoding="utf-8")))
    assert timed == set(FAULTS) and len(FAULTS) >= 15
