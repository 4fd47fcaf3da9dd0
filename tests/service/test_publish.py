from __future__ import annotations

import json

import pandas as pd
import pytest

from building.errors import BadReadingError, StoreError
from service.clock import TurnedClock
from service.config import PublishSection
from service.points import Points
from service.publish import Publisher
from service.store import SqlStore

MINUTE = pd.Timedelta(minutes=1)
ECHO = "setwise/medium_office/echo/heating_setpoint"


class FakeLine:
    """A line that may be down; keeps what was handed over."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[tuple[str, dict[str, object], float | None]] = []

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int | None:
        assert not is_retained
        if not self.is_up:
            return None
        self.sent.append((topic, json.loads(payload), expires_in_s))
        return len(self.sent)

    def values(self) -> list[object]:
        return [data["value"] for _, data, _ in self.sent]


@pytest.fixture
def line() -> FakeLine:
    return FakeLine()


@pytest.fixture
def publisher(office_points: Points, store: SqlStore, line: FakeLine, clock: TurnedClock) -> Publisher:
    return Publisher(office_points, store, line, clock, PublishSection())


def states(store: SqlStore) -> list[str]:
    return [p.state for p in store.publications(pd.Timestamp(0, tz="UTC"), pd.Timestamp("2030-01-01T00:00Z"))]


def test_setpoint_leaves_with_unit_validity_and_plan(publisher: Publisher, line: FakeLine, clock: TurnedClock) -> None:
    publisher.set({"heating_setpoint": 20.5}, clock.now() + 45 * MINUTE, plan_id=7)
    ((topic, data, expires_in_s),) = line.sent
    assert topic == "setwise/medium_office/set/heating_setpoint" and expires_in_s == 2700
    assert data == {"value": 20.5, "unit": "degC", "valid_until": "2026-01-07T16:45:00Z", "plan": 7}


def test_setpoint_is_sent_then_acknowledged_by_its_echo(publisher: Publisher, store: SqlStore, clock: TurnedClock) -> None:
    publisher.set({"heating_setpoint": 20.5}, clock.now() + 45 * MINUTE, 7)
    assert publisher.current()["heating_setpoint"].state == "waiting"
    publisher.sent(1)
    assert publisher.current()["heating_setpoint"].state == "sent" and states(store) == ["sent"]
    publisher.heard(ECHO, b'{"value": 19.0}')
    assert publisher.current()["heating_setpoint"].state == "sent"
    publisher.heard(ECHO, b'{"value": 20.51}')
    assert publisher.current()["heating_setpoint"].state == "acknowledged" and states(store) == ["acknowledged"]
    clock.turn(clock.now() + 10 * MINUTE)
    assert publisher.tick() == []


def test_setpoint_nobody_echoes_is_marked_unconfirmed_once(publisher: Publisher, store: SqlStore, clock: TurnedClock) -> None:
    publisher.set({"heating_setpoint": 20.5}, clock.now() + 45 * MINUTE, 7)
    publisher.sent(1)
    clock.turn(clock.now() + 4 * MINUTE)
    assert publisher.tick() == []
    clock.turn(clock.now() + 2 * MINUTE)
    assert [p.setting for p in publisher.tick()] == ["heating_setpoint"]
    assert publisher.tick() == [] and states(store) == ["unconfirmed"]
    publisher.heard(ECHO, b'{"value": 20.5}')
    assert states(store) == ["acknowledged"]


def test_while_the_broker_is_away_only_the_newest_value_waits(
    publisher: Publisher, line: FakeLine, store: SqlStore, clock: TurnedClock
) -> None:
    line.is_up = False
    for i in range(4):
        publisher.set({"heating_setpoint": 18.0 + i}, clock.now() + 45 * MINUTE, 7)
        clock.turn(clock.now() + 15 * MINUTE)
    line.is_up = True
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert line.values() == [21.0]
    assert states(store) == ["replaced", "replaced", "replaced", "waiting"]


def test_setpoint_out_of_date_is_never_sent(publisher: Publisher, line: FakeLine, store: SqlStore, clock: TurnedClock) -> None:
    line.is_up = False
    publisher.set({"heating_setpoint": 20.0}, clock.now() + 45 * MINUTE, 7)
    clock.turn(clock.now() + 45 * MINUTE)
    line.is_up = True
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert line.sent == [] and states(store) == ["expired"]


def test_message_lost_with_its_line_is_sent_again_on_the_next(publisher: Publisher, line: FakeLine, clock: TurnedClock) -> None:
    publisher.set({"heating_setpoint": 20.0}, clock.now() + 45 * MINUTE, 7)
    publisher.tick()
    assert line.values() == [20.0]  # handed over, no answer yet: not again on the same line
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert line.values() == [20.0, 20.0]
    publisher.sent(2)
    publisher.reconnected(len(line.sent) + 1)
    publisher.tick()
    assert line.values() == [20.0, 20.0]


def test_setting_without_command_topic_is_left_out(publisher: Publisher, line: FakeLine, clock: TurnedClock) -> None:
    publisher.set({"blinds": 1.0}, clock.now() + 45 * MINUTE, None)
    assert line.sent == []


def test_failing_store_stops_no_setpoint(
    office_points: Points, store: SqlStore, line: FakeLine, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise StoreError(url="x", reason="database or disk is full")

    monkeypatch.setattr(store, "add_publication", full)
    publisher = Publisher(office_points, store, line, clock, PublishSection())
    publisher.set({"heating_setpoint": 20.0}, clock.now() + 45 * MINUTE, 7)
    publisher.sent(1)
    publisher.heard(ECHO, b'{"value": 20.0}')
    assert line.values() == [20.0] and publisher.current()["heating_setpoint"].state == "acknowledged"


def test_echo_that_cannot_be_read_is_refused(publisher: Publisher) -> None:
    with pytest.raises(BadReadingError):
        publisher.heard(ECHO, b"unavailable")


def test_released_setpoint_is_told_without_a_value_once_and_no_echo_brings_it_back(
    publisher: Publisher, line: FakeLine, store: SqlStore, clock: TurnedClock
) -> None:
    publisher.set({"heating_setpoint": 20.5}, clock.now() + 45 * MINUTE, plan_id=7)
    publisher.sent(1)
    publisher.release()
    publisher.release()
    assert line.sent[1:] == [
        ("setwise/medium_office/set/heating_setpoint",
         {"value": None, "valid_until": "2026-01-07T16:00:00Z", "plan": "released"}, 2700),
    ]  # fmt: skip
    publisher.heard(ECHO, b'{"value": 20.5}')
    assert states(store) == ["released"] and publisher.echoed() == {"heating_setpoint": 20.5}
