"""Observation: what a building was seen to do, cleaned, weighed and divided into hours to fit and hours to be judged on.

Legend of shapes: t time, c channel (a measured output).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.checks import brought_inside
from building.errors import MissingColumnError, TooFewDataError
from building.scenario import Scenario
from building.timeline import WARM_UP_H, check_steps
from building.units import Quantity
from building.variables import Role, Signature, Variable

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Accuracy:
    """How far a reading and a good model of it may lie apart.

    Attributes:
        sensor: noise of one hourly reading, inside unit.
        sensor_share: noise as a share of the reading.
        model: error floor of a good model, inside unit.
        model_share: error floor as a share of the channel's 95th percentile.
    """

    sensor: float
    sensor_share: float
    model: float
    model_share: float


ACCURACY: dict[str, Accuracy] = {
    "temperature": Accuracy(sensor=0.2, sensor_share=0.0, model=0.3, model_share=0.0),
    "co2": Accuracy(sensor=30.0, sensor_share=0.0, model=30.0, model_share=0.0),
    "humidity_ratio": Accuracy(sensor=3e-4, sensor_share=0.0, model=3e-4, model_share=0.0),
    "power": Accuracy(sensor=0.0, sensor_share=0.02, model=0.0, model_share=0.05),
}
"""By quantity. The sensor noise is that of issue 2 (0.2 K, 30 ppm, 2 %); the model floors are what the shipped metamodels are
held to, and keep a channel that the model cannot follow exactly from drowning the others."""

STUCK_H = 24
"""An indoor reading that repeats to the last digit this long is a stuck sensor."""
STUCK_POWER_H = 72
"""The same for a power that is not zero; a coil may rest at zero for a season."""
SERIES = (Role.WEATHER, Role.OCCUPANCY, Role.SETTING)
LEAST_SHARE = 0.5
"""A channel with fewer good hours than this is dropped, and a setting counts as not measured."""


@dataclass(frozen=True)
class Rules:
    """How a measured frame becomes an observation.

    Attributes:
        warm_up_h: leading hours that only give the predictor its past.
        window_h: at most the last so many hours of the frame are used; what the shipped metamodels were trained on.
        held_out_days: last days of the frame, kept out of the fit and used for the verdict.
        least_fit_h, least_held_out_h: good hours needed. A good hour has at least half of the channels.
        max_gap_h: inputs are bridged over any gap, but hours in a gap longer than this, and a day after, are not judged.
    """

    warm_up_h: int = WARM_UP_H
    window_h: int = 840
    held_out_days: int = 7
    least_fit_h: int = 168
    least_held_out_h: int = 48
    max_gap_h: int = 6

    @property
    def least_h(self) -> int:
        """Hours without which no observation is made."""
        return self.warm_up_h + self.least_fit_h + self.least_held_out_h


USUAL_RULES = Rules()


@dataclass(frozen=True)
class Observation:
    """What was measured, hour by hour.

    Attributes:
        scenario: the measured boundary conditions, gaps bridged; parameters and unmeasured series hold placeholders.
        unmeasured: settings and occupancy series that nobody measured.
        channels: the measured outputs kept, in the order of the predictor's outputs.
        measured_tc: readings, NaN where there is none, shape (time, channels).
        sigma_tc: expected distance to a good model, same shape, positive.
        noise_tc: the part of `sigma_tc` that is sensor noise.
        fit_t, held_out_t: hours fitted and hours judged; disjoint, both without warm-up.
        dropped: reason by name, for each output column that was not used.
        outside: by input, what was measured outside its bounds and brought inside (see `checks.brought_inside`).
    """

    scenario: Scenario
    unmeasured: Signature
    channels: Signature
    measured_tc: Array
    sigma_tc: Array
    noise_tc: Array
    fit_t: Mask
    held_out_t: Mask
    dropped: Mapping[str, str]
    outside: Mapping[str, str]

    @property
    def index(self) -> pd.DatetimeIndex:
        """Hourly UTC stamps."""
        return self.scenario.index

    def measured(self) -> pd.DataFrame:
        """Return the readings as a frame."""
        return pd.DataFrame(self.measured_tc, index=self.index, columns=list(self.channels.names))


def observe(
    inputs: Signature,
    outputs: Signature,
    measured: pd.DataFrame,
    parameters: Mapping[str, float],
    rules: Rules = USUAL_RULES,
    accuracy: Mapping[str, Accuracy] = ACCURACY,
) -> Observation:
    """Make an observation from a measured frame.

    Args:
        inputs, outputs: signatures of the predictor.
        measured: hourly, UTC; columns named as inputs and outputs, NaN where nothing was read.
        parameters: a value for each PARAMETER input (those to be fitted hold a placeholder).
        rules: see `Rules`.
        accuracy: by quantity, see `Accuracy`.

    Raises:
        IrregularTimeError: not hourly UTC.
        MissingColumnError: weather that was not measured, a parameter without value, or no output at all.
        TooFewDataError: not enough good hours to fit or to judge.
    """
    check_steps(measured.index, 60, "the measured frame")
    measured, outside = brought_inside(measured.iloc[-rules.window_h :], inputs.having(*SERIES))
    wanted_h = rules.least_h
    if len(measured) < wanted_h:
        hint = f"{rules.warm_up_h} h of past, {rules.least_fit_h} h to fit, {rules.least_held_out_h} h to judge; measure longer."
        raise TooFewDataError(what="the measured frame", found=float(len(measured)), wanted=float(wanted_h), hint=hint)
    scenario, unmeasured, trusted_t = fill_inputs(inputs, measured, parameters, rules.max_gap_h)
    channels, measured_tc, dropped = clean_outputs(outputs, measured, after=rules.warm_up_h)
    if not len(channels):
        reasons = "; ".join(f"{n}: {why}" for n, why in dropped.items()) or "none of them is there"
        raise MissingColumnError(
            what=f"the measured frame ({reasons})", n_missing=len(outputs), n_wanted=len(outputs), missing="every output"
        )
    noise_tc, sigma_tc = _sigmas(channels, measured_tc, accuracy)
    judged_t = trusted_t & (np.arange(len(measured)) >= rules.warm_up_h)
    good_t = judged_t & (np.isfinite(measured_tc).mean(axis=1) >= 0.5)
    held_out_h = min(24 * rules.held_out_days, (len(measured) - rules.warm_up_h) // 3)
    is_late = np.arange(len(measured)) >= len(measured) - held_out_h
    for part, part_t, least in (
        ("the hours to fit", good_t & ~is_late, rules.least_fit_h),
        ("the held-out hours", good_t & is_late, rules.least_held_out_h),
    ):
        if part_t.sum() < least:
            hint = "Sensors were silent or inputs missing too long; measure longer."
            raise TooFewDataError(what=part, found=float(part_t.sum()), wanted=float(least), hint=hint)
    return Observation(
        scenario, unmeasured, channels, measured_tc, sigma_tc, noise_tc, judged_t & ~is_late, judged_t & is_late, dropped, outside
    )


def fill_inputs(
    inputs: Signature, measured: pd.DataFrame, parameters: Mapping[str, float], max_gap_h: int
) -> tuple[Scenario, Signature, Mask]:
    """Assemble the boundary conditions and bridge their gaps: weather linearly, settings and occupancy by the last value.

    Args:
        inputs: signature of the predictor.
        measured: hourly, UTC.
        parameters: constants by name.
        max_gap_h: hours in a longer gap, and 24 h after it, are not trusted.

    Returns:
        The scenario; the settings and occupancy series that nobody measured (they stand at the middle of their bounds); and which
        hours can be trusted, shape (time,).

    Raises:
        MissingColumnError: weather without a column or without readings; a parameter without value.
    """
    n = len(measured)
    values = np.empty((n, len(inputs)))
    trusted = np.ones(n, dtype=bool)
    missing, unmeasured = [], []
    for c, v in enumerate(inputs):
        if v.role is Role.PARAMETER:
            if v.name in parameters:
                values[:, c] = parameters[v.name]
            else:
                missing.append(v.name)
            continue
        column = measured[v.name].astype(float) if v.name in measured else pd.Series(np.nan, measured.index)
        column = column.where(np.isfinite(column))
        if column.notna().mean() < LEAST_SHARE:
            if v.role is Role.WEATHER:
                missing.append(v.name)
            else:
                unmeasured.append(v)
                values[:, c] = (v.low + v.high) / 2
            continue
        trusted &= ~_long_gap(column.isna().to_numpy(), max_gap_h)
        bridged = column.interpolate(method="time") if v.role is Role.WEATHER else column.ffill()
        values[:, c] = bridged.ffill().bfill().to_numpy()
    if missing:
        raise MissingColumnError(
            what="the measured frame", n_missing=len(missing), n_wanted=len(inputs), missing=", ".join(missing)
        )
    return Scenario(inputs, pd.DatetimeIndex(measured.index), values), Signature(*unmeasured), trusted


def clean_outputs(outputs: Signature, measured: pd.DataFrame, after: int) -> tuple[Signature, Array, dict[str, str]]:
    """Take the measured outputs, blank what cannot be true, and drop the channels that have too little left.

    Args:
        outputs: signature of the predictor.
        measured: hourly; columns that are no output are ignored.
        after: the share of good hours is counted from this row on.

    Returns:
        The channels kept, their readings (time, channels) with NaN where blank, and the reason for each channel dropped.
    """
    kept: list[Variable] = []
    columns: list[Array] = []
    dropped: dict[str, str] = {}
    for v in outputs:
        if v.name not in measured:
            continue
        x = measured[v.name].to_numpy(dtype=float, copy=True)
        silent = ~np.isfinite(x)
        outside = ~silent & ((x < v.low) | (x > v.high))
        stuck = _stuck(x, STUCK_POWER_H if v.role is Role.CONSUMPTION else STUCK_H, zero_may_rest=v.role is Role.CONSUMPTION)
        x[silent | outside | stuck] = np.nan
        if np.isfinite(x[after:]).mean() >= LEAST_SHARE:
            kept.append(v)
            columns.append(x)
            continue
        shares = {"silent": silent, "stuck": stuck, f"outside {v.low:g} .. {v.high:g} {v.quantity.unit}": outside}
        dropped[v.name] = ", ".join(
            f"{what} in {m[after:].mean():.0%} of the hours" for what, m in shares.items() if m[after:].any()
        )
    values = np.stack(columns, axis=1) if columns else np.empty((len(measured), 0))
    return Signature(*kept), values, dropped


def _stuck(x: Array, least_h: int, zero_may_rest: bool) -> Mask:
    """Return the hours that lie in a run of at least `least_h` equal readings."""
    stuck = np.zeros(len(x), dtype=bool)
    edges = np.flatnonzero(np.concatenate([[True], ~(x[1:] == x[:-1]), [True]]))
    for begin, end in pairwise(edges):
        if end - begin >= least_h and not (zero_may_rest and x[begin] == 0):
            stuck[begin:end] = True
    return stuck


def _long_gap(is_gap: Mask, max_gap_h: int, after_h: int = 24) -> Mask:
    """Return the hours in a gap longer than `max_gap_h` or within `after_h` behind it."""
    out = np.zeros(len(is_gap), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], is_gap.astype(int), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin > max_gap_h:
            out[begin : end + after_h] = True
    return out


def _sigmas(channels: Signature, measured_tc: Array, accuracy: Mapping[str, Accuracy]) -> tuple[Array, Array]:
    noise_tc, sigma_tc = np.empty_like(measured_tc), np.empty_like(measured_tc)
    for c, v in enumerate(channels):
        a = accuracy_of(v.quantity, accuracy)
        x = np.abs(measured_tc[:, c])
        level = float(np.nanpercentile(x, 95))
        # A coil that rests all the time has level 0; a thousandth of its range then keeps the weight finite.
        floor = max(a.model + a.model_share * level, 1e-3 * (v.high - v.low))
        noise_tc[:, c] = np.hypot(a.sensor, a.sensor_share * np.nan_to_num(x))
        sigma_tc[:, c] = np.hypot(noise_tc[:, c], floor)
    return noise_tc, sigma_tc


def accuracy_of(quantity: Quantity, accuracy: Mapping[str, Accuracy] = ACCURACY) -> Accuracy:
    """Return the accuracy of a quantity; one that is not in the table is judged like a power, by shares."""
    return accuracy.get(quantity.name, accuracy.get("power", ACCURACY["power"]))
