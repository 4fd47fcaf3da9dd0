"""Plan: BMS settings over time. WeekProfile: a schedule per day type that unrolls to a plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import (
    IrregularTimeError,
    MissingColumnError,
    NotFiniteError,
    OutsideBoundsError,
    SetpointsCrossError,
    ShapeError,
)
from building.timeline import DAY_TYPES, check_steps, day_type_of
from building.variables import Signature

Array = NDArray[np.float64]

DEADBAND_K = 1.0
"""The heating setpoint stays at least this far under the cooling setpoint: EnergyPlus stops on a crossing, so would a plant."""

STEPS_MIN = (15, 60)
"""The steps a plan may have."""


@dataclass(frozen=True)
class Plan:
    """Settings for each step of a period.

    Attributes:
        frame: UTC index in steps of 15 or 60 min, one column per setting, inside units.
        origin: where it comes from: ``own`` (the building's own schedule), ``optimised``, ``rules``, ``override``.
        issued: when it was made (UTC), or None.

    Raises:
        IrregularTimeError, NotFiniteError: a broken frame; no step at all; a step other than STEPS_MIN.
        SetpointsCrossError: heating less than `DEADBAND_K` under cooling.
    """

    frame: pd.DataFrame
    origin: str = "own"
    issued: pd.Timestamp | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.frame) == 0:
            raise IrregularTimeError(what="the plan", step_min=60, where="its start", reason="it holds no step")
        check_steps(self.frame.index, self.step_min, "the plan")
        if self.step_min not in STEPS_MIN:
            reason = f"the step is {self.step_min} min, not one of {STEPS_MIN}"
            raise IrregularTimeError(what="the plan", step_min=60, where=self.start, reason=reason)
        for name in self.frame.columns:
            bad = ~np.isfinite(self.frame[name].to_numpy(dtype=float))
            if bad.any():
                raise NotFiniteError(what="the plan", n_bad=int(bad.sum()), column=name, where=self.frame.index[bad.argmax()])
        if {"heating_setpoint", "cooling_setpoint"} <= set(self.frame.columns):
            gap = (self.frame["cooling_setpoint"] - self.frame["heating_setpoint"]).to_numpy()
            if (gap < DEADBAND_K - 1e-6).any():
                i = int(gap.argmin())
                raise SetpointsCrossError(
                    where=self.frame.index[i],
                    heating=float(self.frame["heating_setpoint"].iloc[i]),
                    cooling=float(self.frame["cooling_setpoint"].iloc[i]),
                    deadband=DEADBAND_K,
                )

    @property
    def step_min(self) -> int:
        """Minutes per step: 15 or 60."""
        index = self.frame.index
        return 60 if len(index) < 2 else int((index[1] - index[0]) / pd.Timedelta(minutes=1))

    @property
    def start(self) -> pd.Timestamp:
        """First instant the plan covers (UTC)."""
        return pd.Timestamp(self.frame.index[0])

    @property
    def end(self) -> pd.Timestamp:
        """First instant the plan no longer covers (UTC)."""
        return pd.Timestamp(self.frame.index[-1]) + pd.Timedelta(minutes=self.step_min)

    def at(self, instant: pd.Timestamp) -> dict[str, float] | None:
        """Return the settings in force at `instant`, or None outside the period."""
        if not self.start <= instant < self.end:
            return None
        row = self.frame.iloc[self.frame.index.searchsorted(instant, side="right") - 1]
        return {str(k): float(v) for k, v in row.items()}

    def hourly(self) -> pd.DataFrame:
        """Return hourly means, what a metamodel is asked with."""
        return self.frame if self.step_min == 60 else self.frame.resample("60min").mean()

    def check(self, settings: Signature) -> None:
        """Raise MissingColumnError or OutsideBoundsError where the plan is not one of these settings within their bounds."""
        missing = [n for n in settings.names if n not in self.frame.columns]
        if missing:
            raise MissingColumnError(what="the plan", n_missing=len(missing), n_wanted=len(settings), missing=", ".join(missing))
        for v in settings:
            low, high = float(self.frame[v.name].min()), float(self.frame[v.name].max())
            if low < v.low - 1e-6 or high > v.high + 1e-6:
                value = low if low < v.low else high
                raise OutsideBoundsError(variable=v.name, value=value, low=v.low, high=v.high, unit=v.quantity.unit)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `from_dict`."""
        return {
            "origin": self.origin,
            "issued": None if self.issued is None else self.issued.isoformat(),
            "start": self.start.isoformat(),
            "step_min": self.step_min,
            "settings": {str(n): [round(float(x), 6) for x in self.frame[n]] for n in self.frame.columns},
            "meta": dict(self.meta),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Plan:
        """Rebuild a Plan from `to_dict`'s data."""
        n = len(next(iter(data["settings"].values())))
        index = pd.date_range(pd.Timestamp(data["start"]), periods=n, freq=f"{data['step_min']}min")
        issued = None if data.get("issued") is None else pd.Timestamp(data["issued"])
        return Plan(pd.DataFrame(data["settings"], index=index), data["origin"], issued, data.get("meta", {}))


@dataclass(frozen=True)
class WeekProfile:
    """A schedule that repeats each week: for each day type and local clock step, the value of each column.

    Attributes:
        columns: names, in order.
        values: shape (3 day types, steps per day, columns), inside units; day types as in `timeline.DAY_TYPES`.
    """

    columns: tuple[str, ...]
    values: Array

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 3 or shape[0] != len(DAY_TYPES) or shape[1] not in (24, 96) or shape[2] != len(self.columns):
            raise ShapeError(what="a week profile", shape=shape, wanted=f"(3, 24 or 96, {len(self.columns)})")

    def unroll(self, index: pd.DatetimeIndex, time_zone: str, holidays: Collection[date] = ()) -> pd.DataFrame:
        """Return the profile on a UTC index.

        The local wall clock decides, so a daylight-saving day repeats or skips an hour of the profile as people do.

        Args:
            index: UTC stamps.
            time_zone: IANA name of the building's time zone.
            holidays: dates that run as Sundays.
        """
        return pd.DataFrame(self.lookup(index, time_zone, holidays), index=index, columns=list(self.columns))

    def lookup(self, index: pd.DatetimeIndex, time_zone: str, holidays: Collection[date] = ()) -> Array:
        """Return the profile on a UTC index as an array (time, columns)."""
        day, step = week_places(index, time_zone, self.values.shape[1], holidays)
        return self.values[day, step]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON or TOML data, read back by `from_dict`."""
        return {
            column: {day: [round(float(x), 6) for x in self.values[d, :, c]] for d, day in enumerate(DAY_TYPES)}
            for c, column in enumerate(self.columns)
        }

    @staticmethod
    def from_dict(data: Mapping[str, Mapping[str, list[float]]]) -> WeekProfile:
        """Rebuild a WeekProfile from `to_dict`'s data."""
        columns = tuple(data)
        values = np.array([[data[c][day] for c in columns] for day in DAY_TYPES], dtype=float)
        return WeekProfile(columns, values.transpose(0, 2, 1))


def week_places(
    index: pd.DatetimeIndex, time_zone: str, steps_per_day: int = 24, holidays: Collection[date] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each UTC stamp, its day type and its local step of the day: where a week profile is read."""
    local = index.tz_convert(time_zone)
    minute = local.hour.to_numpy() * 60 + local.minute.to_numpy()
    return day_type_of(local, holidays), np.asarray(minute * steps_per_day // 1440, dtype=np.int64)
