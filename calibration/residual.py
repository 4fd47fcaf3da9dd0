"""The present: the last measured-minus-predicted errors carried into a forecast.

A predictor sees boundary conditions only. What it gets wrong today it will mostly get wrong tomorrow, so per variable a
forecast is corrected by

    offset(t0 + h) = s P(hour) + exp(-h / tau) (e_last - s P(hour_last))

where e_last is the mean of the last good errors (measured - predicted, at most `LAST_H` hours), P the mean error of each
local hour of the day over the last week (shrunk towards zero by one day of zeros), tau the fitted time constant and s the
fitted share of the daily pattern. Powers take no pattern: it belongs to the schedule that was, not to the plan that comes;
and their offset is held within the predicted power, so that what is off stays off and nothing becomes negative.

Legend of shapes: b batch, t time, o output, c channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import TooFewDataError
from building.variables import Role, Signature

Array = NDArray[np.float64]

LAST_H = 3
STALE_H = 6
"""Without an error in the last so many hours a variable has no present, only its pattern."""
PATTERN_DAYS = 7
SPREAD_SHARE = 0.9
"""Share of the recent hours that an interval of this building shall hold."""
LEAD_H = 24
"""Time constants are fitted on forecasts of one to so many hours ahead."""
TIME_CONSTANTS_H = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 336.0)
PATTERN_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Fading:
    """How the errors of one variable carry into its forecast.

    Attributes:
        time_constant_h: tau; 0 carries nothing.
        pattern_share: s.
    """

    time_constant_h: float
    pattern_share: float


@dataclass(frozen=True)
class ResidualModel:
    """Fadings by output name, and the local clock the patterns follow. An output that is not there is never corrected."""

    fadings: Mapping[str, Fading]
    time_zone: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `from_dict`."""
        return {"time_zone": self.time_zone, "fadings": {n: asdict(f) for n, f in self.fadings.items()}}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ResidualModel:
        """Rebuild from `to_dict`'s data."""
        return ResidualModel({n: Fading(**f) for n, f in data["fadings"].items()}, data["time_zone"])


@dataclass(frozen=True)
class Correction:
    """A residual model applied to one horizon: call it on predictions.

    Attributes:
        outputs: signature of the predictions.
        offset_to: what is added, shape (time, outputs).
    """

    outputs: Signature
    offset_to: Array

    def __call__(self, y_bto: Array) -> Array:
        """Return corrected predictions, shape (batch, time, outputs); at most as many hours as the horizon has."""
        offset_to = self.offset_to[: y_bto.shape[1]]
        is_power = np.array([v.role is Role.CONSUMPTION for v in self.outputs])
        room = np.where(is_power, np.maximum(y_bto, 0.0), np.inf)
        return np.asarray(y_bto + np.clip(offset_to, -room, room))


def fit_residual(errors: pd.DataFrame, channels: Signature, time_zone: str) -> ResidualModel:
    """Fit time constant and pattern share of each channel by forecasting the errors from every third hour.

    Args:
        errors: measured - predicted, hourly, UTC, NaN in gaps; a column per channel.
        channels: the columns to fit.
        time_zone: IANA name.

    Raises:
        TooFewDataError: less than three days.
    """
    e_tc = errors[list(channels.names)].to_numpy(dtype=float)
    if len(e_tc) < 3 * LEAD_H:
        raise TooFewDataError(what="the errors", found=float(len(e_tc)), wanted=3.0 * LEAD_H, hint="Fit the residual later.")
    hour = _local_hour(pd.DatetimeIndex(errors.index), time_zone)
    origins = range(LEAD_H, len(e_tc) - LEAD_H + 1, 3)
    grid = [(tau, s) for tau in TIME_CONSTANTS_H for s in PATTERN_SHARES]
    shares = np.array([s for _, s in grid])
    fade_gl = np.stack([_fade(tau, np.arange(1, LEAD_H + 1)) for tau, _ in grid])
    squares = np.zeros((len(grid), e_tc.shape[1]))
    n_pairs = np.zeros(e_tc.shape[1])
    for o in origins:
        last_c, pattern_last_c, pattern_lc = _present(e_tc, hour, o, hour[o : o + LEAD_H])
        target_lc = e_tc[o : o + LEAD_H]
        good = np.isfinite(target_lc)
        gap_gc = last_c - shares[:, None] * pattern_last_c
        offset_glc = shares[:, None, None] * pattern_lc + fade_gl[:, :, None] * gap_gc[:, None, :]
        squares += (np.where(good, target_lc - offset_glc, 0.0) ** 2).sum(axis=1)
        n_pairs += good.sum(axis=0)
    fadings = {}
    for c, v in enumerate(channels):
        allowed = shares == 0 if v.role is Role.CONSUMPTION else np.ones(len(grid), dtype=bool)
        best = int(np.where(allowed, squares[:, c], np.inf).argmin()) if n_pairs[c] else 0
        fadings[v.name] = Fading(*grid[best])
    return ResidualModel(fadings, time_zone)


def correction(model: ResidualModel, errors: pd.DataFrame, outputs: Signature, horizon: pd.DatetimeIndex) -> Correction:
    """Return the correction of a forecast.

    Args:
        model: fitted residual model.
        errors: measured - predicted of the recent past (a week is used), hourly, UTC, NaN in gaps, ending where the horizon
            begins (or before: the time in between fades the errors as well). Columns that are missing are not corrected.
        outputs: signature of the predictions.
        horizon: UTC stamps of the forecast.
    """
    offset_to = np.zeros((len(horizon), len(outputs)))
    names = [n for n in outputs.names if n in model.fadings and n in errors]
    if not names or not len(errors) or not len(horizon):
        return Correction(outputs, offset_to)
    index = pd.DatetimeIndex(errors.index)
    lead = np.asarray((horizon - index[-1]) / pd.Timedelta(hours=1), dtype=float)
    future_hour = _local_hour(horizon, model.time_zone)
    last_c, pattern_last_c, pattern_tc = _present(
        errors[names].to_numpy(dtype=float), _local_hour(index, model.time_zone), len(errors), future_hour
    )
    for c, name in enumerate(names):
        fading = model.fadings[name]
        s = fading.pattern_share
        offset = s * pattern_tc[:, c] + _fade(fading.time_constant_h, lead) * (last_c[c] - s * pattern_last_c[c])
        offset_to[:, outputs.position(name)] = offset
    return Correction(outputs, offset_to)


def day_ahead_rmse(
    model: ResidualModel, errors: pd.DataFrame, predicted: pd.DataFrame, outputs: Signature, first: int, every_h: int = 6
) -> dict[str, tuple[float, float]]:
    """Return, per corrected output, the RMSE 1-24 h ahead without and with the correction.

    Args:
        model: fitted residual model.
        errors: measured - predicted, hourly, NaN in gaps.
        predicted: the predictions, same index and columns (powers are held within them).
        outputs: signature of the predictions.
        first: row of the first forecast; earlier rows are only past.
        every_h: hours between forecasts.
    """
    names = [n for n in outputs.names if n in model.fadings and n in errors]
    some = outputs.only(names)
    free, corrected = [], []
    for o in range(first, len(errors) - LEAD_H + 1, every_h):
        ahead = pd.DatetimeIndex(errors.index[o : o + LEAD_H])
        past = errors[names].iloc[max(0, o - 24 * PATTERN_DAYS) : o]
        y_tc = predicted[names].iloc[o : o + LEAD_H].to_numpy(dtype=float)
        e_tc = errors[names].iloc[o : o + LEAD_H].to_numpy(dtype=float)
        free.append(e_tc)
        corrected.append(e_tc + y_tc - correction(model, past, some, ahead)(y_tc[None])[0])
    if not free:
        return {}
    out = {}
    for c, name in enumerate(names):
        before, after = (np.concatenate([e[:, c] for e in es]) for es in (free, corrected))
        good = np.isfinite(before)
        if good.any():
            out[name] = (float(np.sqrt((before[good] ** 2).mean())), float(np.sqrt((after[good] ** 2).mean())))
    return out


def site_spread(errors_to: Array, y_to: Array, low_to: Array, high_to: Array, outputs: Signature) -> Array:
    """Return by how much the errors of one building ask for wider intervals than those of the simulator, shape (outputs,).

    The intervals of a bundle hold simulated buildings; a real one differs, calibrated or not. The half-width h becomes
    sqrt(h^2 + (w s)^2) (`widen`), s = 1 for what is indoors and the predicted power for powers, with the least w for which
    `SPREAD_SHARE` of the hours given lie inside. Errors of one building are alike from hour to hour: of another week this
    holds only as far as that week is like these hours.

    Args:
        errors_to: measured - predicted, NaN where nothing was read. Outputs with less than a day of readings get 0.
        y_to, low_to, high_to: predictions and the ends of their intervals, without correction.
        outputs: signature of the columns.
    """
    half_to = np.where(errors_to < 0, y_to - low_to, high_to - y_to)
    beyond_to = np.sqrt(np.maximum(errors_to**2 - half_to**2, 0.0))
    found = np.zeros(len(outputs))
    for o, v in enumerate(outputs):
        size_t = np.maximum(y_to[:, o], 0.0) if v.role is Role.CONSUMPTION else np.ones(len(y_to))
        counts_t = np.isfinite(errors_to[:, o]) & (size_t > 0)
        if counts_t.sum() >= LEAD_H:
            found[o] = np.quantile(beyond_to[counts_t, o] / size_t[counts_t], SPREAD_SHARE)
    return found


def widen(y_to: Array, below_to: Array, above_to: Array, spread_o: Array, outputs: Signature) -> tuple[Array, Array]:
    """Return the ends of intervals widened by `site_spread`, within the outputs' bounds.

    Args:
        y_to: predictions, corrected or not.
        below_to, above_to: half-widths of the bundle's intervals, not negative.
        spread_o: see `site_spread`.
        outputs: signature of the columns.
    """
    is_power = np.array([v.role is Role.CONSUMPTION for v in outputs])
    extra_to = spread_o * np.where(is_power, np.maximum(y_to, 0.0), 1.0)
    low, high = np.array([v.low for v in outputs]), np.array([v.high for v in outputs])
    return np.clip(y_to - np.hypot(below_to, extra_to), low, high), np.clip(y_to + np.hypot(above_to, extra_to), low, high)


def _fade(tau: float, lead: Array | NDArray[np.int64]) -> Array:
    return np.exp(-lead / tau) if tau > 0 else np.zeros(len(lead))


def _local_hour(index: pd.DatetimeIndex, time_zone: str) -> NDArray[np.int64]:
    return np.asarray(index.tz_convert(time_zone).hour, dtype=np.int64)


def _present(e_tc: Array, hour: NDArray[np.int64], now: int, future_hour: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Return the last errors, the pattern at those same hours, and the pattern over the hours to come.

    Args:
        e_tc: errors, NaN in gaps.
        hour: local hour of each row.
        now: the first row that is not yet known.
        future_hour: local hours to come, shape (lead,).

    Returns:
        Shapes (channels,), (channels,), (lead, channels).
    """
    week = slice(max(0, now - 24 * PATTERN_DAYS), now)
    good = np.isfinite(e_tc[week])
    e = np.where(good, e_tc[week], 0.0)
    is_hour = (hour[week][None, :] == np.arange(24)[:, None]).astype(float)
    pattern_hc = (is_hour @ e) / (is_hour @ good + 1.0)
    # Of the last STALE_H hours the latest LAST_H good ones count.
    recent = slice(max(week.start, now - STALE_H), now)
    good = np.isfinite(e_tc[recent])
    counted = good & (np.cumsum(good[::-1], axis=0)[::-1] <= LAST_H)
    n = np.maximum(counted.sum(axis=0), 1)
    last = np.where(counted, e_tc[recent], 0.0).sum(axis=0) / n
    pattern_last = np.where(counted, pattern_hc[hour[recent]], 0.0).sum(axis=0) / n
    return last, pattern_last, pattern_hc[future_hour]
