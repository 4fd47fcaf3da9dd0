"""A frame or an array against a signature: columns, time, numbers, gaps, bounds. Every refusal is made of facts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import GapError, MissingColumnError, NotFiniteError, OutsideTrainingBoundsError, ShapeError
from building.timeline import check_steps
from building.variables import Signature

Array = NDArray[np.float64]

SLACK = 0.02
"""Share of a range that may be overstepped before a value counts as outside: rounding, sensor noise."""


def check_frame(frame: pd.DataFrame, signature: Signature, max_gap_h: float = 0, what: str = "the frame") -> pd.DataFrame:
    """Return the columns of `signature`, in its order, without gaps.

    Args:
        frame: hourly, UTC.
        signature: the columns wanted.
        max_gap_h: gaps up to this length are bridged linearly; 0 bridges none.
        what: how errors call the frame.

    Raises:
        MissingColumnError: columns that are not there. ShapeError: two columns of one name.
        IrregularTimeError: an index that is not hourly UTC.
        NotFiniteError: a value that is not a number (NaN with `max_gap_h` = 0; text or an infinity always).
        GapError: a gap longer than `max_gap_h`, or a column without any number.
    """
    missing = [n for n in signature.names if n not in frame.columns]
    if missing:
        raise MissingColumnError(what=what, n_missing=len(missing), n_wanted=len(signature), missing=", ".join(missing))
    check_steps(frame.index, 60, what)
    out = as_numbers(frame, list(signature.names), what)
    values = out.to_numpy()
    bad = ~np.isfinite(values) if max_gap_h <= 0 else np.isinf(values)
    if bad.any():
        c = int(bad.any(axis=0).argmax())
        where = out.index[int(bad[:, c].argmax())]
        raise NotFiniteError(what=what, n_bad=int(bad[:, c].sum()), column=signature.names[c], where=where)
    if max_gap_h > 0 and np.isnan(values).any():
        for name in out.columns[np.isnan(values).any(axis=0)]:
            start, length = longest_gap(out[name])
            if length > max_gap_h or length == len(out):
                raise GapError(what=what, gap_h=length, column=name, start=start, limit_h=max_gap_h)
        out = out.interpolate(method="time", limit_direction="both")
    return out


def check_values(frame: pd.DataFrame, signature: Signature, max_gap_h: float = 0, what: str = "the frame") -> Array:
    """Return the values of `check_frame`, shape (time, signature); a short way where nothing has to be mended.

    Raises: as `check_frame`.
    """
    place = {name: i for i, name in enumerate(frame.columns)}
    whole = frame.to_numpy()
    if whole.dtype == np.float64 and len(place) == whole.shape[1] and all(n in place for n in signature.names):
        check_steps(frame.index, 60, what)
        values = whole[:, [place[n] for n in signature.names]]
        if np.isfinite(values).all():
            return values
    return np.array(check_frame(frame, signature, max_gap_h, what), dtype=float)


def as_numbers(frame: pd.DataFrame, names: list[str], what: str = "the frame") -> pd.DataFrame:
    """Return these columns as floats; text such as ``unknown`` is refused by name, never taken for a gap.

    Raises:
        NotFiniteError: text. ShapeError: two columns of one name.
    """
    repeated = [] if frame.columns.is_unique else [n for n in names if isinstance(frame[n], pd.DataFrame)]
    if repeated:
        raise ShapeError(what=f"'{repeated[0]}' in {what}", shape=frame[repeated[0]].shape, wanted="one column")
    try:
        return frame[names].astype(float)
    except (TypeError, ValueError):
        for name in names:
            bad = (pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()).to_numpy()
            if bad.any():
                where = frame.index[int(bad.argmax())]
                raise NotFiniteError(what=what, n_bad=int(bad.sum()), column=name, where=where) from None
        raise


def longest_gap(series: pd.Series) -> tuple[pd.Timestamp, int]:
    """Return start and length in steps of the longest run of NaN (length 0 when there is none)."""
    bad = series.isna().to_numpy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(int), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if len(starts) == 0:
        return series.index[0], 0
    i = int((ends - starts).argmax())
    return series.index[starts[i]], int(ends[i] - starts[i])


def check_bounds(x_btc: Array, signature: Signature) -> None:
    """Refuse values outside the bounds, the worst channel first.

    Args:
        x_btc: shape (..., channels), `signature` order.
        signature: the bounds; `SLACK` of their range may be overstepped.

    Raises:
        ShapeError: another number of channels.
        NotFiniteError: a NaN or an infinity, which no bound would catch.
        OutsideTrainingBoundsError: the worst channel outside its bounds.
    """
    if x_btc.ndim == 0 or x_btc.shape[-1] != len(signature):
        raise ShapeError(what="the scenarios", shape=x_btc.shape, wanted=f"(..., {len(signature)})")
    if x_btc.size == 0:
        return
    rows = np.atleast_2d(x_btc)
    # Over the batch first: numpy takes less than half the time for a few long rows than for many short ones.
    least, greatest = (of(axis=0).reshape(-1, len(signature)) for of in (rows.min, rows.max))
    least, greatest = least.min(axis=0), greatest.max(axis=0)
    if not np.isfinite([least, greatest]).all():  # a NaN among the values is the minimum and the maximum
        bad = ~np.isfinite(rows.reshape(-1, len(signature)))
        c = int(bad.any(axis=0).argmax())
        where = f"row {int(bad[:, c].argmax())}"
        raise NotFiniteError(what="a scenario", n_bad=int(bad[:, c].sum()), column=signature.names[c], where=where)
    low, high = np.array([v.low for v in signature]), np.array([v.high for v in signature])
    span = np.where(high > low, high - low, 1.0)
    over = np.maximum(low - least, greatest - high) / span
    c = int(over.argmax())
    if over[c] > SLACK:
        v = signature.variables[c]
        value = least[c] if low[c] - least[c] > greatest[c] - high[c] else greatest[c]
        raise OutsideTrainingBoundsError(variable=v.name, value=float(value), low=v.low, high=v.high, unit=v.quantity.unit)


def brought_inside(frame: pd.DataFrame, signature: Signature) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the frame with every variable of `signature` inside its bounds, and a sentence for each that was far outside.

    For what was measured or forecast: a bundle refuses what lies outside the bounds, a building cannot be refused. Within
    `SLACK` (rounding, sensor noise) nothing is said, as nothing is refused there.

    Args:
        frame: columns that are no variable of `signature` stay as they are; gaps stay gaps, and an infinity becomes one.
        signature: the bounds.

    Returns:
        A new frame, and by variable: in how many hours it was outside, the worst value and the bounds.

    Raises:
        NotFiniteError: text. ShapeError: two columns of one name.
    """
    inside = as_numbers(frame, [v.name for v in signature if v.name in frame])
    inside = inside.where(np.isfinite(inside))
    said = {}
    for v in signature.only(inside.columns):
        series = inside[v.name]
        values = series.to_numpy()
        over = np.maximum(v.low - values, values - v.high)
        n_far = int((over > SLACK * (v.high - v.low)).sum())
        if n_far:
            worst = series.iloc[int(np.nanargmax(over))]
            said[v.name] = (
                f"in {n_far} of {len(series)} h outside {v.low:g} .. {v.high:g} {v.quantity.unit} (worst {worst:g}), "
                "which the bundle was trained on; taken as the bound there"
            )
        inside[v.name] = series.clip(v.low, v.high)
    return frame.assign(**{str(n): inside[n] for n in inside.columns}), said
