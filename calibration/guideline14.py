"""ASHRAE Guideline 14 figures for calibrated simulation, and the rule by which a calibration is accepted.

Errors are simulated - measured: a positive NMBE is over-prediction. Both figures are shares of the measured mean, with n - p
in the denominator and p = 1 for a simulation (Guideline 14-2014, section 5.2.11.3; Ruiz and Bandera (2017), Energies 10,
1587, on the signs in use).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """Greatest CV(RMSE) and absolute NMBE, as shares."""

    cv_rmse: float
    nmbe: float


HOURLY = Limits(cv_rmse=0.30, nmbe=0.10)
"""ASHRAE Guideline 14-2014, calibrated simulation, hourly data; FEMP M&V 4.0 has the same."""
MONTHLY = Limits(cv_rmse=0.15, nmbe=0.05)

LEAST_HOURS_PER_DAY = 18
"""A day with fewer good hours is no day; the daily figures leave it out."""
LEAST_MEAN_OVER_PEAK = 0.1
"""Heating and cooling are judged where their mean is at least a tenth of their peak (issue 2): in summer nobody is judged on
heating."""


def cv_rmse(measured: Array, simulated: Array, p: int = 1) -> float:
    """Return CV(RMSE) = sqrt(sum (s - m)^2 / (n - p)) / mean(m), a share; NaN when n <= p or the mean is not positive.

    Args:
        measured, simulated: shape (n,), pairs with a NaN are left out.
        p: number of adjusted parameters in the statistic; 1 for a simulation.
    """
    m, s = _pairs(measured, simulated)
    if len(m) <= p or m.mean() <= 0:
        return float("nan")
    return float(np.sqrt(((s - m) ** 2).sum() / (len(m) - p)) / m.mean())


def nmbe(measured: Array, simulated: Array, p: int = 1) -> float:
    """Return NMBE = sum (s - m) / ((n - p) mean(m)), a share, positive for over-prediction; NaN as in `cv_rmse`."""
    m, s = _pairs(measured, simulated)
    if len(m) <= p or m.mean() <= 0:
        return float("nan")
    return float((s - m).sum() / ((len(m) - p) * m.mean()))


def daily_means(values: Array, index: pd.DatetimeIndex, time_zone: str) -> Array:
    """Return the mean of each local day that has at least `LEAST_HOURS_PER_DAY` good hours, else NaN; shape (days,)."""
    by_day = pd.Series(values).groupby(index.tz_convert(time_zone).date)
    return np.asarray(by_day.mean().where(by_day.count() >= LEAST_HOURS_PER_DAY), dtype=float)


@dataclass(frozen=True)
class EnergyFigure:
    """Guideline 14 figures of one energy channel.

    Attributes:
        name: what was compared.
        n_hours: pairs.
        cv_rmse, nmbe: hourly, shares.
        cv_rmse_daily, nmbe_daily: of daily means, shares; for information, the standard has no limits for days.
        mean_over_peak: of the measured series.
        is_judged: whether the verdict depends on it.
        passes: whether both hourly figures are within `HOURLY`.
    """

    name: str
    n_hours: int
    cv_rmse: float
    nmbe: float
    cv_rmse_daily: float
    nmbe_daily: float
    mean_over_peak: float
    is_judged: bool
    passes: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; a figure that does not exist is None."""
        return _without_nan(asdict(self))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> EnergyFigure:
        """Rebuild from `to_dict`'s data."""
        return EnergyFigure(**_with_nan(data))


def energy_figure(
    name: str, measured: Array, simulated: Array, index: pd.DatetimeIndex, time_zone: str, always: bool
) -> EnergyFigure:
    """Compare one energy channel.

    Args:
        name: what is compared.
        measured: hourly [W], NaN in gaps, shape (time,).
        simulated: hourly [W], same shape.
        index: UTC stamps of both.
        time_zone: whose days the daily figures take.
        always: judge it whatever its mean; else only from `LEAST_MEAN_OVER_PEAK` on.
    """
    both = np.isfinite(measured) & np.isfinite(simulated)
    m = np.where(both, measured, np.nan)
    s = np.where(both, simulated, np.nan)
    peak = float(np.nanmax(m)) if both.any() else 0.0
    mean_over_peak = float(np.nanmean(m)) / peak if peak > 0 else 0.0
    hourly = cv_rmse(m, s), nmbe(m, s)
    days = daily_means(m, index, time_zone), daily_means(s, index, time_zone)
    return EnergyFigure(
        name=name,
        n_hours=int(both.sum()),
        cv_rmse=hourly[0],
        nmbe=hourly[1],
        cv_rmse_daily=cv_rmse(*days),
        nmbe_daily=nmbe(*days),
        mean_over_peak=mean_over_peak,
        is_judged=always or mean_over_peak >= LEAST_MEAN_OVER_PEAK,
        passes=bool(hourly[0] <= HOURLY.cv_rmse and abs(hourly[1]) <= HOURLY.nmbe),
    )


def energy_channels(measured_names: Sequence[str]) -> dict[str, tuple[tuple[str, ...], bool]]:
    """Return what is judged, from the outputs that were measured.

    Args:
        measured_names: names of the measured outputs.

    Returns:
        By name of the figure: the outputs that are added up, and whether it is judged always. Facility electricity always;
        heating is the gas coil plus reheat; cooling is the coil, or its electricity where only that is metered.
    """
    there = set(measured_names)
    heating = tuple(n for n in ("gas_coil_heat", "electric_reheat_heat") if n in there)
    cooling = next(((n,) for n in ("coil_cooling", "cooling_electricity") if n in there), ())
    wanted = {"facility_electricity": (("facility_electricity",), True), "heating": (heating, False), "cooling": (cooling, False)}
    return {name: (parts, always) for name, (parts, always) in wanted.items() if parts and set(parts) <= there}


@dataclass(frozen=True)
class IndoorFigure:
    """Errors of one indoor channel, in its own unit (CV(RMSE) of degC means nothing: the zero moves)."""

    name: str
    unit: str
    n_hours: int
    mae: float
    rmse: float
    bias: float  # simulated - measured

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; a figure that does not exist is None."""
        return _without_nan(asdict(self))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> IndoorFigure:
        """Rebuild from `to_dict`'s data."""
        return IndoorFigure(**_with_nan(data))


def indoor_figure(name: str, unit: str, measured: Array, simulated: Array) -> IndoorFigure:
    """Compare one indoor channel, shape (time,); pairs with a NaN are left out. NaN figures when nothing is left."""
    m, s = _pairs(measured, simulated)
    if not len(m):
        return IndoorFigure(name, unit, 0, float("nan"), float("nan"), float("nan"))
    error = s - m
    return IndoorFigure(name, unit, len(m), float(np.abs(error).mean()), float(np.sqrt((error**2).mean())), float(error.mean()))


def _without_nan(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in data.items()}


def _with_nan(data: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float("nan") if v is None else v for k, v in data.items()}


def _pairs(measured: Array, simulated: Array) -> tuple[Array, Array]:
    m, s = np.asarray(measured, dtype=float), np.asarray(simulated, dtype=float)
    both = np.isfinite(m) & np.isfinite(s)
    return m[both], s[both]
