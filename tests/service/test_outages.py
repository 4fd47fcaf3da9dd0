"""What the service stands on goes away: broker, disk, database server; what it listens to floods it, dawdles or stops reading."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from plant import Mosquitto, Sensors, Served, Watcher, fill_up, kept, small_disk, until, with_a_plan
from recovery import Recovery
from sites import NOW, fill, lived, open_rc, two_node_config

from building.plan import Plan
from proof.broker import find_mosquitto
from service.app import Service
from service.clock import TurnedClock
from service.store import SqlStore

MINUTE, HOUR = pd.Timedelta(minutes=1), pd.Timedelta(hours=1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.end(signal.SIGKILL)


def told(broker: Mosquitto, **more: str) -> dict[str, str]:
    return {"mqtt__port": str(broker.port), "ingest__commit_s": "0.1", "mqtt__reconnect_min_s": "0.1",
            "mqtt__reconnect_max_s": "1", "publish__heartbeat_s": "1", **more}  # fmt: skip


def said(page: str, route: str = "v1/status") -> dict:
    with urllib.request.urlopen(page + route, timeout=30) as answer:
        return json.loads(answer.read())


# -- the broker


@pytest.mark.faults("broker killed")
def test_broker_killed_and_restarted_is_found_again_and_nothing_that_reached_us_is_lost(
    tmp_path: Path, broker: Mosquitto, recovery: Recovery
) -> None:
    """What it had taken and not yet handed on is the broker's own to keep; this one loses it, sessions and all."""
    url = f"sqlite:///{tmp_path / 'setwise.db'}"
    broker.forget()
    with Watcher(broker.port) as watcher, Served(tmp_path, **told(broker)):
        until(lambda: len(watcher.heard) >= 5)
        with Sensors(broker.port):
            for _ in range(3):
                until(lambda: len(kept(url)) > 50)
                before = kept(url)
                broker.end(signal.SIGKILL)
                broker.forget()
                with recovery:
                    broker.start()
                    began_ms = time.time() * 1000
                    until(lambda began_ms=began_ms: any(stamp > began_ms for _, stamp, _ in kept(url)))
                assert before <= kept(url)
        assert watcher.faults == []


@pytest.mark.faults("broker restarted")
def test_broker_restarted_in_order_loses_nothing_it_acknowledged(tmp_path: Path, broker: Mosquitto, recovery: Recovery) -> None:
    url = f"sqlite:///{tmp_path / 'setwise.db'}"
    with Watcher(broker.port) as watcher, Served(tmp_path, **told(broker)):
        until(lambda: len(watcher.heard) >= 5)
        with Sensors(broker.port) as sensors:
            for _ in range(3):
                time.sleep(0.3)
                broker.end(signal.SIGTERM)
                time.sleep(0.3)
                with recovery:
                    broker.start()
                    began_ms = time.time() * 1000
                    until(lambda began_ms=began_ms: any(stamp > began_ms for _, stamp, _ in kept(url)))
            sure = sensors.stop_talking()
            until(lambda: sure <= kept(url))
        assert len(sure) > 100 and watcher.faults == []


@pytest.mark.faults("broker gone for an hour")
def test_broker_gone_for_an_hour_brings_no_late_setpoint_and_the_readings_of_that_hour(
    tmp_path: Path, broker: Mosquitto, recovery: Recovery
) -> None:
    """The clock is turned by hand: sixty minutes pass in a moment, the line is real."""
    clock = TurnedClock(NOW)
    service = Service(two_node_config(tmp_path, **told(broker)), clock, open_rc)
    fill(service.store, lived(hours=24))
    service.store.add_calibration({"parameters": {}}, NOW, is_accepted=True)
    index = pd.date_range(NOW.floor("h"), periods=168, freq="h")
    warmer = {"heating_setpoint": [18.0] * 1 + [19.0] * 167, "cooling_setpoint": 26.0, "system_on": 1.0}
    plan = pd.DataFrame({**warmer, "outdoor_air_flow": 3.0, "supply_air_temperature": 15.0}, index=index)
    service.store.add_plan(Plan(plan, "optimised", NOW), NOW)
    service.ingest.start()
    service.link.start()
    try:
        with Watcher(broker.port, clock.now) as watcher:
            assert service.link.wait_connected(30)
            service.tick()
            until(lambda: len(watcher.heard) == 5)
            time.sleep(0.5)  # else the broker hands out again what the plant has not acknowledged to it
            broker.end(signal.SIGTERM)
            until(lambda: not service.link.is_connected)
            for minute in range(1, 61):
                clock.turn(NOW + minute * MINUTE)
                service.tick()
                assert service.decide().origin == "optimised"  # an hour without readings is bridged
            with recovery:
                broker.start()
                assert service.link.wait_connected(30)
                until(lambda: service.tick() or len(watcher.heard) >= 10)
            with Sensors(broker.port, per_s=0.001) as sensors:
                stamps = [NOW + m * MINUTE for m in range(1, 60)]
                for m, stamp in enumerate(stamps):  # as sensors do that kept what they measured
                    said = json.dumps({"value": 20 + m / 100, "time": stamp.isoformat()})
                    sensors.client.publish("site/zone_air_temperature", said, qos=1)
                until(lambda: len(service.store.series(["zone_air_temperature"], stamps[0], clock.now())) == len(stamps))
            told_now = watcher.heard[5:]
            assert {name for name, _, _ in told_now} == set(watcher.settings) and len(told_now) == 5, told_now
            assert {n: v for n, v, _ in told_now}["heating_setpoint"] == 19.0  # of this hour, not of an hour ago
            assert watcher.faults == []
            last = clock.now().floor(f"{service.config.publish.step_min}min")
            missed = service.store.publications(NOW + MINUTE, last)
            assert len(missed) >= 10 and {p.state for p in missed} == {"replaced"}
    finally:
        service.stop()


# -- the disk


@pytest.mark.faults("disk full")
@pytest.mark.timeout(300)
def test_disk_that_is_really_full_stops_readings_not_setpoints_and_nothing_is_lost(
    tmp_path: Path, broker: Mosquitto, recovery: Recovery
) -> None:
    try:
        with small_disk(tmp_path / "disk", 8) as disk:
            url = f"sqlite:///{disk / 'setwise.db'}"
            store = SqlStore(url)
            with_a_plan(store)
            store.close()
            more = told(broker, store__url=url, ingest__commit_s="0.05")
            with Watcher(broker.port) as watcher, Served(tmp_path, **more) as service:
                until(lambda: len(watcher.heard) >= 5)
                with Sensors(broker.port) as sensors:
                    until(lambda: len(kept(url)) > 100)
                    ballast = fill_up(disk)
                    page = service.url()
                    until(lambda: "disk is full" in said(page)["problems"][0] if said(page)["problems"] else False)
                    n_beats, n_kept = watcher.n_beats, len(kept(url))
                    until(lambda: watcher.n_beats >= n_beats + 3)  # setpoints are kept up
                    assert said(page, "v1/setpoints")["origin"] == "optimised"
                    assert len(kept(url)) == n_kept
                    sure = sensors.acknowledged
                    with recovery:
                        ballast.unlink()
                        until(lambda: sure <= kept(url))
                    fill_up(disk)  # and once more, now killed while it is full
                    until(lambda: said(page)["problems"])
                    service.kill()
                    (disk / "ballast").unlink()
                    service.start()
                    sure = sensors.stop_talking()
                    until(lambda: sure <= kept(url))
                assert watcher.faults == []
    except OSError as e:
        pytest.skip(str(e))
