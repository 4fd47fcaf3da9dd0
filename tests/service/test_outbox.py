"""What must reach the broker although it is away waits on disk; what would come too late never leaves."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import paho.mqtt.client as paho
import pandas as pd
import pytest
from children import T0, hold_then_release, retaining, told
from paho.mqtt.enums import CallbackAPIVersion

from building.description import Building
from building.errors import StoreError
from proof.broker import free_port, start_broker
from service.clock import TurnedClock
from service.config import MqttSection, PublishSection
from service.mqtt import MqttLink
from service.outbox import Outbox
from service.publish import Publisher
from service.store import SqlStore

MINUTE = pd.Timedelta(minutes=1)


class FakeLine:
    """A line that may be down; keeps what was handed over."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[tuple[str, str, bool]] = []

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int | None:
        if not self.is_up:
            return None
        self.sent.append((topic, payload if isinstance(payload, str) else payload.decode(), is_retained))
        return len(self.sent)


@pytest.fixture
def line() -> FakeLine:
    return FakeLine()


@pytest.fixture
def outbox(store: SqlStore, line: FakeLine, clock: TurnedClock) -> Outbox:
    return Outbox(store, line, clock)


def test_letter_waits_for_the_broker_and_leaves_once(outbox: Outbox, line: FakeLine, store: SqlStore) -> None:
    line.is_up = False
    outbox.put("a/plan", "{}", is_retained=True)
    line.is_up = True
    outbox.forget_line_before(len(line.sent) + 1)
    outbox.send()
    outbox.send()
    assert line.sent == [("a/plan", "{}", True)] and len(outbox) == 1
    outbox.confirmed(1)
    assert len(outbox) == 0 and store.get("outgoing") == {}
    outbox.forget_line_before(len(line.sent) + 1)
    outbox.send()
    assert len(line.sent) == 1


def test_newest_of_a_topic_replaces_what_waits_there(outbox: Outbox, line: FakeLine) -> None:
    line.is_up = False
    outbox.put("a/plan", "old")
    outbox.put("b", "kept")
    outbox.put("a/plan", "new")
    outbox.cancel("b")
    line.is_up = True
    outbox.send()
    assert line.sent == [("a/plan", "new", False)]


def test_letter_overtaken_by_time_is_dropped_and_counted(outbox: Outbox, line: FakeLine, clock: TurnedClock) -> None:
    line.is_up = False
    outbox.put("a", "too late", until=clock.now() + 10 * MINUTE)
    outbox.put("b", "whenever")
    clock.turn(clock.now() + 10 * MINUTE)
    line.is_up = True
    outbox.send()
    assert line.sent == [("b", "whenever", False)] and outbox.n_dropped == 1 and len(outbox) == 1


def test_what_was_not_confirmed_leaves_again_on_the_next_line_and_after_the_end_of_the_process(
    outbox: Outbox, line: FakeLine, store: SqlStore, clock: TurnedClock
) -> None:
    outbox.put("a", "1")
    outbox.forget_line_before(len(line.sent) + 1)
    outbox.send()
    assert [m[1] for m in line.sent] == ["1", "1"]
    again = Outbox(store, line, clock)  # after kill -9: nothing but the store is left
    again.send()
    assert [m[1] for m in line.sent] == ["1", "1", "1"]


def test_failing_store_stops_no_letter(outbox: Outbox, line: FakeLine, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError(url="x", reason="database or disk is full")

    monkeypatch.setattr(store, "put", full)
    monkeypatch.setattr(store, "get", full)
    outbox.put("a", "1")
    assert line.sent == [("a", "1", False)]


def test_damaged_row_of_the_outbox_is_dropped_with_a_word(
    outbox: Outbox, line: FakeLine, store: SqlStore, caplog: pytest.LogCaptureFixture
) -> None:
    for damaged in (["a"], {"a": 1}, {"a": {"text": "x"}}):
        store.put("outgoing", damaged)
        outbox = Outbox(store, line, outbox.clock)
        outbox.put("b", "1")
        assert line.sent[-1] == ("b", "1", False) and "cannot be read" in caplog.text


# -- with the publisher


@pytest.fixture
def publisher(two_node: Building, store: SqlStore, line: FakeLine, clock: TurnedClock) -> Publisher:
    return Publisher(retaining(two_node), store, line, clock, PublishSection())


def states(store: SqlStore) -> dict[str, str]:
    return {name: p.state for name, p in store.last_publications().items()}


def test_release_while_the_broker_is_away_is_said_when_it_is_back(publisher: Publisher, line: FakeLine) -> None:
    told(publisher)
    line.is_up = False
    publisher.release()
    line.is_up = True
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert [(topic, retained) for topic, _, retained in line.sent[2:]] == [("set/heating", True), ("set/cooling", False)]
    assert line.sent[2][1] == "" and json.loads(line.sent[3][1])["value"] is None


def test_release_that_left_on_the_new_line_before_it_was_said_to_be_new_leaves_once(publisher: Publisher, line: FakeLine) -> None:
    told(publisher)
    line.is_up = False
    publisher.release()
    line.is_up = True
    publisher.tick()  # the line came up after the confirmations were taken and before the letters were handed over
    publisher.reconnected(len(line.sent) - 1)  # the word of it: its ids start with these two letters
    publisher.tick()
    assert [topic for topic, _, _ in line.sent[2:]] == ["set/heating", "set/cooling"]


def test_release_that_would_come_after_its_setpoint_lapsed_is_dropped_but_a_retained_one_is_cleared(
    publisher: Publisher, line: FakeLine, clock: TurnedClock
) -> None:
    told(publisher)
    line.is_up = False
    publisher.release()
    clock.turn(clock.now() + 46 * MINUTE)
    line.is_up = True
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert line.sent[2:] == [("set/heating", "", True)] and publisher.outbox.n_dropped == 1


def test_new_setpoint_takes_the_place_of_a_release_that_waits(publisher: Publisher, line: FakeLine) -> None:
    told(publisher)
    line.is_up = False
    publisher.release()
    told(publisher, 21.0)
    line.is_up = True
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert [json.loads(m[1])["value"] for m in line.sent[2:]] == [21.0, 26.0] and len(publisher.outbox) == 0


def test_next_process_goes_on_with_what_waits_and_what_was_sent(
    publisher: Publisher, line: FakeLine, store: SqlStore, clock: TurnedClock
) -> None:
    told(publisher)
    publisher.sent(1)  # heating; the process dies before the broker confirms cooling
    publisher.current()
    again = Publisher(publisher.points, store, line, clock, PublishSection())
    again.resume()
    again.heard("echo/heating", b"20.0")
    again.tick()
    again.sent(3)
    again.tick()
    assert states(store) == {"heating_setpoint": "acknowledged", "cooling_setpoint": "sent"}
    assert [m[0] for m in line.sent] == ["set/heating", "set/cooling", "set/cooling"]


def test_next_process_counts_what_expired_unsent_and_clears_what_is_left_at_the_broker(
    publisher: Publisher, line: FakeLine, store: SqlStore, clock: TurnedClock
) -> None:
    told(publisher)
    publisher.sent(1)
    publisher.current()
    clock.turn(clock.now() + 50 * MINUTE)
    again = Publisher(publisher.points, store, line, clock, PublishSection())
    again.resume()
    again.tick()
    assert line.sent[2:] == [("set/heating", "", True)]
    assert again.n_expired == 1 and states(store) == {"heating_setpoint": "sent", "cooling_setpoint": "expired"}


# -- a real broker that goes away, a real process that is killed


@pytest.mark.faults
def test_kill_9_while_the_broker_is_away_loses_no_release_and_sends_nothing_late(tmp_path: Path, two_node: Building) -> None:
    url, port = f"sqlite:///{tmp_path / 'setwise.db'}", free_port()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    with start_broker(port) as broker:
        child = spawn.Process(target=hold_then_release, args=(url, port, theirs), daemon=True)
        child.start()
        assert ours.poll(120) and ours.recv() == "told"
        broker.kill()
    ours.send("release")
    assert ours.poll(60) and ours.recv() == "released"
    child.kill()
    child.join()

    heard: list[tuple[str, bytes]] = []
    with start_broker(port):
        bms = paho.Client(CallbackAPIVersion.VERSION2)
        bms.on_message = lambda _c, _u, m: heard.append((m.topic, bytes(m.payload)))
        bms.connect("127.0.0.1", port)
        bms.subscribe("set/#", qos=1)
        bms.loop_start()
        store = SqlStore(url)
        link = MqttLink(MqttSection(host="127.0.0.1", port=port), "two_node", [], lambda m: None)
        later = TurnedClock(T0 + 46 * MINUTE)  # the setpoints have lapsed meanwhile
        publisher = Publisher(retaining(two_node), store, link, later, PublishSection())
        link.on_sent, link.on_connected = publisher.sent, publisher.reconnected
        publisher.resume()
        link.start()
        deadline = time.monotonic() + 60
        while len(publisher.outbox) or not heard:
            publisher.tick()
            time.sleep(0.05)
            assert time.monotonic() < deadline, "the release never arrived"
        link.stop()
        bms.disconnect()
        bms.loop_stop()
        store.close()
    assert heard == [("set/heating", b"")] and publisher.outbox.n_dropped == 1
