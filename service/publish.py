"""Setpoints on their way out: sent once, confirmed by an echo or marked unconfirmed, never late.

Each setpoint leaves as JSON {"value", "unit", "valid_until", "plan"} on its command topic, QoS 1, not retained unless points.toml
asks for it: a BMS that restarts must not find a stale order. While the broker is away only the newest value per setting waits;
one whose `valid_until` has passed is never sent, it is counted. What became of each is in the store (waiting, sent, acknowledged,
unconfirmed, expired, replaced, released), and a new process goes on from there; a store that fails stops no setpoint.

A dead process cannot publish: while setpoints are kept up a heartbeat beats, and the BMS returns to its own schedule when beats
stay away or `valid_until` passes (docs/commissioning.md). `release` says it at once where the service still can; while the broker
is away that waits in the outbox (service/outbox.py).
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from building.errors import StoreError
from service.clock import Clock
from service.config import PublishSection
from service.outbox import Line, Outbox
from service.points import Points
from service.store import PublicationRecord, PublicationState, Store

log = logging.getLogger(__name__)

_OVER: tuple[PublicationState, ...] = ("expired", "replaced", "released")


@dataclass(frozen=True)
class Publication:
    """One setpoint on its way.

    Attributes:
        setting, value: what, inside unit.
        made, valid_until: from when to when it holds (UTC).
        plan_id: the stored plan it comes from; None for the own schedule.
        reason: what the guard did to it, for people.
        state: how far it came.
        id: its row in the store; None when the store was failing.
        mid: its id on the line, once handed over.
    """

    setting: str
    value: float
    made: pd.Timestamp
    valid_until: pd.Timestamp
    plan_id: int | None
    reason: str = ""
    state: PublicationState = "waiting"
    id: int | None = None
    mid: int | None = None


class Publisher:
    """Sends setpoints and follows them until they are settled. Thread-safe.

    Args:
        points: command topics, units and echoes.
        store: where publications are kept.
        line: the broker.
        clock: the time.
        config: how long a setpoint may go unconfirmed, and how often the heart beats.
        heartbeat_topic: where it beats.
    """

    def __init__(
        self,
        points: Points,
        store: Store,
        line: Line,
        clock: Clock,
        config: PublishSection,
        heartbeat_topic: str = "setwise/heartbeat",
    ) -> None:
        self.points = points
        self.store = store
        self.line = line
        self.clock = clock
        self.config = config
        self.heartbeat_topic = heartbeat_topic
        self.outbox = Outbox(store, line, clock)
        self.n_sent = self.n_expired = 0
        self._beaten: pd.Timestamp | None = None
        self._told: dict[str, float] = {}
        self._lock = threading.RLock()
        self._current: dict[str, Publication] = {}
        self._confirmations: deque[int] = deque()
        self._first_of_line = 0
        self._is_store_failing = False

    def current(self) -> dict[str, Publication]:
        """Return the newest publication of each setting."""
        with self._lock:
            self._take_confirmations()
            return dict(self._current)

    def resume(self) -> None:
        """Go on with what a former process told: echoes settle it; what it left retained and is over is cleared."""
        now = self.clock.now()
        with self._lock:
            try:
                told = self.store.last_publications()
            except StoreError as e:
                self._store_failed(e)
                return
            for setting, command in self.points.commands.items():
                if setting not in told or told[setting].state in _OVER:
                    continue
                one = _publication(told[setting])
                if one.valid_until > now:
                    self._current.setdefault(setting, one)
                    continue
                if one.state == "waiting":
                    self.n_expired += 1
                    self._settle(one, "expired")
                if command.retain:
                    self.outbox.put(command.topic, "", is_retained=True)

    def set(
        self,
        values: Mapping[str, float],
        valid_until: pd.Timestamp,
        plan_id: int | None,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        """Publish these settings; those without a command topic are left out.

        Args:
            values: by setting, inside units; the guard has seen them.
            valid_until: until when the BMS may follow them without hearing from us (UTC).
            plan_id: the stored plan they come from, or None.
            reasons: by setting, what the guard did.
        """
        now = self.clock.now()
        with self._lock:
            self._take_confirmations()
            for setting, value in values.items():
                if setting not in self.points.commands:
                    continue
                former = self._current.get(setting)
                if former is not None and former.state == "waiting":
                    self._settle(former, "replaced")
                self.outbox.cancel(self.points.commands[setting].topic)  # a release that nobody heard yet
                new = Publication(setting, float(value), now, valid_until, plan_id, (reasons or {}).get(setting, ""))
                self._current[setting] = replace(new, id=self._keep(new))
            self._send()

    def release(self, settings: Collection[str] | None = None, is_only_retained: bool = False) -> None:
        """Say that nothing of ours holds any more, to every setting that was told something since the start or is told to hold.

        A retained command is cleared by an empty message. Any other JSON command is sent once more without a value, its validity
        over; a bare number cannot say it: there the heartbeat that stays away does.

        Args:
            settings: which; None for all.
            is_only_retained: leave the others to lapse (a clean stop: the next process may be here before they do).
        """
        now = self.clock.now()
        with self._lock:
            self._take_confirmations()
            for setting, command in self.points.commands.items():
                one = self._current.get(setting) or self._remembered(setting, now)
                if one is None or one.state in _OVER:
                    continue
                if (settings is not None and setting not in settings) or (is_only_retained and not command.retain):
                    continue
                self._current[setting] = one
                if command.retain:
                    self.outbox.put(command.topic, "", is_retained=True)
                elif command.payload == "json":
                    facts = {"value": None, "valid_until": _iso(now), "plan": "released"}
                    self.outbox.put(command.topic, json.dumps(facts), until=one.valid_until)  # then it lapses by itself
                self._settle(one, "released")

    def _remembered(self, setting: str, now: pd.Timestamp) -> Publication | None:
        """Return what a former process told this setting and what still holds."""
        try:
            last = self.store.last_publications().get(setting)
        except StoreError:
            return None
        return None if last is None or last.valid_until <= now else _publication(last)

    def beat(self, mode: str) -> bool:
        """Beat when it is time; return whether it did. Call it only while setpoints are kept up. Nothing is kept for later."""
        now = self.clock.now()
        every = pd.Timedelta(seconds=self.config.heartbeat_s)
        if self._beaten is not None and pd.Timedelta(0) <= now - self._beaten < every:
            return False
        until = now + 3 * every
        facts = {"at": _iso(now), "valid_until": _iso(until), "mode": mode, "every_s": self.config.heartbeat_s}
        sent = self.line.publish(self.heartbeat_topic, json.dumps(facts), expires_in_s=3 * self.config.heartbeat_s)
        if sent is not None:
            self._beaten = now
        return sent is not None

    def echoed(self) -> dict[str, float]:
        """Return by setting the last value the BMS said it took, inside unit."""
        with self._lock:
            return dict(self._told)

    def tick(self) -> list[Publication]:
        """Do what is due: send what waits, settle what expired, mark what nobody echoed. The service calls it twice a second.

        Returns:
            Setpoints newly marked unconfirmed: sent longer ago than `acknowledge_min`, without echo.
        """
        limit = self.clock.now() - pd.Timedelta(minutes=self.config.acknowledge_min)
        with self._lock:
            self._take_confirmations()
            self._send()
            self.outbox.send()
            late = [
                p
                for p in self._current.values()
                if p.state == "sent" and p.made <= limit and self.points.commands[p.setting].echo is not None
            ]
            for one in late:
                self._settle(one, "unconfirmed")
            return late

    def heard(self, topic: str, payload: bytes) -> None:
        """The BMS says what it took (a message on an echo topic). An echo of another value confirms nothing.

        Raises:
            BadReadingError: it cannot be read.
        """
        echoes = self.points.read_echo(topic, payload)
        with self._lock:
            self._take_confirmations()
            self._told |= echoes
            for setting, value in echoes.items():
                one = self._current.get(setting)
                if one is None or one.state not in ("waiting", "sent", "unconfirmed"):
                    continue
                if one.state == "waiting" and one.mid is None:
                    continue  # it has not left: the BMS speaks of something else
                if abs(value - one.value) <= self.points.commands[setting].tolerance:
                    self._settle(one, "acknowledged")

    def sent(self, mid: int) -> None:
        """The broker has the message of this id (`MqttLink.on_sent`). Only noted: the line's thread must not wait for a lock."""
        self._confirmations.append(mid)

    def reconnected(self, first: int) -> None:
        """The line is new and its ids start at `first` (`MqttLink.on_connected`). Only noted, as in `sent`."""
        self._first_of_line = first

    def _take_confirmations(self) -> None:
        while self._confirmations:
            mid = self._confirmations.popleft()
            self.outbox.confirmed(mid)
            for one in list(self._current.values()):
                if one.state == "waiting" and one.mid == mid:
                    self.n_sent += 1
                    self._settle(one, "sent")
        first = self._first_of_line
        self.outbox.forget_line_before(first)
        for setting, one in self._current.items():
            if one.state == "waiting" and one.mid is not None and one.mid < first:
                self._current[setting] = replace(one, mid=None)  # will be sent again while it is valid

    def _send(self) -> None:
        now = self.clock.now()
        for setting, one in list(self._current.items()):
            if one.state != "waiting" or one.mid is not None:
                continue
            if one.valid_until <= now:
                self.n_expired += 1
                self._settle(one, "expired")
                continue
            facts = {
                "valid_until": _iso(one.valid_until),
                "plan": "own" if one.plan_id is None else one.plan_id,
            }
            topic, payload = self.points.encode_command(setting, one.value, facts)
            command, left_s = self.points.commands[setting], (one.valid_until - now).total_seconds()
            mid = self.line.publish(topic, payload, command.retain, left_s, command.qos)
            if mid is not None:
                self._current[setting] = replace(one, mid=mid)

    # -- the store, which may fail without stopping a setpoint

    def _keep(self, one: Publication) -> int | None:
        topic = self.points.commands[one.setting].topic
        try:
            made = self.store.add_publication(one.setting, topic, one.value, one.valid_until, one.made, one.plan_id, one.reason)
        except StoreError as e:
            self._store_failed(e)
            return None
        self._is_store_failing = False
        return made

    def _settle(self, one: Publication, state: PublicationState) -> None:
        # `one` may be a former copy (without mid): only the one in force is replaced.
        current = self._current.get(one.setting)
        if current is not None and current.id == one.id and current.made == one.made:
            self._current[one.setting] = replace(current, state=state)
        if one.id is None:
            return
        try:
            self.store.settle_publication(one.id, state, self.clock.now())
        except StoreError as e:
            self._store_failed(e)

    def _store_failed(self, error: StoreError) -> None:
        if not self._is_store_failing:
            log.error("%s Setpoints go on without being recorded.", error)
        self._is_store_failing = True


def _publication(kept: PublicationRecord) -> Publication:
    return Publication(
        kept.setting, kept.value, kept.made, kept.valid_until, kept.plan_id, kept.reason, state=kept.state, id=kept.id
    )


def _iso(instant: pd.Timestamp) -> str:
    return instant.isoformat().replace("+00:00", "Z")
