"""Prediction intervals of a bundle: between which values the simulator's answer lies, nine times of ten. building + numpy only.

Split conformal prediction (Vovk, Gammerman & Shafer, 2005; conditioned as in Romano, Patterson & Candes, 2019,
arXiv 1905.03222, by groups instead of a second network): on runs that trained nothing, the 5 % and 95 % quantiles of
(truth - prediction) are kept for groups of like hours and added to a prediction. Like hours have the same kind (system off, in
its first hour, running, in its first hour off) and a similar prediction; between groups the quantiles are interpolated. An
output predicted at exactly zero has a group of its own, in which only the upper end can move.

What holds: where fresh runs are drawn as the runs of the fit were (exchangeable runs), the intervals hold the nominal share of
all hours, up to the spread of a finite number of runs. What does not: the hours of one run are alike, so one run may lie outside
for days; a building that is calibrated, or a climate unlike those of the campaign, is not exchangeable with the runs (then see
`calibration.residual`); the kinds and groups hold on average, not any finer division.

Legend of shapes: b batch, t time, i input, o output, k kind of hour, g group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from building.errors import BadBundleError
from building.variables import Role, Signature
from models.runtime.bundle import Bundle

Array = NDArray[np.floating[Any]]

NOMINAL = 0.9
KINDS = ("off", "starting", "running", "stopping")
N_GROUPS = 5
N_FOLDS = 4
MOST_WIDENED = 1.5
LEAST_H = 500
"""A kind (or a zero) with fewer hours than this takes the quantiles of all hours."""


@dataclass(frozen=True)
class Intervals:
    """Quantiles of the errors of each output.

    Attributes:
        inputs, outputs: signatures of the bundle.
        at_okg: mean prediction of each group, rising.
        below_okg, above_okg: quantiles of truth - prediction in it, at (1 - `NOMINAL`) / 2 on either side.
        zero_ok: upper end where a power is predicted at exactly zero; NaN where that was too rare to know.
    """

    inputs: Signature
    outputs: Signature
    at_okg: Array
    below_okg: Array
    above_okg: Array
    zero_ok: Array

    @staticmethod
    def fit(true_nto: Array, pred_nto: Array, x_nti: Array, inputs: Signature, outputs: Signature) -> Intervals:
        """Fit on runs that the network was not trained on.

        Args:
            true_nto, pred_nto: truth and prediction, physical units, `outputs` order, warm-up hours left out.
            x_nti: the scenarios of the same hours, `inputs` order.
            inputs, outputs: signatures of the bundle.
        """
        shape = (len(outputs), len(KINDS))
        at, below, above = (np.empty((*shape, N_GROUPS)) for _ in range(3))
        zero = np.full(shape, np.nan)
        kind_nt = _kinds(x_nti, inputs)
        for o, v in enumerate(outputs):
            true, pred = (y[..., o].astype(float).ravel() for y in (true_nto, pred_nto))
            is_zero = (pred == 0) & (v.role is Role.CONSUMPTION)
            for k in range(len(KINDS)):
                of_kind = kind_nt.ravel() == k
                hours = _enough(of_kind & ~is_zero, ~is_zero)
                at[o, k], below[o, k], above[o, k] = _groups(pred[hours], true[hours])
                resting = _enough(of_kind & is_zero, is_zero)
                if resting.sum() >= LEAST_H:
                    zero[o, k] = np.quantile(true[resting], NOMINAL)
        return Intervals(inputs, outputs, at, below, above, zero)

    @staticmethod
    def fit_across(
        true_nto: Array, pred_nto: Array, x_nti: Array, run_n: NDArray[np.int64], inputs: Signature, outputs: Signature
    ) -> tuple[Intervals, Array, Array]:
        """Fit, and see how runs that did not take part are covered: `N_FOLDS` times with a part of the runs left out.

        Quantiles of few runs are too narrow for the next run; each output is widened by one factor so that the runs left out lie
        inside for the nominal share of the hours.

        Args:
            run_n: which windows are of one run, and therefore leave together. For the others see `fit`.

        Returns:
            The intervals of all runs, and the ends around every hour by the intervals of the other runs, both (n, t, o).
        """
        fold_n = np.unique(run_n, return_inverse=True)[1] % N_FOLDS
        low, high = np.array(pred_nto, dtype=float), np.array(pred_nto, dtype=float)
        for fold in np.unique(fold_n):
            out = fold_n == fold
            others = Intervals.fit(true_nto[~out], pred_nto[~out], x_nti[~out], inputs, outputs) if (~out).any() else None
            if others is not None:
                low[out], high[out] = others.around(pred_nto[out], x_nti[out])
        factor_o = np.ones(len(outputs))
        for o in range(len(outputs)):
            true, pred, down, up = (y[..., o].astype(float) for y in (true_nto, pred_nto, low, high))
            wide = up > down
            if wide.any():
                room = np.maximum(np.where(true < pred, pred - down, up - pred), 1e-12)
                factor_o[o] = np.clip(np.quantile((np.abs(true - pred) / room)[wide], NOMINAL), 1.0, MOST_WIDENED)
        whole = Intervals.fit(true_nto, pred_nto, x_nti, inputs, outputs).widened(factor_o)
        bounds = np.array([(v.low, v.high) for v in outputs])
        low, high = (pred_nto + factor_o * (end - pred_nto) for end in (low, high))
        return whole, np.clip(low, *bounds.T), np.clip(high, *bounds.T)

    def widened(self, factor_o: Array) -> Intervals:
        """Return the same, every end so many times as far from the prediction, factors shape (outputs,)."""
        by = factor_o[:, None, None]
        return replace(self, below_okg=self.below_okg * by, above_okg=self.above_okg * by, zero_ok=self.zero_ok * by[..., 0])

    @staticmethod
    def of(bundle: Bundle) -> Intervals | None:
        """Return the intervals of a bundle, None for one that was written without.

        Raises:
            BadBundleError: what bundle.json says of them cannot be read, or is of other outputs.
        """
        data = bundle.facts.get("intervals")
        if data is None:
            return None
        try:
            rows = [[data["outputs"][name][kind] for kind in KINDS] for name in bundle.outputs.names]
            at, below, above = (
                np.array([[k[key] for k in row] for row in rows], dtype=float) for key in ("at", "below", "above")
            )
            zero = np.array([[k["zero"] for k in row] for row in rows], dtype=float)  # null becomes NaN
            is_good = at.ndim == 3 and at.shape == below.shape == above.shape and np.isfinite([at, below, above]).all()
        except (KeyError, TypeError, ValueError) as e:
            raise BadBundleError(path=bundle.folder, reason=f"the intervals lack or garble {e}; export the bundle again.") from e
        if not is_good:
            raise BadBundleError(path=bundle.folder, reason="the intervals hold what is no number; export the bundle again.")
        return Intervals(bundle.inputs, bundle.outputs, at, below, above, zero)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `of`; three significant digits of each error, four of each prediction."""
        zero = np.where(np.isfinite(self.zero_ok), self.zero_ok, -1.0)
        return {
            "nominal": NOMINAL,
            "outputs": {
                name: {
                    kind: {
                        "at": _short(self.at_okg[o, k], 4),
                        "below": _short(self.below_okg[o, k]),
                        "above": _short(self.above_okg[o, k]),
                        "zero": None if zero[o, k] < 0 else _short(zero[o, k : k + 1])[0],
                    }
                    for k, kind in enumerate(KINDS)
                }
                for o, name in enumerate(self.outputs.names)
            },
        }

    def around(self, y_bto: Array, x_bti: Array) -> tuple[Array, Array]:
        """Return the ends of the intervals around predictions, two arrays (batch, time, outputs), within the outputs' bounds.

        Args:
            y_bto: predictions, physical units, shape (batch, time, outputs).
            x_bti: the scenarios they answer, shape (batch, time, inputs).
        """
        kind_bt = _kinds(x_bti, self.inputs)
        low, high = np.array(y_bto, dtype=float), np.array(y_bto, dtype=float)
        hours = [kind_bt == k for k in range(len(KINDS))]
        for o, v in enumerate(self.outputs):
            for k, of_kind in enumerate(hours):
                y, at = y_bto[..., o][of_kind], self.at_okg[o, k]
                below, above = y + np.interp(y, at, self.below_okg[o, k]), y + np.interp(y, at, self.above_okg[o, k])
                if np.isfinite(self.zero_ok[o, k]):
                    below, above = np.where(y == 0, 0.0, below), np.where(y == 0, self.zero_ok[o, k], above)
                # A biased group may have both quantiles on one side; a prediction always belongs to its own interval.
                low[..., o][of_kind], high[..., o][of_kind] = np.minimum(below, y), np.maximum(above, y)
            low[..., o] = np.minimum(np.maximum(low[..., o], v.low), y_bto[..., o])
            high[..., o] = np.maximum(np.minimum(high[..., o], v.high), y_bto[..., o])
        return low, high


def _kinds(x_bti: Array, inputs: Signature, switch: str = "system_on") -> NDArray[np.int64]:
    """Return the kind of every hour, indices into `KINDS`, shape (batch, time); all running where there is no such setting."""
    if switch not in inputs:
        return np.full(x_bti.shape[:2], KINDS.index("running"))
    on = x_bti[:, :, inputs.position(switch)] > 0
    before = np.concatenate([on[:, :1], on[:, :-1]], axis=1)
    return np.where(on, np.where(before, 2, 1), np.where(before, 3, 0))


def _enough(some: NDArray[np.bool_], all_like_it: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return some if some.sum() >= LEAST_H else all_like_it


def _groups(pred: Array, true: Array) -> tuple[Array, Array, Array]:
    """Return mean prediction and error quantiles of `N_GROUPS` equally large groups of rising prediction."""
    if not len(pred):  # never predicted but at zero: no group, and nothing is added to what nobody has seen
        return np.arange(float(N_GROUPS)), np.zeros(N_GROUPS), np.zeros(N_GROUPS)
    groups = np.array_split(np.argsort(pred, kind="stable"), min(N_GROUPS, len(pred)))
    groups += groups[-1:] * (N_GROUPS - len(groups))
    tail = (1 - NOMINAL) / 2
    quantiles = np.array([np.quantile(true[g] - pred[g], [tail, 1 - tail]) for g in groups])
    return np.array([pred[g].mean() for g in groups]), quantiles[:, 0], quantiles[:, 1]


def _short(values: Array, digits: int = 3) -> list[float]:
    return [float(f"{x:.{digits}g}") for x in values]
