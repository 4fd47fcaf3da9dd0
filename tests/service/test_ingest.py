from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from building.description import Building
from building.errors import BadReadingError, StoreError
from service.clock import TurnedClock
from service.config import IngestSection
from service.ingest import Ingest
from service.mqtt import Message
from service.points import Points, load_points
from service.sparkplug import Payload
from service.store import Reading, SqlStore

ROOT = Path(__file__).resolve().parents[2]
ZONE = "setwise/medium_office/core_mid_air_temperature"
T0 = pd.Timestamp("2026-01-07T10:00Z")


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def zone(i: int, value: object = 21.0, topic: str = ZONE) -> Message:
    stamp = (T0 + pd.Timedelta(seconds=i)).isoformat()
    return Message(topic, json.dumps({"value": value, "time": stamp}).encode(), 1, False, 1, i)


class Bench:
    """An Ingest with its store, and what it acknowledged and echoed."""

    def __init__(self, points: Points, store: SqlStore, clock: TurnedClock, **config: Any) -> None:
        self.store = store
        self.acknowledged: list[int] = []
        self.on_disk: list[int] = []
        self.echoes: list[str] = []
        self.ingest = Ingest(
            points,
            store,
            clock,
            IngestSection(**{"commit_s": 0.05, **config}),
            self._acknowledge,
            lambda topic, _payload: self.echoes.append(topic),
            ignored={"setwise/medium_office/status"},
            clock_topic="setwise/medium_office/clock",
        )

    def _acknowledge(self, messages: Sequence[Message]) -> None:
        self.on_disk.append(self.store.counts()["readings"] - len(self.acknowledged) - len(messages))
        self.acknowledged += [m.mid for m in messages]

    def refused(self) -> dict[str, int]:
        return {r.reason: r.n for r in self.store.refusals()}


@pytest.fixture
def bench(office_points: Points, store: SqlStore, clock: TurnedClock) -> Iterator[Bench]:
    bench = Bench(office_points, store, clock)
    bench.ingest.start()
    yield bench
    bench.ingest.stop()


def test_every_message_is_acknowledged_and_good_ones_are_kept(bench: Bench) -> None:
    for i in range(500):
        bench.ingest.take(zone(i, 20 + i / 500))
    assert until(lambda: len(bench.acknowledged) == 500)
    assert bench.acknowledged == list(range(500)) and bench.store.counts()["readings"] == 500
    status = bench.ingest.status()
    assert (status.n_messages, status.n_accepted, status.refused, status.failing_since) == (500, 500, {}, None)
    assert status.n_commits < 100  # batches, not a commit per message


def test_nothing_is_acknowledged_before_it_is_on_disk(bench: Bench) -> None:
    for i in range(200):
        bench.ingest.take(zone(i))
    assert until(lambda: len(bench.acknowledged) == 200)
    assert min(bench.on_disk) >= 0


def test_every_refusal_is_counted_by_reason_and_acknowledged(bench: Bench) -> None:
    bad = [
        zone(0, "unknown"),
        zone(1, None),
        Message(ZONE, b'{"value": NaN, "time": "2026-01-07T15:00Z"}', 1, False, 1, 2),
        zone(3, 999.0),
        zone(4, 99.0),
        zone(999_999),  # eleven days ahead
        zone(-4_000_000),  # forty-six days ago
        zone(6, topic="setwise/medium_office/core_mid_air_temprature"),
        Message(ZONE, b"{", 1, False, 1, 7),
        Message(
            "setwise/medium_office/core_mid_co2", b'{"co2": {"value": 600, "unit": "kW"}, "time": 1767798000000}', 1, False, 1, 8
        ),
        Message(ZONE, b"{}", 1, False, 1, 9),
        zone(10),
        zone(10),  # the same again
    ]
    for message in bad:
        bench.ingest.take(message)
    assert until(lambda: len(bench.acknowledged) == len(bad))
    expected = {
        "not_a_number": 3,
        "out_of_range": 1,
        "unit_suspect": 1,
        "from_future": 1,
        "too_old": 1,
        "unknown_topic": 1,
        "malformed_json": 1,
        "unit": 1,
        "missing_path": 1,
        "duplicate": 1,
    }
    assert bench.refused() == expected and bench.ingest.status().refused == expected
    assert bench.store.counts()["readings"] == 3 and bench.ingest.status().n_accepted == 1  # two are kept and do not count
    assert bench.store.last(["core_mid_air_temperature"])["core_mid_air_temperature"].stamp == T0 + pd.Timedelta(seconds=10)


def test_text_no_database_takes_is_counted_all_the_same(bench: Bench) -> None:
    payload = json.dumps({"co2": {"value": 600, "unit": "\ud800\0"}, "time": 1767798000000}).encode()
    bench.ingest.take(Message("setwise/medium_office/core_mid_co2", payload, 1, False, 1, 0))
    bench.ingest.take(Message("setwise/\0", b"1", 1, False, 1, 1))
    assert until(lambda: len(bench.acknowledged) == 2)
    assert bench.refused() == {"unit": 1, "unknown_topic": 1}


def test_fault_of_our_own_is_logged_and_the_next_message_still_kept(bench: Bench) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    bench.ingest.on_echo = broken
    bench.ingest.take(Message("setwise/medium_office/echo/heating_setpoint", b'{"value": 20}', 1, False, 1, 0))
    assert until(lambda: bench.ingest.status().refused == {"internal": 1})
    bench.ingest.take(zone(1))
    assert until(lambda: bench.acknowledged == [1]) and bench.store.counts()["readings"] == 1


def test_readings_out_of_order_are_all_kept(bench: Bench) -> None:
    for i in (5, 3, 4, 1):
        bench.ingest.take(zone(i, float(20 + i)))
    assert until(lambda: len(bench.acknowledged) == 4)
    frame = bench.store.series(["core_mid_air_temperature"], T0, T0 + pd.Timedelta(minutes=1))
    assert list(frame["core_mid_air_temperature"]) == [21.0, 23.0, 24.0, 25.0]


def test_slow_trickle_is_committed_once_per_interval(office_points: Points, store: SqlStore, clock: TurnedClock) -> None:
    bench = Bench(office_points, store, clock, commit_s=0.3)
    bench.ingest.start()
    for i in range(10):
        bench.ingest.take(zone(i))
        time.sleep(0.01)
    assert until(lambda: len(bench.acknowledged) == 10)
    assert bench.ingest.status().n_commits == 1
    bench.ingest.stop()


def test_stop_commits_what_waits(office_points: Points, store: SqlStore, clock: TurnedClock) -> None:
    bench = Bench(office_points, store, clock, commit_s=30)
    bench.ingest.start()
    for i in range(5):
        bench.ingest.take(zone(i))
    bench.ingest.stop()
    assert bench.acknowledged == [0, 1, 2, 3, 4] and store.counts()["readings"] == 5


def test_echoes_forecasts_and_own_topics_find_their_way(bench: Bench) -> None:
    series = {"outdoor_air_temperature": [1.0, 2.0]}
    told = {"issued": "2026-01-07T15:00Z", "start": "2026-01-07T16:00Z", "series": series}
    messages = [
        ("setwise/medium_office/echo/heating_setpoint", b'{"value": 20}'),
        ("setwise/medium_office/forecast", json.dumps(told).encode()),
        ("setwise/medium_office/forecast", b"{}"),
        ("setwise/medium_office/status", b"online"),
        ("setwise/medium_office/set/heating_setpoint", b'{"value": 20}'),
    ]
    for mid, (topic, payload) in enumerate(messages):
        bench.ingest.take(Message(topic, payload, 1, False, 1, mid))
    assert until(lambda: len(bench.acknowledged) == len(messages))
    assert bench.echoes == ["setwise/medium_office/echo/heating_setpoint"]
    assert bench.store.counts()["forecasts"] == 2 and bench.refused() == {"missing_path": 1}


def test_one_message_may_hold_an_echo_and_readings(tmp_path: Path, store: SqlStore, office: Building, clock: TurnedClock) -> None:
    file = tmp_path / "points.toml"
    file.write_text(
        'building = "medium_office"\n[points]\n'
        'core_mid_air_temperature = { topic = "ahu/data", value = "room" }\n'
        '[commands]\nheating_setpoint = { topic = "ahu/set", echo = { topic = "ahu/data", value = "setpoint" } }\n'
    )
    bench = Bench(load_points(office, file), store, clock)

    def take(topic: str, payload: bytes) -> None:
        if b"setpoint" not in payload:
            raise BadReadingError(reason="missing_path", topic=topic, detail="no setpoint")
        bench.echoes.append(topic)

    bench.ingest.on_echo = take
    bench.ingest.start()
    for mid, payload in enumerate((b'{"room": 21.5, "setpoint": 20}', b'{"room": 21.6}')):
        bench.ingest.take(Message("ahu/data", payload, 1, False, 1, mid))
    assert until(lambda: len(bench.acknowledged) == 2)
    bench.ingest.stop()
    # Both were read: the second has the stamp of the first, for the clock stands still.
    assert bench.echoes == ["ahu/data"] and bench.refused() == {"missing_path": 1, "duplicate": 1}
    assert store.last(["core_mid_air_temperature"])["core_mid_air_temperature"].value == 21.5


SPARKPLUG = """
building = "medium_office"
[points.core_mid_air_temperature]
topic = "spBv1.0/plant/DDATA/edge/ahu"
format = "sparkplug"
value = "T"
[points.core_top_air_temperature]
topic = "ha/top"
format = "home_assistant"
[points.facility_electricity]
topic = "meter"
unit = "kWh"
is_counter = true
"""


@pytest.fixture
def on_change(tmp_path: Path, office: Building, store: SqlStore, clock: TurnedClock) -> Iterator[Bench]:
    file = tmp_path / "points.toml"
    file.write_text(SPARKPLUG)
    bench = Bench(load_points(office, file), store, clock)
    bench.ingest.start()
    yield bench
    bench.ingest.stop()


def hear(bench: Bench, *said: tuple[str, bytes]) -> None:
    n = len(bench.acknowledged)
    for i, (topic, payload) in enumerate(said):
        bench.ingest.take(Message(topic, payload, 1, False, 1, n + i))
    assert until(lambda: len(bench.acknowledged) == n + len(said))


def kept(store: SqlStore, name: str) -> list[tuple[float, str]]:
    with sqlite3.connect(str(store._engine.url.database)) as c:
        return c.execute("SELECT value, flag FROM readings WHERE variable = ? ORDER BY stamp", (name,)).fetchall()


def test_sparkplug_is_heard_from_birth_to_death_and_a_stranger_is_asked_to_be_born_again(
    on_change: Bench, clock: TurnedClock
) -> None:
    asked: list[str] = []
    on_change.ingest.tell = lambda topic, payload: asked.append(topic)
    now_ms = clock.now_ms()

    def said(kind: str, seq: int | None, *metrics: dict[str, Any]) -> tuple[str, bytes]:
        payload = Payload(timestamp=now_ms - 60_000 + 1000 * (seq or 0), seq=seq)
        for m in metrics:
            payload.metrics.add(**m)
        return f"spBv1.0/plant/{kind}/edge" + "/ahu" * (kind[0] == "D"), payload.SerializeToString()

    hear(on_change, said("DDATA", 5, {"alias": 1, "double_value": 20.0}))
    assert asked == ["spBv1.0/plant/NCMD/edge"] and on_change.refused() == {"not_born": 1}
    hear(
        on_change,
        said("NBIRTH", 0),
        said("DBIRTH", 1, {"name": "T", "alias": 1, "datatype": 10, "double_value": 20.0}),
        said("DDATA", 2, {"alias": 1, "double_value": 21.0}),
        said("NDEATH", None),
        said("NDEATH", None),
        ("spBv1.0/plant/NBIRTH/edge", b"\xff"),
    )
    assert kept(on_change.store, "core_mid_air_temperature") == [(20.0, "good"), (21.0, "good"), (21.0, "stale")]
    assert on_change.refused() == {"not_born": 1, "malformed_sparkplug": 1}


def test_state_that_home_assistant_no_longer_knows_ends_what_was_held(on_change: Bench, clock: TurnedClock) -> None:
    on_change.store.put("resampling", on_change.ingest.points.rules)
    start = clock.now()
    hear(on_change, ("ha/top", b"20"))
    clock.turn(start + pd.Timedelta(minutes=90))
    hear(on_change, ("ha/top", b"unavailable"), ("ha/top", b"unavailable"))
    assert kept(on_change.store, "core_top_air_temperature") == [(20.0, "good"), (20.0, "stale")]
    frame = on_change.store.hourly(["core_top_air_temperature"], start, start + pd.Timedelta(hours=4))
    assert frame["core_top_air_temperature"].fillna(-1).tolist() == [20.0, 20.0, -1.0, -1.0]


def test_counter_is_kept_and_shown_as_power_and_its_hours_are_its_differences(on_change: Bench, clock: TurnedClock) -> None:
    on_change.store.put("resampling", on_change.ingest.points.rules)
    start = clock.now()
    for i, count in enumerate((100.0, 105.0, 110.0, 2.0, 7.0)):  # every half hour; the meter is changed in between
        clock.turn(start + pd.Timedelta(minutes=30 * i))
        hear(on_change, ("meter", str(count).encode()))
    assert [v for v, _ in kept(on_change.store, "facility_electricity")] == [10_000.0, 10_000.0, 10_000.0]
    frame = on_change.store.hourly(["facility_electricity"], start, start + pd.Timedelta(hours=3))
    assert frame["facility_electricity"].fillna(-1).tolist() == [10_000.0, 7_000.0, -1.0]


def test_clock_topic_turns_the_clock_before_later_messages_are_stamped(bench: Bench, clock: TurnedClock) -> None:
    bench.ingest.take(Message("setwise/medium_office/clock", b"2026-01-07T18:00:00Z", 1, False, 1, 0))
    bench.ingest.take(Message("setwise/medium_office/clock", b"noon", 1, False, 1, 1))
    bench.ingest.take(Message("setwise/medium_office/hot_water_gas", b"1.5", 1, False, 1, 2))  # stamped on arrival, less an hour
    assert until(lambda: len(bench.acknowledged) == 3)
    assert bench.store.last(["hot_water_gas"])["hot_water_gas"].stamp == pd.Timestamp("2026-01-07T17:00Z")
    assert clock.now() == pd.Timestamp("2026-01-07T18:00Z")


def test_full_memory_is_counted_and_left_unacknowledged(office_points: Points, store: SqlStore, clock: TurnedClock) -> None:
    bench = Bench(office_points, store, clock, buffer_readings=100)
    for i in range(103):
        bench.ingest.take(zone(i))
    assert bench.ingest.status().refused == {"overflow": 3}
    bench.ingest.start()
    bench.ingest.stop()
    assert bench.acknowledged == list(range(100))


# -- faults


@pytest.fixture
def small_disk() -> Iterator[dict[str, int]]:
    """SQLite that may grow to a number of pages only, as on a full disk. Change `pages` and close the store to give it room."""
    room = {"pages": 60}

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={room['pages']}")

    sa.event.listen(sa.Engine, "connect", limit)
    yield room
    sa.event.remove(sa.Engine, "connect", limit)


@pytest.mark.faults
def test_full_disk_is_a_clear_error_and_nothing_is_half_written(small_disk: dict[str, int], tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'full.db'}")
    n_kept = 0
    with pytest.raises(
        StoreError, match=r"full\.db: database or disk is full; nothing of this transaction was kept\. Free some space"
    ):
        for batch in range(200):
            stamps = [T0 + pd.Timedelta(seconds=1000 * batch + i) for i in range(50)]
            store.add_readings([Reading("core_mid_air_temperature", s, 20.0, s) for s in stamps])
            n_kept += 50
    assert 0 < n_kept == store.counts()["readings"]
    store.close()
    with sqlite3.connect(tmp_path / "full.db") as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.faults
def test_ingest_waits_out_a_full_disk_and_loses_nothing(
    small_disk: dict[str, int], tmp_path: Path, office_points: Points, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'full.db'}")
    bench = Bench(office_points, store, clock)
    bench.ingest.start()
    n = 6000
    for i in range(n):
        bench.ingest.take(zone(i))
    assert until(lambda: bench.ingest.status().failing_since is not None)
    time.sleep(0.7)  # at least one retry
    assert len(bench.acknowledged) == store.counts()["readings"] < n
    assert sum("disk is full" in r.getMessage() for r in caplog.records) == 1
    small_disk["pages"] = 100_000
    store.close()  # its connections: the next ones have room
    assert until(lambda: len(bench.acknowledged) == n)
    assert store.counts()["readings"] == n and bench.ingest.status().failing_since is None
    bench.ingest.stop()
    store.close()


CHILD = """
    import os, sys
    import pandas as pd
    from building.description import load_building
    from service.clock import TurnedClock
    from service.config import IngestSection
    from service.ingest import Ingest
    from service.mqtt import Message
    from service.points import load_points
    from service.store import SqlStore

    out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    t0 = pd.Timestamp("2026-01-07T10:00Z")
    ingest = Ingest(
        load_points(load_building("medium_office")), SqlStore(sys.argv[1]), TurnedClock(t0 + pd.Timedelta(days=20)),
        IngestSection(commit_s=0.01, buffer_readings=1000),
        lambda messages: os.write(out, "".join(f"{m.mid}\\n" for m in messages).encode()),
        lambda topic, payload: None,
    )
    ingest.start()
    i = 0
    while True:
        if ingest.status().n_waiting < 500:
            stamp = (t0 + pd.Timedelta(seconds=i)).isoformat()
            payload = ('{"value": 21, "time": "%s"}' % stamp).encode()
            ingest.take(Message("setwise/medium_office/core_mid_air_temperature", payload, 1, False, 1, i))
            i += 1
"""


@pytest.mark.faults
def test_kill_9_while_ingesting_loses_no_acknowledged_reading(tmp_path: Path) -> None:
    url, told = f"sqlite:///{tmp_path / 'killed.db'}", tmp_path / "acknowledged"
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CHILD), url, str(told)], cwd=ROOT)
    try:
        assert until(lambda: told.exists() and told.stat().st_size > 5_000, 30)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(5)
    whole_lines = told.read_bytes().rpartition(b"\n")[0].split()
    acknowledged = [int(line) for line in whole_lines]
    store = SqlStore(url)
    kept = store.series(["core_mid_air_temperature"], T0, T0 + pd.Timedelta(days=20)).index
    seconds = {int(s) for s in (kept - T0) / pd.Timedelta(seconds=1)}
    assert len(acknowledged) > 1000 and seconds >= set(acknowledged)
    assert seconds == set(range(len(seconds)))  # whole batches in order, nothing half-written
    store.add_readings([Reading("core_mid_air_temperature", T0 - pd.Timedelta(hours=1), 20.0, T0)])  # and it goes on
    store.close()
    with sqlite3.connect(tmp_path / "killed.db") as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_processes_write_without_getting_in_each_others_way(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    stores = [SqlStore(url), SqlStore(url)]
    failures: list[BaseException] = []

    def write(which: int) -> None:
        try:
            for i in range(40):
                stores[which].add_readings([Reading(f"v{which}", T0 + pd.Timedelta(seconds=i), 1.0, T0)])
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=write, args=(w,)) for w in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == [] and stores[0].counts()["readings"] == 80
    for s in stores:
        s.close()
