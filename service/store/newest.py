"""The newest reading of each variable, held in memory: status, zones, points and the guard ask for all of them all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pandas as pd

from service.quality import UNUSABLE
from service.store.records import Reading

Row = tuple[str, int, float, str, int]
"""One reading as the store keeps it: variable, stamp [UTC ms], value, flag, received [UTC ms]."""


class Newest:
    """What `Store.last` answers, for the one process that writes readings. Thread-safe.

    Args:
        ask: looks in the database, for the variables nobody asked for before.
    """

    def __init__(self, ask: Callable[[Sequence[str], bool], dict[str, Row]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._whatever: dict[str, Row | None] = {}
        self._usable: dict[str, Row | None] = {}

    def of(self, variables: Sequence[str], is_usable: bool) -> dict[str, Row]:
        """Return the newest usable row of each variable that has one; or the newest whatever its flag."""
        with self._lock:
            known = self._usable if is_usable else self._whatever
            missing = [name for name in variables if name not in known]
            if missing:
                found = self._ask(missing, is_usable)
                known |= {name: found.get(name) for name in missing}
            return {name: row for name in variables if (row := known[name]) is not None}

    def take(self, rows: Sequence[Row]) -> None:
        """Hear what was committed, in its order. The rules are those of the table: see `Store.add_readings`."""
        with self._lock:
            whatever, usable = self._whatever, self._usable
            for row in rows:
                name, stamp, _, flag, _ = row
                is_good = flag not in UNUSABLE
                if is_good and name in usable and ((last := usable[name]) is None or stamp > last[1]):
                    usable[name] = row
                if name in whatever and (
                    (last := whatever[name]) is None or stamp > last[1] or (is_good and stamp == last[1] and last[3] in UNUSABLE)
                ):
                    whatever[name] = row


def reading_of(row: Row) -> Reading:
    """Return a row of the store as a Reading."""
    name, stamp_ms, value, flag, received_ms = row
    return Reading(name, pd.Timestamp(stamp_ms, unit="ms", tz="UTC"), value, pd.Timestamp(received_ms, unit="ms", tz="UTC"), flag)
