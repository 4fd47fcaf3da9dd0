"""What time it is: the machine's clock, or one that others turn (accelerated replay, tests)."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import pandas as pd

EPOCH = pd.Timestamp(0, tz="UTC")


class Clock(Protocol):
    """Says the time. Everything in the service that asks for the time asks a Clock."""

    def now(self) -> pd.Timestamp:
        """Return the present instant (UTC)."""

    def now_ms(self) -> int:
        """Return the present instant as UTC milliseconds; every message that arrives asks for it."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> pd.Timestamp:
        """Return the present instant (UTC)."""
        return pd.Timestamp.now(tz="UTC")

    def now_ms(self) -> int:
        """Return the present instant as UTC milliseconds."""
        return time.time_ns() // 1_000_000


class TurnedClock:
    """A clock that stands still until it is turned; never backwards.

    An accelerated replay turns it from the stamps on `<root>/<building>/clock`, so that player and service agree on the time
    without agreeing on a speed; tests turn it by hand.
    """

    def __init__(self, start: pd.Timestamp = EPOCH) -> None:
        self._now = start
        self._turned = threading.Condition()

    def now(self) -> pd.Timestamp:
        """Return the instant it was last turned to (UTC)."""
        return self._now

    def now_ms(self) -> int:
        """Return that instant as UTC milliseconds."""
        return self._now.value // 1_000_000

    def turn(self, instant: pd.Timestamp) -> None:
        """Turn the clock to `instant` (time-zone aware); an earlier instant is ignored."""
        with self._turned:
            if instant > self._now:
                self._now = instant.tz_convert("UTC")
                self._turned.notify_all()

    def wait(self, beyond: pd.Timestamp, timeout_s: float) -> bool:
        """Return True as soon as the time is later than `beyond`, False after `timeout_s` of real time."""
        with self._turned:
            return self._turned.wait_for(lambda: self._now > beyond, timeout_s)
