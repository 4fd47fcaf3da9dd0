"""Parts, metrics, logs, doctor's clock and store, and the commissioning report: each says what is wrong and what to do."""

from __future__ import annotations

import json
import logging
import socket
import struct
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sites import NOW, fill, lived, open_rc, two_node_config

from building.errors import BadDescriptionError, StoreError
from service import doctor
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.commission import commission
from service.health import Part, Watch
from service.logs import JsonLines
from service.store import Reading

HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def service(tmp_path: Path):
    service = Service(two_node_config(tmp_path, api__is_open="true", jobs__plan="30 3 * * *"), TurnedClock(NOW), open_rc)
    fill(service.store, lived(hours=24))
    yield service
    service.store.close()


def parts(service: Service) -> dict[str, Part]:
    return {p.name: p for p in service.parts()}


def test_each_part_says_its_state_since_when_and_what_comes_next(service: Service) -> None:
    service.tick()
    found = parts(service)
    assert {n: p.state for n, p in found.items()} == {
        "store": "ok", "disk": "ok", "broker": "fault", "readings": "ok", "calibration": "waiting", "plan": "waiting",
        "jobs": "ok", "backup": "waiting",
    }  # fmt: skip
    assert "the next plan is due 2026-02-03 09:30Z" in found["plan"].next
    service.clock.turn(NOW + 7 * HOUR)
    later = parts(service)
    assert later["readings"].state == "fault" and later["readings"].since == NOW + 7 * HOUR
    assert later["plan"].since == NOW  # as it was
    stamp = NOW + 7 * HOUR
    service.store.add_readings([Reading("zone_co2", stamp, 500.0, stamp)])
    silent = parts(service)["readings"]
    assert silent.state == "degraded" and silent.next.startswith("Silent: outdoor_air_temperature") and "16 more" in silent.next


def test_failed_job_is_shown_with_its_last_line_until_one_succeeds(service: Service) -> None:
    store = service.store
    store.end_job(store.start_job("plan", NOW), "failed", NOW, "Traceback\nValueError: no number")
    assert parts(service)["jobs"].fact == "plan 1 failed: ValueError: no number"
    store.end_job(store.start_job("plan", NOW), "done", NOW)
    assert parts(service)["jobs"].state == "ok"


def test_store_that_fails_is_a_fault_of_its_parts_and_the_others_are_still_said(service: Service, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StoreError(url="sqlite", reason="database or disk is full")

    monkeypatch.setattr(service.store, "get", broken)
    found = parts(service)
    assert found["store"].state == "fault" and "disk is full" in found["store"].fact and found["disk"].state == "ok"


def test_log_speaks_when_a_part_changes_and_only_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch()
    for minute, state in enumerate(["ok", "ok", "fault", "fault", "fault", "ok", "ok"]):
        watch.look([Part("broker", state, f"fact {minute}.", "wait.")], NOW + minute * HOUR / 60)
    assert [(r.levelname, r.message) for r in caplog.records] == [
        ("WARNING", "broker: fault, was ok. fact 2. wait."),
        ("INFO", "broker: ok, was fault. fact 5. wait."),
    ]


def test_ready_and_alive_are_two_questions(service: Service, monkeypatch) -> None:
    client = TestClient(create_api(service.sources()), raise_server_exceptions=False)
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 200)
    service._beat_s = time.monotonic() - 120
    late = client.get("/readyz")
    assert late.status_code == 503 and "stood still for 120 s" in late.json()["message"]
    assert client.get("/healthz").status_code == 200
    service._beat_s = time.monotonic() - 1200
    assert client.get("/healthz").status_code == 503
    service._beat_s = time.monotonic()

    def broken(*_: object) -> None:
        raise StoreError(url="sqlite", reason="database is locked")

    monkeypatch.setattr(service.store, "get", broken)
    assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 503)


def test_metrics_parse_and_carry_their_units(service: Service) -> None:
    service.tick()
    store = service.store
    job = store.start_job("plan", NOW)
    store.note_job(job, 312.5, "")
    store.end_job(job, "done", NOW + HOUR)
    text = TestClient(create_api(service.sources())).get("/metrics").text
    found = {m.name: {tuple(s.labels.values()): s.value for s in m.samples} for m in text_string_to_metric_families(text)}
    assert found["setwise_reading_celsius"][("zone_air_temperature",)] == pytest.approx(20.7, abs=5)
    assert found["setwise_setpoint_celsius"][("heating_setpoint",)] == 21.0
    assert found["setwise_job_duration_seconds"][("plan", "done")] == 3600.0
    assert found["setwise_job_peak_memory_bytes"][("plan",)] == 312.5e6
    assert found["setwise_part_ok"][("broker",)] == 0.0
    assert found["process_resident_memory_bytes"][()] > 50e6
    assert all(n.startswith(("setwise_", "process_")) for n in found)


def test_json_log_is_one_object_a_line_with_the_traceback_inside() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        import sys

        record = logging.LogRecord("service.app", logging.ERROR, "", 0, "broke: %s", ("it\nall",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("error", "service.app", "broke: it\nall")
    assert "ValueError" in said["traceback"] and said["time"].endswith("+00:00")


# -- doctor


def ntp_server(ahead_s: float, stratum: int = 2) -> int:
    """Answer one SNTP question with a clock that is ahead; return the port."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", 0))

    def answer() -> None:
        _asked, who = line.recvfrom(512)
        now = time.time() + ahead_s + 2_208_988_800
        stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
        line.sendto(bytes([0x24, stratum]) + 30 * b"\0" + stamp + stamp, who)
        line.close()

    threading.Thread(target=answer, daemon=True).start()
    return int(line.getsockname()[1])


@pytest.mark.parametrize("ahead_s", [0.0, 90.0, -3600.0])
def test_offset_of_the_clock_is_measured_against_an_ntp_server(ahead_s: float) -> None:
    assert doctor.ntp_offset_s("127.0.0.1", ntp_server(ahead_s)) == pytest.approx(ahead_s, abs=1.0)


def test_ntp_server_that_is_none_or_lost_is_refused(monkeypatch) -> None:
    with pytest.raises(BadDescriptionError, match="does not know the time itself"):
        doctor.ntp_offset_s("127.0.0.1", ntp_server(0.0, stratum=0))
    monkeypatch.setattr(doctor, "BROKER_TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        with pytest.raises(BadDescriptionError, match="does not answer as an NTP server"):
            doctor.ntp_offset_s("127.0.0.1", mute.getsockname()[1])


def found_by_doctor(config, what: str):
    return next(f for f in doctor.examine(config) if f.what == what)


def test_doctor_names_schema_damage_and_a_folder_for_backups(service: Service, tmp_path: Path, monkeypatch) -> None:
    looks = ("_in_flight", "_broker", "_bundle")
    for name in looks:
        monkeypatch.setattr(doctor, name, lambda _config: "not looked at")
    config = service.config
    assert found_by_doctor(config, "store").fact.endswith("schema 0003")
    assert "none in" in found_by_doctor(config, "backups").fact or "never" in found_by_doctor(config, "backups").fact
    service.store.close()
    file = Path(config.store.url.get_secret_value().removeprefix("sqlite:///"))
    file.write_bytes(b"not a database " * 500)
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    bad = found_by_doctor(config, "store")
    assert not bad.is_good and "not a database" in bad.fact and "setwise restore FILE" in bad.fact


# -- commissioning


def test_commissioning_lists_every_point_with_its_value_age_flag_and_verdict(service: Service) -> None:
    store = service.store
    stamp = NOW + HOUR / 2
    store.add_readings(
        [
            Reading("zone_co2", stamp, 9000.0, stamp, "out_of_range"),
            Reading("zone_air_temperature", stamp, 21.5, stamp),
        ]
    )
    sent = store.add_publication("heating_setpoint", "site/heating_setpoint/set", 21.0, stamp, NOW, None)
    store.settle_publication(sent, "unconfirmed", stamp)
    report = {
        (r.point, r.topic.endswith("/set")): r for r in commission(service.config, service.building, service.points, store, stamp)
    }
    assert len(report) == len(service.points.measured) + len(service.points.commands)
    co2, air = report["zone_co2", False], report["zone_air_temperature", False]
    assert (co2.value, co2.flag, co2.verdict, co2.finding) == (9000.0, "out_of_range", "fail", "out of range")
    assert (air.value, air.age_s, air.verdict, air.finding) == (21.5, 0.0, "pass", "")
    heating = report["heating_setpoint", True]
    assert (heating.verdict, heating.finding) == ("fail", "the BMS did not echo it")
    assert report["system_on", True].finding.startswith("never sent")
    later = {r.point: r for r in commission(service.config, service.building, service.points, store, NOW + 9 * HOUR)}
    assert (later["outdoor_air_temperature"].verdict, later["outdoor_air_temperature"].finding) == ("fail", "silent for 10 h")
    for minutes in range(30, 36):
        at = NOW + 40 * HOUR + pd.Timedelta(minutes=minutes)
        store.add_readings([Reading("zone_co2", at, 777.0, at), Reading("system_on", at, 1.0, at)])
    same = {
        r.point: r for r in commission(service.config, service.building, service.points, store, at) if r.value in (777.0, 1.0)
    }
    assert (same["zone_co2"].verdict, same["zone_co2"].finding) == ("look", "one value in 6 readings of a day")
    assert same["system_on"].verdict == "pass"  # a switch may stay where it is
