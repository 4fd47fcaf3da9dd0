"""What a reading is worth: the flag it carries, and how irregular readings become hours.

| flag | the value | counts |
|---|---|---|
| good | as it came | yes |
| clipped | overstepped a bound by sensor noise; brought back | yes |
| late | came more than `LATE_H` after it held (a line that was down) | yes |
| out_of_range | outside the bounds of its variable | no |
| unit_suspect | outside, but inside in another unit of its quantity; or the sender names another unit than the points file | no |
| stuck | the same to the last digit for `STUCK_H`, where such a thing varies | no |
| stale | the sender said that it knows no longer, or died; the last value, stamped when that was heard | no |
| clock_jump | stamped by our clock just after that clock was set | no |

These are kept with the reading. Three more have no place to be kept, are counted, and the reading is refused: `duplicate` (the
first value of a stamp stays), `from_future` and `too_old` (no instant to keep them at that anybody would believe).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from building.units import CO2, HUMIDITY_RATIO, POWER, PRESSURE, RELATIVE_HUMIDITY, TEMPERATURE, WIND_SPEED, Quantity
from building.variables import Role, Variable

USABLE = ("good", "clipped", "late")
UNUSABLE = ("out_of_range", "unit_suspect", "stuck", "stale", "clock_jump")
FLAGS = USABLE + UNUSABLE

LATE_H = 3.0
"""A mean of an hour, stamped at its start, comes after one hour and a bit; three are an outage."""
STUCK_H = 24.0
"""No real air stays the same to the last digit for a day."""
STUCK_LEAST = 24
"""Readings that must repeat before a sensor is called stuck."""
CLOCK_STEP_S = 60.0
"""Our clock and the steady one may part by so much between two messages; more is a jump. NTP slews less."""
CLOCK_DOUBT_S = 600.0
"""So long after a jump a stamp of our clock is doubted: it may be set again."""
HOLD_H = 24.0
"""A sender that speaks on change is believed so long after it spoke."""
COUNTER_GAP_H = 6.0
"""Between two readings of a counter further apart, nobody knows which hour took the energy."""

Rule = Literal["mean", "last", "hold", "hold_last", "counter"]
RULES: tuple[Rule, ...] = ("mean", "last", "hold", "hold_last", "counter")

_HOUR_MS = 3_600_000
_VARIES = (TEMPERATURE, CO2, HUMIDITY_RATIO, RELATIVE_HUMIDITY, PRESSURE, WIND_SPEED, POWER)
_BELIEVED = (Role.SETTING, Role.OCCUPANCY)  # may stay the same for days


def may_stick(variable: Variable) -> bool:
    """Say whether a day without the least change is a fault of the sensor."""
    return variable.quantity in _VARIES and variable.role not in _BELIEVED


def units_that_fit(quantity: Quantity, told: float, low: float, high: float, declared: str) -> list[str]:
    """Return the units of `quantity`, other than the declared one, in which the number `told` lies within low .. high."""
    found: dict[float, str] = {}
    wrong = float(quantity.from_unit(told, declared))
    for unit in (quantity.unit, *quantity.edges):
        inside = float(quantity.from_unit(told, unit))
        if low <= inside <= high and inside != wrong:
            found.setdefault(inside, unit)
    return list(found.values())


@dataclass(slots=True)
class _Run:
    """A value repeated by one variable."""

    value: float
    since_ms: int
    last_ms: int
    n: int


class Watch:
    """What only the run of readings shows: stuck sensors, late readings, jumps of our own clock.

    Args:
        variables: those measured, by name.
    """

    def __init__(self, variables: dict[str, Variable]) -> None:
        self._may_stick = {name: v for name, v in variables.items() if may_stick(v)}
        self._runs: dict[str, _Run] = {}
        self._before: tuple[float, float] | None = None  # our clock, the steady clock [s]
        self._doubted_until_s = -math.inf

    def tick(self, wall_s: float, steady_s: float) -> bool:
        """Compare our clock with one that nobody sets; return whether ours has just jumped.

        Args:
            wall_s: our clock (epoch).
            steady_s: `time.monotonic()`.
        """
        before, self._before = self._before, (wall_s, steady_s)
        if before is None or abs((wall_s - before[0]) - (steady_s - before[1])) <= CLOCK_STEP_S:
            return False
        self._doubted_until_s = steady_s + CLOCK_DOUBT_S
        return True

    def flag(self, variable: str, stamp_ms: int, value: float, received_ms: int, flag: str, is_stamped_by_us: bool) -> str:
        """Return the flag of a reading, `flag` being what the reading alone deserves."""
        if flag not in USABLE:
            return flag
        if self._is_stuck(variable, stamp_ms, value):
            return "stuck"
        if is_stamped_by_us:
            if self._before is not None and self._before[1] < self._doubted_until_s:
                return "clock_jump"
            return flag
        return "late" if received_ms - stamp_ms > LATE_H * _HOUR_MS else flag

    def _is_stuck(self, variable: str, stamp_ms: int, value: float) -> bool:
        v = self._may_stick.get(variable)
        if v is None:
            return False
        run = self._runs.get(variable)
        if run is None or run.value != value:
            # What came late and is older than the run says nothing about now.
            if run is None or stamp_ms > run.last_ms:
                self._runs[variable] = _Run(value, stamp_ms, stamp_ms, 1)
            return False
        if stamp_ms <= run.last_ms:
            return False
        run.last_ms, run.n = stamp_ms, run.n + 1
        if value == 0.0 or value in (v.low, v.high):
            return False  # off, calm, or a sensor at the end of its scale that the bounds speak of
        return run.n > STUCK_LEAST and stamp_ms - run.since_ms >= STUCK_H * _HOUR_MS


def resample(
    rule: Rule,
    stamps_ms: NDArray[np.int64],
    values: NDArray[np.float64],
    is_usable: NDArray[np.bool_],
    hours_ms: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Make hours of the readings of one variable.

    Args:
        rule: ``mean``: of the readings in the hour (temperatures, powers that are sent at a steady pace). ``last``: the last of
            the hour (states, setpoints). ``hold``: the sender speaks on change; the mean over time of the value in force.
            ``hold_last``: the value in force at the end of the hour (a state on change). ``counter``: readings of an energy
            counter [kWh]; the mean power [W] of the hour from the difference over it; a count that falls began again at 0.
        stamps_ms: rising, UTC.
        values: beside them.
        is_usable: beside them; a reading that is not says nothing, but ends what is held.
        hours_ms: starts of consecutive hours, UTC.

    Returns:
        One value per hour, NaN where nothing is known.
    """
    if rule == "counter":
        return _counted(stamps_ms[is_usable], values[is_usable], hours_ms)
    if rule in ("hold", "hold_last"):
        return _held(rule, stamps_ms, values, is_usable, hours_ms)
    stamps_ms, values = stamps_ms[is_usable], values[is_usable]
    place = (stamps_ms - hours_ms[0]) // _HOUR_MS if len(hours_ms) else stamps_ms
    inside = (place >= 0) & (place < len(hours_ms))
    place, values = place[inside], values[inside]
    out = np.full(len(hours_ms), np.nan)
    if rule == "last":
        out[place] = values  # in order: the last of an hour stays
        return out
    n = np.bincount(place, minlength=len(hours_ms))
    total = np.bincount(place, weights=values, minlength=len(hours_ms))
    out[n > 0] = total[n > 0] / n[n > 0]
    return out


def _held(
    rule: Rule,
    stamps_ms: NDArray[np.int64],
    values: NDArray[np.float64],
    is_usable: NDArray[np.bool_],
    hours_ms: NDArray[np.int64],
) -> NDArray[np.float64]:
    out = np.full(len(hours_ms), np.nan)
    if not len(stamps_ms) or not len(hours_ms):
        return out
    hold_ms = int(HOLD_H * _HOUR_MS)
    ends = np.minimum(np.append(stamps_ms[1:], np.iinfo(np.int64).max), stamps_ms + hold_ms)
    if rule == "hold_last":
        place = np.searchsorted(stamps_ms, hours_ms + _HOUR_MS, side="left") - 1  # the last before the hour ends
        known = place >= 0
        place = np.maximum(place, 0)
        known &= is_usable[place] & (ends[place] > hours_ms)
        out[known] = values[place[known]]
        return out
    a, b, v = stamps_ms[is_usable], ends[is_usable], values[is_usable]
    if not len(a):
        return out
    x = np.column_stack([a, b]).ravel()
    length = np.column_stack([np.zeros_like(a), b - a]).ravel()
    area = np.column_stack([np.zeros(len(a)), (b - a) * v]).ravel()
    edges = np.append(hours_ms, hours_ms[-1] + _HOUR_MS)
    covered = np.diff(np.interp(edges, x, np.cumsum(length)))
    total = np.diff(np.interp(edges, x, np.cumsum(area)))
    known = covered > 0.5  # milliseconds
    out[known] = total[known] / covered[known]
    return out


def _counted(stamps_ms: NDArray[np.int64], counts: NDArray[np.float64], hours_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.full(len(hours_ms), np.nan)
    if len(stamps_ms) < 2 or not len(hours_ms):
        return out
    rose = np.diff(counts)
    total = np.append(0.0, np.cumsum(np.where(rose >= 0, rose, counts[1:])))
    edges = np.append(hours_ms, hours_ms[-1] + _HOUR_MS)
    at_edge = np.interp(edges, stamps_ms, total, left=np.nan, right=np.nan)
    out[:] = np.diff(at_edge) * 1e3
    # An hour that a long silence touches: its energy is known only together with that of its neighbours.
    silent = np.diff(stamps_ms) > COUNTER_GAP_H * _HOUR_MS
    for start, end in zip(stamps_ms[:-1][silent], stamps_ms[1:][silent], strict=True):
        out[(hours_ms + _HOUR_MS > start) & (hours_ms < end)] = np.nan
    return out
