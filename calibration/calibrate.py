"""Calibrate: fit a predictor to what a building was measured to do, judge it on hours it has not seen, and say so.

calibration = calibrate(predictor, measured, building.parameter_space, seed=1, time_zone=building.site.time_zone)

What a forecast then needs of it is in `calibration.present`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.parameters import ParameterSpace
from building.predictor import Predictor
from building.variables import Role
from calibration.candidates import Candidates
from calibration.guideline14 import HOURLY, EnergyFigure, IndoorFigure, energy_channels, energy_figure, indoor_figure
from calibration.identifiability import STRONG_PULL, Spread, spreads
from calibration.linear import polish
from calibration.misfit import Misfit
from calibration.observation import ACCURACY, USUAL_RULES, Accuracy, Observation, Rules, observe
from calibration.report import Calibration
from calibration.residual import day_ahead_rmse, fit_residual
from calibration.search import USUAL_BUDGET, Budget, Progress, search

Array = NDArray[np.float64]

TEMPERATURE_ANCHOR_K = 0.5
"""A mean zone RMSE beyond this is worth a warning. Ours: no standard has a limit in K, and a share of degC means nothing."""


def calibrate(
    predictor: Predictor,
    measured: pd.DataFrame,
    space: ParameterSpace,
    *,
    seed: int,
    time_zone: str,
    holidays: Collection[date] = (),
    fixed: Mapping[str, float] | None = None,
    start: Mapping[str, float] | None = None,
    rules: Rules = USUAL_RULES,
    accuracy: Mapping[str, Accuracy] = ACCURACY,
    budget: Budget = USUAL_BUDGET,
    progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Fit parameters (and settings nobody measured) to a measured frame.

    Args:
        predictor: asked once per generation, with all candidates as one batch.
        measured: hourly, UTC; columns named as the predictor's inputs (weather; occupancy and settings where measured) and
            outputs, NaN where nothing was read. Other columns are ignored.
        space: what may be fitted.
        seed: same seed, same answer.
        time_zone: IANA name of the building's clock.
        holidays: dates that run as Sundays.
        fixed: values of PARAMETER inputs that are not in `space`.
        start: first guess by name, e.g. of the last calibration; defaults of the space elsewhere.
        rules: warm-up, held-out days, least data.
        accuracy: sensor noise and model floor by quantity.
        budget: of the search.
        progress: called after each generation.
        clock: seconds, monotonic.

    Raises:
        TooFewDataError, MissingColumnError, IrregularTimeError: see `observation.observe`.
        UnknownNameError: a name in `start` that is not in the space.
    """
    began = clock()
    constants = {**(fixed or {}), **space.defaults()}
    seen = observe(predictor.inputs, predictor.outputs, measured, constants, rules, accuracy)
    candidates = Candidates(seen.scenario, space, seen.unmeasured, time_zone, holidays)
    misfit = Misfit(seen, predictor.outputs)

    def errors_of(u_bn: Array) -> Array:
        return misfit.errors(predictor.predict(candidates.batch(u_bn)))

    def misfit_of(u_bn: Array) -> Array:
        return misfit(predictor.predict(candidates.batch(u_bn)))

    found = search(misfit_of, _first_point(candidates, start or {}), seed, budget, progress, clock)
    u_n, linear = polish(errors_of, misfit_of, misfit, found.u)
    known = spreads(linear, misfit, candidates.space, u_n, seen.index[seen.fit_t])
    y_to = predictor.predict(candidates.batch(u_n[None]))[0]
    predicted = pd.DataFrame(y_to, index=seen.index, columns=list(predictor.outputs.names))
    errors = seen.measured() - predicted[list(seen.channels.names)]
    residual = fit_residual(errors[seen.fit_t], seen.channels, time_zone)
    energy, indoor = _figures(seen, predicted, time_zone)
    return Calibration(
        parameters={**(fixed or {}), **candidates.named(u_n)},
        spreads=known,
        energy=energy,
        indoor=indoor,
        day_ahead=day_ahead_rmse(residual, errors, predicted, seen.channels, first=int(np.flatnonzero(seen.held_out_t)[0])),
        refusals=tuple(_refusals(energy, known)),
        warnings=tuple(_warnings(seen, indoor, known)),
        residual=residual,
        profile=candidates.week_profile(u_n),
        dropped=dict(seen.dropped),
        start=seen.index[0],
        end=seen.index[-1] + pd.Timedelta(hours=1),
        n_fit_h=int(seen.fit_t.sum()),
        n_held_out_h=int(seen.held_out_t.sum()),
        misfit=linear.level,
        seed=seed,
        generations=found.generations,
        evaluations=found.evaluations,
        seconds=clock() - began,
        stopped=found.stopped,
    )


def _first_point(candidates: Candidates, start: Mapping[str, float]) -> Array:
    u = candidates.default_point()
    for name, value in start.items():
        parameter = candidates.parameters[name]
        u[candidates.space.names.index(name)] = np.clip(parameter.to_unit(value), 0.0, 1.0)
    return u


def _figures(
    seen: Observation, predicted: pd.DataFrame, time_zone: str
) -> tuple[tuple[EnergyFigure, ...], tuple[IndoorFigure, ...]]:
    index = seen.index[seen.held_out_t]
    measured, simulated = seen.measured()[seen.held_out_t], predicted[seen.held_out_t]
    energy = tuple(
        energy_figure(
            name,
            measured[list(parts)].sum(axis=1, skipna=False).to_numpy(),
            simulated[list(parts)].sum(axis=1).to_numpy(),
            index,
            time_zone,
            always,
        )
        for name, (parts, always) in energy_channels(seen.channels.names).items()
    )
    indoor = tuple(
        indoor_figure(v.name, v.quantity.unit, measured[v.name].to_numpy(), simulated[v.name].to_numpy())
        for v in seen.channels.having(Role.INDOOR)
    )
    return energy, indoor


def _refusals(energy: tuple[EnergyFigure, ...], known: tuple[Spread, ...]) -> list[str]:
    reasons = []
    if not any(f.name == "facility_electricity" for f in energy):
        reasons.append("facility_electricity was not measured, and Guideline 14 is always judged on it")
    for f in energy:
        if f.is_judged and not f.passes:
            if not np.isfinite(f.cv_rmse):
                reasons.append(f"on the held-out hours {f.name} has {f.n_hours} readings and no use in them; look at its meter")
                continue
            reasons.append(
                f"on the held-out hours {f.name} has CV(RMSE) {f.cv_rmse:.0%} (limit {HOURLY.cv_rmse:.0%}) "
                f"and NMBE {f.nmbe:+.0%} (limit {HOURLY.nmbe:.0%})"
            )
    for s in known:
        if s.pull > STRONG_PULL:
            reasons.append(
                f"{s.name} leans on its bound at {s.value:.4g}; the misfit would fall by {s.pull:.0%} beyond it, "
                "so something else is wrong"
            )
    return reasons


def _warnings(seen: Observation, indoor: tuple[IndoorFigure, ...], known: tuple[Spread, ...]) -> list[str]:
    notes = [f"{name} was not used ({why})" for name, why in seen.dropped.items()]
    notes += [f"{name} was {how}" for name, how in seen.outside.items()]
    if len(seen.unmeasured):
        notes.append(f"nobody measured {', '.join(seen.unmeasured.names)}; fitted as a week profile")
    rmse = [f.rmse for f in indoor if f.unit == "degC" and np.isfinite(f.rmse)]
    if rmse and np.mean(rmse) > TEMPERATURE_ANCHOR_K:
        notes.append(
            f"mean zone temperature RMSE {np.mean(rmse):.2f} K on the held-out hours, more than {TEMPERATURE_ANCHOR_K} K"
        )
    at_bound = [s.name for s in known if s.state == "at bound"]
    if at_bound:
        notes.append(f"at a bound: {', '.join(at_bound)}")
    weak = [s.name for s in known if s.state == "weak"]
    if weak:
        notes.append(f"the data hardly speak of {', '.join(weak)}")
    return notes
