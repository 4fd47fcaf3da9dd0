"""Clock: the only source of "now" in the service, injected so that a month can be replayed in minutes."""

from __future__ import annotations

import threading
import time
from typing import Protocol

import pandas as pd


class Clock(Protocol):
    """Tells the time of the building."""

    def now(self) -> pd.Timestamp:
        """Return the present instant (UTC)."""

    def wall_seconds_until(self, instant: pd.Timestamp) -> float:
        """Return how long to sleep, in real seconds, until `instant`; 0 when it has passed."""


class WallClock:
    """The time of the machine."""

    def now(self) -> pd.Timestamp:
        """Return the present instant (UTC)."""
        return pd.Timestamp.now(tz="UTC")

    def wall_seconds_until(self, instant: pd.Timestamp) -> float:
        """Return the real seconds until `instant`."""
        return max(0.0, (instant - self.now()).total_seconds())


class AcceleratedClock:
    """Starts at `origin` and runs `factor` times as fast as the machine; monotonic, whatever NTP does."""

    def __init__(self, origin: pd.Timestamp, factor: float) -> None:
        self.origin = origin
        self.factor = factor
        self._started_s = time.monotonic()

    def now(self) -> pd.Timestamp:
        """Return the present instant of the replay (UTC)."""
        return self.origin + pd.Timedelta(seconds=(time.monotonic() - self._started_s) * self.factor)

    def wall_seconds_until(self, instant: pd.Timestamp) -> float:
        """Return the real seconds until `instant`."""
        return max(0.0, (instant - self.now()).total_seconds() / self.factor)


class SteppedClock:
    """Stands still until it is moved, and never goes back: a replay that waits for work to be done, and tests."""

    def __init__(self, origin: pd.Timestamp) -> None:
        self._now = origin
        self._lock = threading.Lock()

    def now(self) -> pd.Timestamp:
        """Return the instant it was last moved to (UTC)."""
        with self._lock:
            return self._now

    def move_to(self, instant: pd.Timestamp) -> None:
        """Move forward to `instant`; an earlier one is ignored."""
        with self._lock:
            self._now = max(self._now, instant)

    def wall_seconds_until(self, instant: pd.Timestamp) -> float:
        """Return 0 when `instant` has come, else a short time after which to look again."""
        return 0.0 if self.now() >= instant else 0.05
