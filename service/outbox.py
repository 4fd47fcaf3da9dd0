"""Messages that must reach the broker although it is away: the newest of each topic, on disk until the broker has it.

Not everything may wait. A setpoint waits with its Publisher, which drops it when its `valid_until` has passed; a heartbeat and a
question to an edge node are worth nothing later and are not kept at all. What is kept here: that nothing of ours holds any more
(a retained setpoint that is cleared, a release), and what the broker is to remember for others (retained facts).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import pandas as pd

from building.errors import StoreError
from service.clock import Clock
from service.store import Store

log = logging.getLogger(__name__)

_KEY = "outgoing"


class Line(Protocol):
    """What is needed of the broker: `MqttLink`, or a fake."""

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int | None:
        """Hand a message to the broker; its id, or None when there is no line."""


@dataclass(frozen=True)
class Letter:
    """One message that waits.

    Attributes:
        payload: text; empty clears a retained message.
        is_retained: the broker keeps it.
        until_ms: dropped after that instant (UTC milliseconds); None: it waits for ever.
        mid: its id on the line, once handed over.
    """

    payload: str
    is_retained: bool
    until_ms: int | None
    mid: int | None = None


class Outbox:
    """Keeps and sends letters. Not thread-safe by itself: its owner (`Publisher`) holds a lock.

    A store that fails keeps nothing over the end of the process; it stops no letter.
    """

    def __init__(self, store: Store, line: Line, clock: Clock) -> None:
        self.store = store
        self.line = line
        self.clock = clock
        self.n_dropped = 0
        self._waiting: dict[str, Letter] = {}
        self._is_read = False
        self._is_store_failing = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, topic: str, payload: str, is_retained: bool = False, until: pd.Timestamp | None = None) -> None:
        """Send a message now or when the broker is back; it replaces what waits on its topic."""
        self._read()
        until_ms = None if until is None else round(until.timestamp() * 1000)
        self._waiting[topic] = Letter(payload, is_retained, until_ms)
        self._write()  # on disk before it leaves: a kill between the two sends it again, which does no harm
        self.send()

    def cancel(self, topic: str) -> None:
        """Forget what waits on a topic: something newer was said there."""
        self._read()
        if self._waiting.pop(topic, None) is not None:
            self._write()

    def send(self) -> None:
        """Hand over what waits, drop what has been overtaken by time."""
        self._read()
        now_ms = self.clock.now_ms()
        for topic, letter in list(self._waiting.items()):
            if letter.until_ms is not None and letter.until_ms <= now_ms:
                del self._waiting[topic]
                self.n_dropped += 1
                self._write()
            elif letter.mid is None:
                left_s = None if letter.until_ms is None else (letter.until_ms - now_ms) / 1000
                mid = self.line.publish(topic, letter.payload, letter.is_retained, left_s)
                self._waiting[topic] = replace(letter, mid=mid)

    def confirmed(self, mid: int) -> None:
        """The broker has the message of this id."""
        for topic, letter in list(self._waiting.items()):
            if letter.mid == mid:
                del self._waiting[topic]
                self._write()

    def forget_line_before(self, first: int) -> None:
        """A new line's ids start at `first`: what a former one took and did not confirm is sent again."""
        for topic, letter in self._waiting.items():
            if letter.mid is not None and letter.mid < first:
                self._waiting[topic] = replace(letter, mid=None)

    def _read(self) -> None:
        """Take over, once, what a former process left."""
        if self._is_read:
            return
        try:
            kept = self.store.get(_KEY) or {}
            self._waiting = {topic: Letter(**facts) for topic, facts in kept.items()} | self._waiting
        except StoreError:
            return
        except (TypeError, AttributeError):
            log.warning("what waited for the broker cannot be read and is dropped")
        self._is_read = True

    def _write(self) -> None:
        try:
            self.store.put(_KEY, {topic: asdict(replace(letter, mid=None)) for topic, letter in self._waiting.items()})
        except StoreError as e:
            if not self._is_store_failing:
                log.error("%s What waits for the broker is kept in memory only.", e)
            self._is_store_failing = True
        else:
            self._is_store_failing = False
