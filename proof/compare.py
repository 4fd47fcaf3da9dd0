"""Fresh runs beside the answers to them: every figure, hour group by hour group; and windows chained one after the other.

Legend of shapes: n runs, t hours, i inputs, o outputs. Judged hours come after the spin-up; local time is local standard time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.checks import check_bounds
from building.description import Building
from building.errors import MissingColumnError, OutsideTrainingBoundsError
from building.indices.energy import final_power
from building.predictor import Predictor
from building.scenario import Scenario
from building.units import POWER
from building.variables import Role, Signature, Variable
from models.evaluation import (
    WEEK_H,
    apart,
    by_output,
    by_zone,
    check_finite,
    coverage,
    figures,
    loads,
    restart,
    restart_hours,
    zeros,
)
from simulation.energyplus import SPIN_UP_H
from simulation.sampling import WINDOW_H

Array = NDArray[np.float64]
Hours = NDArray[np.bool_]
Figures = dict[str, float]

SEASONS = ("DJF", "MAM", "JJA", "SON")
BANDS_DEGC = (-np.inf, -5.0, 5.0, 15.0, 25.0, np.inf)
DERIVED = ("heating gas at the burner", "all gas", "HVAC energy")
"""What `final_power` adds to the consumptions an output gives."""
SUMS = ("heating",)
"""Loads that are a sum of several outputs."""


@dataclass(frozen=True)
class Runs:
    """Finished fresh runs of one kind, in the order of their numbers.

    Attributes:
        climate, kind: of each run; the kind is that of its first window.
        local: local standard time of each run's first hour.
        x_nti, y_nto: what the building was given and did, all hours, in the order of its signatures.
        cpu_s: CPU seconds of EnergyPlus for each.
        failures: climate and reason of each run that failed, or that cannot be asked of the bundle.
    """

    climate: tuple[str, ...]
    kind: tuple[str, ...]
    local: tuple[pd.Timestamp, ...]
    x_nti: Array
    y_nto: Array
    cpu_s: tuple[float, ...]
    failures: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.x_nti)


@dataclass(frozen=True)
class Judged:
    """Runs beside the answers to them, and every figure of the comparison; see `models.evaluation` for their meaning.

    Attributes:
        runs, outputs: what was compared; `true_nto` and `pred_nto` hold the judged hours only.
        overall, by_output, by_zone: figures of all runs.
        apart: figures by kind of group, then by group.
        energy: as `by_output`, of consumptions and of what is bought (`final_power`).
        restart: by load, the first hour after an hour off, and all other hours on.
        zeros: by output and by load, those that are ever exactly zero.
        coverage: of the calibrated intervals, by output; empty for a bundle without.
    """

    runs: Runs
    outputs: Signature
    true_nto: Array
    pred_nto: Array
    overall: Figures
    by_output: dict[str, Figures]
    by_zone: dict[str, Figures]
    apart: dict[str, dict[str, Figures]]
    energy: dict[str, Figures]
    restart: dict[str, Figures]
    zeros: dict[str, Figures]
    coverage: dict[str, Figures]

    def figures(self) -> Figures:
        """Return the overall figures, with the least and the largest coverage of an output whose interval has a width."""
        shares = [c["coverage"] for c in self.coverage.values() if np.isfinite(c["coverage"])]
        return self.overall | ({"coverage_min": min(shares), "coverage_max": max(shares)} if shares else {})


@dataclass(frozen=True)
class Chain:
    """Three windows of four weeks, one after the other, each given what came before.

    Attributes:
        windows: figures of each window ("chained"), and of the same window given only a week of past ("alone").
        ratio: temperature RMSE of the last chained window over the first; seasons and settings differ between the two.
        over_alone: temperature RMSE of the last chained window over the same window alone: what the chain itself adds.
        gap: largest difference between chained windows and the whole in one go, in spreads of the output.
        n_runs: chains compared.
        failures: climate and reason of each run that failed.
    """

    windows: dict[str, Figures]
    ratio: float
    over_alone: float
    gap: float
    n_runs: int
    failures: tuple[tuple[str, str], ...]


def within_bounds(predictor: Predictor, building: Building, runs: Runs) -> Runs:
    """Set runs aside, as failures with the reason, whose inputs lie outside the bounds of the predictor."""
    x_btc = runs.x_nti[:, :, building.inputs.positions(predictor.inputs.names)]
    kept, refused = [], list(runs.failures)
    for n, x_tc in enumerate(x_btc):
        try:
            check_bounds(x_tc, predictor.inputs)
            kept.append(n)
        except OutsideTrainingBoundsError as e:
            refused.append((runs.climate[n], str(e)))
    labels = {name: tuple(getattr(runs, name)[n] for n in kept) for name in ("climate", "kind", "local", "cpu_s")}
    return replace(runs, **labels, x_nti=runs.x_nti[kept], y_nto=runs.y_nto[kept], failures=tuple(refused))


Around = Callable[[Array, Array], tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]]
"""Gives the ends of calibrated intervals: answers (n, t, o) and their scenarios (n, t, i) -> two like the answers."""


def judge(predictor: Predictor, building: Building, runs: Runs, what: str, around: Around | None = None) -> Judged:
    """Answer the runs and compare.

    Args:
        predictor, building, runs: what to compare.
        what: the predictor's name in an error.
        around: its calibrated intervals, if it has any.

    Raises:
        NotFiniteError: the predictor answers what is no number.
    """
    outputs = predictor.outputs
    x_btc = runs.x_nti[:, :, building.inputs.positions(predictor.inputs.names)]
    y_true = runs.y_nto[:, :, building.outputs.positions(outputs.names)]
    y_pred = predictor.predict(x_btc)
    check_finite(y_pred, outputs, f"the answer of {what}")
    is_restart = restart_hours(runs.x_nti, building.inputs)
    true, pred = y_true[:, SPIN_UP_H:], y_pred[:, SPIN_UP_H:]
    covered = coverage(true, *_judged_ends(around, y_pred, x_btc), outputs=outputs) if around else {}
    bought = [_bought(y, outputs, building) for y in (true, pred)]
    return Judged(
        runs=runs,
        outputs=outputs,
        true_nto=true,
        pred_nto=pred,
        overall=figures(y_true, y_pred, outputs, SPIN_UP_H, is_restart),
        by_output=by_output(y_true, y_pred, outputs, SPIN_UP_H),
        by_zone=by_zone(true, pred, outputs),
        apart={kind: apart(true, pred, outputs, groups) for kind, groups in groups_of(runs, building).items()},
        energy=by_output(bought[0][0], bought[1][0], bought[0][1], 0),
        restart=_restarts(true, pred, outputs, is_restart[:, SPIN_UP_H:], _is_on(runs, building)),
        zeros=_zeros(true, pred, outputs),
        coverage=covered,
    )


def groups_of(runs: Runs, building: Building) -> dict[str, dict[str, Hours]]:
    """Return the groups of judged hours, by kind of group and name, each of shape (n, t)."""
    shape = (len(runs), runs.x_nti.shape[1] - SPIN_UP_H)
    local = [pd.date_range(start, periods=runs.x_nti.shape[1], freq="60min")[SPIN_UP_H:] for start in runs.local]
    month, hour = np.array([i.month for i in local]), np.array([i.hour for i in local])
    week = np.broadcast_to(np.arange(shape[1]) // WEEK_H, shape)
    outdoor = runs.x_nti[:, SPIN_UP_H:, building.inputs.position("outdoor_air_temperature")]

    def of_runs(labels: Sequence[str], name: str) -> Hours:
        return np.broadcast_to(np.array([label == name for label in labels])[:, None], shape)

    bands = pairwise(BANDS_DEGC)
    return {
        "settings": {name: of_runs(runs.kind, name) for name in sorted(set(runs.kind), reverse=True)},
        "season": {name: (month % 12) // 3 == s for s, name in enumerate(SEASONS)},
        "outdoor temperature": {_band(low, high): (outdoor >= low) & (outdoor < high) for low, high in bands},
        "week": {f"week {w + 1}": week == w for w in range(shape[1] // WEEK_H)},
        "climate": {name: of_runs(runs.climate, name) for name in sorted(set(runs.climate))},
        "hour of day": {f"{h:02d}-{h + 1:02d}": hour == h for h in range(24)},
    }


def _band(low: float, high: float) -> str:
    if np.isinf(low):
        return f"below {high:g} degC"
    return f"above {low:g} degC" if np.isinf(high) else f"{low:g} to {high:g} degC"


def _bought(y_nto: Array, outputs: Signature, building: Building) -> tuple[Array, Signature]:
    """Return the consumptions, and after them what the meters of the whole building count (`final_power`)."""
    consumptions = outputs.having(Role.CONSUMPTION)
    y = y_nto[..., outputs.positions(consumptions.names)]
    try:
        final = final_power(y_nto, outputs, building.efficiency)
    except MissingColumnError:
        return y, consumptions
    further = (final.heating_gas, final.facility_by_carrier()["gas"], final.hvac)
    names = [Variable(name, POWER, Role.CONSUMPTION, 0, np.inf) for name in DERIVED]
    return np.concatenate([y, np.stack(further, axis=-1)], axis=-1), Signature(*consumptions, *names)


def _is_on(runs: Runs, building: Building) -> Hours:
    if "system_on" not in building.inputs:
        return np.ones((len(runs), runs.x_nti.shape[1] - SPIN_UP_H), dtype=bool)
    return np.asarray(runs.x_nti[:, SPIN_UP_H:, building.inputs.position("system_on")] > 0)


def _restarts(true: Array, pred: Array, outputs: Signature, is_restart: Hours, is_on: Hours) -> dict[str, Figures]:
    predicted = loads(pred, outputs)
    found = {}
    for load, t in loads(true, outputs).items():
        later = restart(t, predicted[load], is_on & ~is_restart)
        found[load] = restart(t, predicted[load], is_restart) | {f"later_{k}": v for k, v in later.items()}
    return found


def _zeros(true: Array, pred: Array, outputs: Signature) -> dict[str, Figures]:
    powers = {n: [a[..., outputs.position(n)] for a in (true, pred)] for n in outputs.having(Role.CONSUMPTION).names}
    summed = {f"all {load}": [t, loads(pred, outputs)[load]] for load, t in loads(true, outputs).items() if load in SUMS}
    judged = {name: zeros(t[..., None], p[..., None]) for name, (t, p) in (powers | summed).items()}
    return {name: f for name, f in judged.items() if f["zero_share"] > 0}


def _judged_ends(around: Around, y_pred: Array, x_btc: Array) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
    low, high = around(y_pred, x_btc)
    return low[:, SPIN_UP_H:], high[:, SPIN_UP_H:]


def chain_windows(predictor: Predictor, building: Building, runs: Runs) -> Chain:
    """Answer long runs window after window, each given all that came before, and compare with one go and with a fresh start.

    Raises:
        NotFiniteError: the predictor answers what is no number.
    """
    if not len(runs):
        return Chain({}, float("nan"), float("nan"), float("nan"), 0, runs.failures)
    outputs = predictor.outputs
    x_btc = runs.x_nti[:, :, building.inputs.positions(predictor.inputs.names)]
    true = runs.y_nto[:, SPIN_UP_H:, building.outputs.positions(outputs.names)]
    whole = predictor.predict(x_btc)[:, SPIN_UP_H:]
    chained = np.stack([_chained(predictor, x) for x in x_btc])
    alone = np.concatenate([predictor.predict(x)[:, SPIN_UP_H:] for x in _windows(x_btc)], axis=1)
    check_finite(chained, outputs, "the chained answer")
    number = np.broadcast_to(np.arange(true.shape[1]) // WINDOW_H, true.shape[:2])
    windows: dict[str, Figures] = {}
    for how, pred in (("chained", chained), ("alone", alone)):
        groups = {f"window {w + 1} {how}": number == w for w in range(number.max() + 1)}
        windows |= apart(true, pred, outputs, groups)
    n = number.max() + 1
    first, last, last_alone = (
        windows[f"window {name}"].get("temperature_rmse_k", float("nan")) for name in ("1 chained", f"{n} chained", f"{n} alone")
    )
    spread = np.maximum(true.std(axis=(0, 1)), 1e-30)
    return Chain(
        windows=windows,
        ratio=last / first if first else float("nan"),
        over_alone=last / last_alone if last_alone else float("nan"),
        gap=float((np.abs(chained - whole) / spread).max()),
        n_runs=len(runs),
        failures=runs.failures,
    )


def _windows(x_btc: Array) -> list[Array]:
    """Cut long runs into windows with the week before each."""
    return [x_btc[:, s : s + SPIN_UP_H + WINDOW_H] for s in range(0, x_btc.shape[1] - SPIN_UP_H, WINDOW_H)]


def _chained(predictor: Predictor, x_tc: Array) -> Array:
    """Answer one long run window after window through `given`, shape (t - spin-up, o)."""
    whole = Scenario(predictor.inputs, pd.date_range("2018-01-01", periods=len(x_tc), freq="60min", tz="UTC"), x_tc)
    cuts = [0, *range(SPIN_UP_H, len(x_tc) + 1, WINDOW_H)]
    pieces = [Scenario(whole.inputs, whole.index[a:b], x_tc[a:b]) for a, b in pairwise(cuts)]
    answers = []
    for past, future in pairwise(pieces):
        predictor = predictor.given(past)
        answers.append(predictor.predict(future.values[None])[0])
    return np.concatenate(answers)
