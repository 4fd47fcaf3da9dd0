"""What the service stands on goes away: broker, disk, database server; what it listens to floods it, dawdles or stops reading."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pandas as pd
import pytest
from children import write_within_limits
from plant import FORKS, STREAMS, Mosquitto, Sensors, Served, Watcher, fill_up, kept, small_disk, store_in, until, with_a_plan
from postgres import NoPostgresError, own_server
from recovery import Recovery
from sites import NOW, fill, lived, open_rc, two_node_config

from building.errors import StoreError
from building.plan import Plan
from building.variables import Variable
from proof.broker import find_mosquitto
from service.app import Service
from service.clock import TurnedClock
from service.store import Reading, SqlStore
from service.store.backup import restore

MINUTE, HOUR = pd.Timedelta(minutes=1), pd.Timedelta(hours=1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    yield broker
    broker.end(signal.SIGKILL)


@contextmanager
def own_disk(folder: Path, mb: int) -> Iterator[Path]:
    try:
        disk = small_disk(folder, mb)
        path = disk.__enter__()
    except OSError as e:
        pytest.skip(str(e))
    try:
        yield path
    finally:
        disk.__exit__(None, None, None)


def told(broker: Mosquitto, **more: str) -> dict[str, str]:
    return {"mqtt__port": str(broker.port), "ingest__commit_s": "0.1", "mqtt__reconnect_min_s": "0.1",
            "mqtt__reconnect_max_s": "1", "publish__heartbeat_s": "1", **more}  # fmt: skip


def said(page: str, route: str = "v1/status") -> Any:
    with urllib.request.urlopen(page + route, timeout=30) as answer:
        return json.loads(answer.read())


def problem(page: str) -> str:
    """What the service says is wrong with its store; a store that cannot even be read is a 503 with the same sentence."""
    try:
        return " ".join(said(page)["problems"])
    except urllib.error.HTTPError as e:
        assert e.code == 503
        return str(json.loads(e.read())["message"])


def a_week() -> Plan:
    """Return a plan of the week after NOW: 18 degC in its first hour, 19 after."""
    index = pd.date_range(NOW.floor("h"), periods=168, freq="h")
    frame = {"heating_setpoint": [18.0] + [19.0] * 167, "cooling_setpoint": 26.0, "system_on": 1.0}
    return Plan(pd.DataFrame({**frame, "outdoor_air_flow": 3.0, "supply_air_temperature": 15.0}, index=index), "optimised", NOW)


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
    service.store.add_plan(a_week(), NOW)
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
    with own_disk(tmp_path / "disk", 8) as disk:
        url = f"sqlite:///{disk / 'setwise.db'}"
        store = SqlStore(url)
        with_a_plan(store)
        store.close()
        SqlStore(f"sqlite:///{disk / 'closed.db'}").close()
        more = told(broker, store__url=url, ingest__commit_s="0.05")
        with Watcher(broker.port) as watcher, Served(tmp_path, **more) as service:
            until(lambda: len(watcher.heard) >= 5)
            with Sensors(broker.port) as sensors:
                until(lambda: len(kept(url)) > 100)
                ballast = fill_up(disk)
                page = service.url()
                until(lambda: "disk is full" in problem(page))
                n_beats, n_kept = watcher.n_beats, len(kept(url))
                until(lambda: watcher.n_beats >= n_beats + 3)  # setpoints are kept up
                assert said(page, "v1/setpoints")["origin"] == "optimised"
                assert len(kept(url)) == n_kept
                sure = sensors.acknowledged
                with recovery:
                    ballast.unlink()
                    until(lambda: sure <= kept(url))
                fill_up(disk)  # and once more, now killed while it is full
                until(lambda: problem(page))
                service.kill()
                with pytest.raises(StoreError, match="The disk is full or fails: free some space"):
                    SqlStore(f"sqlite:///{disk / 'closed.db'}")
                service.start()  # where its WAL still has room it serves, else it ends with that sentence
                service.process.join(3)
                (disk / "ballast").unlink()
                if not service.process.is_alive():
                    service.start()
                sure = sensors.stop_talking()
                until(lambda: sure <= kept(url))
            assert watcher.faults == []


@pytest.mark.faults("file size limit")
def test_limit_on_the_size_of_files_is_a_clear_error_and_the_store_goes_on_when_it_is_lifted(
    tmp_path: Path, recovery: Recovery
) -> None:
    """What a quota or `ulimit -f` does; needs no root, so it runs where no file system can be mounted."""
    receiver, sender = FORKS.Pipe(duplex=False)
    child = FORKS.Process(target=write_within_limits, args=(f"sqlite:///{tmp_path / 'setwise.db'}", sender))
    child.start()
    sender.close()
    sentence, n_kept, n_found, took_s = receiver.recv()
    child.join()
    recovery.took(took_s)
    assert "nothing of this transaction was kept" in sentence and n_found == n_kept > 0
    store = store_in(tmp_path)
    assert store.counts()["readings"] == n_kept + 50
    store.close()


@pytest.mark.faults("read-only disk")
def test_store_on_a_disk_that_is_read_only_is_refused_in_words_and_opens_when_it_is_not(
    tmp_path: Path, recovery: Recovery
) -> None:
    with own_disk(tmp_path / "disk", 8) as disk:
        url = f"sqlite:///{disk / 'setwise.db'}"
        store = SqlStore(url)
        store.add_rows([("a", 0, 1.0, "good", 0)])
        store.close()
        remount(disk, "ro")
        with pytest.raises(StoreError, match=r"setwise\.db.*(readonly|read-only|unable to open)"):
            SqlStore(url).add_rows([("a", 1, 1.0, "good", 0)])
        remount(disk, "rw")
        with recovery:
            store = SqlStore(url)
            store.add_rows([("a", 1, 1.0, "good", 0)])
        assert store.counts()["readings"] == 2
        store.close()


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True, capture_output=True)


@pytest.mark.faults("damaged pages")
def test_pages_damaged_under_the_service_leave_the_own_schedule_and_a_backup_brings_it_back(
    tmp_path: Path, recovery: Recovery
) -> None:
    config = two_node_config(tmp_path)
    url, file, clock = config.store.url.get_secret_value(), tmp_path / "setwise.db", TurnedClock(NOW)
    service = Service(config, clock, open_rc)
    fill(service.store, lived(hours=24))
    service.store.add_calibration({"parameters": {}}, NOW, is_accepted=True)
    service.store.add_plan(a_week(), NOW)
    assert service.decide().origin == "optimised"
    service.store.backup(tmp_path / "copy.backup")
    service.store.add_readings([Reading("zone_co2", NOW, 500.0, NOW)])
    with sqlite3.connect(file) as c:
        c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = c.execute("PRAGMA page_size").fetchone()[0]
        roots = [r[0] for r in c.execute("SELECT rootpage FROM sqlite_master WHERE name IN ('plans', 'readings')")]
    c.close()
    service.store.close()  # as a new start, or a page cache that was dropped
    with file.open("rb+") as out:
        for root in roots:
            out.seek((root - 1) * size)
            out.write(os.urandom(size))
    service.tick()
    assert service.decide().origin == "own" and "malformed" in service.decide().actions[0].why
    assert {n: limits.low <= service.decide().settings[n] <= limits.high for n, limits in limits_of(service)} == dict.fromkeys(
        service.decide().settings, True
    )
    service.store.close()
    with recovery:
        restore(url, tmp_path / "copy.backup", is_forced=True)
        again = Service(config, clock, open_rc)
        assert again.decide().origin == "optimised"
    assert "zone_co2" not in again.store.last(["zone_co2"]) or again.store.last(["zone_co2"])["zone_co2"].stamp < NOW
    assert (tmp_path / "setwise.db.before-restore").exists()  # the damaged one, for whoever wants to look
    again.store.close()


def limits_of(service: Service) -> list[tuple[str, Variable]]:
    return [(v.name, v) for v in service.building.settings]


# -- the database server


@pytest.mark.faults("PostgreSQL killed")
def test_postgresql_killed_and_restarted_under_the_service_loses_nothing_acknowledged(
    tmp_path: Path, broker: Mosquitto, recovery: Recovery
) -> None:
    try:
        with own_server() as server:
            store = SqlStore(server.url)
            with_a_plan(store)
            store.close()
            more = told(broker, store__url=server.url)
            with Watcher(broker.port) as watcher, Served(tmp_path, **more) as service:
                until(lambda: len(watcher.heard) >= 5)
                page = service.url()
                with Sensors(broker.port, per_s=100) as sensors:
                    until(lambda: len(kept(server.url)) > 50)
                    server.stop("immediate")  # as kill -9 of the server
                    until(lambda: problem(page))
                    n_beats = watcher.n_beats
                    until(lambda: watcher.n_beats >= n_beats + 2)  # setpoints are kept up
                    with recovery:
                        server.start()
                        sure = sensors.acknowledged
                        until(lambda: sure <= kept(server.url))
                    sure = sensors.stop_talking()
                    until(lambda: sure <= kept(server.url))
                assert watcher.faults == []
    except NoPostgresError as e:
        pytest.skip(str(e))


# -- floods and slow clients


NONSENSE = (b"", b"\xff\xfe\x00", b"warm", b"{", b"[" * 5000, b'{"value": NaN}', b'{"value": 1e999, "time": "2026-02-02T15:00Z"}',
            b'{"value": 21}', b'{"value": 21, "time": "yesterday"}', b'{"value": "21,5", "time": "2026-02-02T15:00Z"}',
            b'{"value": 9e9, "time": "2026-02-02T15:00Z"}', b"x" * 100_000)  # fmt: skip


@pytest.mark.faults("malformed flood")
def test_flood_of_malformed_messages_is_counted_and_the_good_ones_between_are_kept(
    tmp_path: Path, broker: Mosquitto, recovery: Recovery
) -> None:
    url, n = f"sqlite:///{tmp_path / 'setwise.db'}", 3000
    with Watcher(broker.port) as watcher, Served(tmp_path, **told(broker)) as service:
        until(lambda: len(watcher.heard) >= 5)
        page = service.url()
        with Sensors(broker.port, per_s=100) as sensors:
            vandal = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="vandal")
            vandal.max_inflight_messages_set(1000)
            vandal.connect("127.0.0.1", broker.port)
            vandal.loop_start()
            for i in range(n):
                vandal.publish(f"site/{STREAMS[i % 4]}", NONSENSE[i // 4 % len(NONSENSE)], qos=1)
            until(lambda: sum(r["n"] for r in said(page)["refusals"]) >= n)
            sensors.say()
            sure = sensors.stop_talking()
            with recovery:
                until(lambda: sure <= kept(url))
            vandal.disconnect()
            vandal.loop_stop()
        assert len(kept(url)) == len(sure)  # and nothing of the flood is believed
        assert said(page)["is_broker_connected"] and watcher.faults == []
        said(page, "v1/points")


@pytest.mark.faults("slow subscriber")
def test_subscriber_that_never_reads_holds_up_neither_readings_nor_setpoints(
    tmp_path: Path, broker: Mosquitto, recovery: Recovery
) -> None:
    url = f"sqlite:///{tmp_path / 'setwise.db'}"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", broker.port))
        deaf.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf" + b"\x82\x06\x00\x01\x00\x01#\x00")
        with Watcher(broker.port) as watcher, Served(tmp_path, **told(broker)):
            until(lambda: len(watcher.heard) >= 5)
            with Sensors(broker.port, per_s=500) as sensors:
                for _ in range(3):
                    time.sleep(0.5)
                    with recovery:
                        sure = sensors.acknowledged
                        until(lambda sure=sure: sure <= kept(url))
                n_beats = watcher.n_beats
                until(lambda: watcher.n_beats > n_beats)
            assert len(sure) > 200 and watcher.faults == []
