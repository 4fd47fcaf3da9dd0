"""Steps, horizons, time zones and day types. UTC inside; local wall-clock time only to ask what people and schedules do.

A stamp is the *start* of its step: the row 2026-01-05T08:00Z of an hourly frame is the mean over 08:00-09:00 UTC.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import IrregularTimeError

DAY_TYPES = ("weekday", "saturday", "sunday")
WARM_UP_H = 168
"""A building remembers about a week: so much past is given before the hours that count."""


def steps(start: pd.Timestamp, n_steps: int, step_min: int = 60) -> pd.DatetimeIndex:
    """Return `n_steps` UTC stamps from `start` (time-zone aware) on.

    Raises:
        IrregularTimeError: `start` carries no time zone.
    """
    if start.tzinfo is None:
        raise IrregularTimeError(what="the start", step_min=step_min, where=start, reason="it has no time zone")
    return pd.date_range(start.tz_convert("UTC"), periods=n_steps, freq=f"{step_min}min")


def check_steps(index: pd.Index, step_min: int = 60, what: str = "the frame") -> pd.DatetimeIndex:
    """Return `index` if it is a regular UTC index.

    Raises:
        IrregularTimeError: no time zone, another time zone, or a step other than `step_min`.
    """
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or str(index.tz) != "UTC":
        where = index[0] if len(index) else "its start"
        raise IrregularTimeError(what=what, step_min=step_min, where=where, reason="the index is not in UTC")
    widths = np.diff(index.asi8)
    if len(widths):
        one = pd.Timedelta(minutes=step_min) // pd.Timedelta(1, unit=index.unit)
        bad = np.flatnonzero(widths != one)
        if len(bad):
            step = index[bad[0] + 1] - index[bad[0]]
            raise IrregularTimeError(what=what, step_min=step_min, where=index[bad[0] + 1], reason=f"the step there is {step}")
    return index


def day_type_of(local: pd.DatetimeIndex, holidays: Collection[date] = ()) -> NDArray[np.int64]:
    """Return the place in DAY_TYPES of each local stamp; a holiday is a Sunday.

    Args:
        local: stamps in the building's own time zone (daylight saving included).
        holidays: dates that run as Sundays.
    """
    kind = np.clip(local.day_of_week.to_numpy() - 4, 0, 2)
    if holidays:
        kind = np.where(np.isin(local.date, np.array(list(holidays), dtype=object)), 2, kind)
    return np.asarray(kind, dtype=np.int64)
