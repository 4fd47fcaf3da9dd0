"""The problem as pymoo sees it: decision vectors in, objectives and broken limits out, one `predict` per generation.

Legend of shapes: n plan, t hour, o output, k objective, l limit, d decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.core.problem import Problem

from building.errors import NotFiniteError
from building.predictor import Predictor
from optim.constraints import LIMITS
from optim.decisions import Decisions
from optim.objectives import GUARDED, Objective
from optim.outlook import Outlook, hourly_means

Array = NDArray[np.float64]
Correct = Callable[[Array], Array]
"""Residual correction: predictions (plans, hours, outputs) in, corrected predictions out."""


@dataclass(frozen=True)
class Judgement:
    """What is predicted of some plans.

    Attributes:
        values_nk: objectives, shape (plans, objectives).
        guarded_nk: objectives with the safety margins.
        broken_nl: how far each hard limit is broken, `constraints.LIMITS` order, 0 when kept.
    """

    values_nk: Array
    guarded_nk: Array
    broken_nl: Array


@dataclass(frozen=True)
class Judge:
    """Judges plans: one `predict` for all of them.

    Attributes:
        predictor: with the past already given.
        outlook: the coming hours.
        guarded: the same hours with safety margins.
        objectives: by name.
        correct: residual correction of the predictions, or None.
        own_slack: `thermostat_slack` of the building's own schedule, shape (2,). What a plan's goes beyond it is added to the
            guarded discomfort: a thermostat set outside the band is met by some zone, whatever a metamodel hopes. (Measured in
            EnergyPlus: half a kelvin under the band in a cold week gives three quarters of the discomfort counted here.)
    """

    predictor: Predictor
    outlook: Outlook
    guarded: Outlook
    objectives: Mapping[str, Objective]
    correct: Correct | None = None
    own_slack: Array = field(default_factory=lambda: np.zeros(2))

    def judge(self, plans_nts: Array) -> Judgement:
        """Judge plans, shape (plans, steps, settings).

        Raises:
            NotFiniteError: the predictor (or the correction) answered something that is not a number.
        """
        y_nto = self.predictor.predict(self.outlook.scenarios(plans_nts))
        if self.correct is not None:
            y_nto = self.correct(y_nto)
        bad = ~np.isfinite(y_nto)
        if bad.any():
            _, t, o = (int(i) for i in np.argwhere(bad)[0])
            names = self.predictor.outputs.names
            raise NotFiniteError(what="the prediction", n_bad=int(bad.sum()), column=names[o], where=self.outlook.future.index[t])
        values = {name: measure(y_nto, self.outlook) for name, measure in self.objectives.items()}
        guarded = values | {name: self.objectives[name](y_nto, self.guarded) for name in GUARDED if name in values}
        if "discomfort" in guarded:
            further = np.maximum(thermostat_slack(plans_nts, self.outlook) - self.own_slack, 0.0)
            guarded["discomfort"] = guarded["discomfort"] + further.sum(axis=1)
        return Judgement(
            np.stack(list(values.values()), axis=1),
            np.stack(list(guarded.values()), axis=1),
            np.stack([limit(plans_nts, y_nto, self.outlook) for limit in LIMITS.values()], axis=1),
        )


def thermostat_slack(plans_nts: Array, outlook: Outlook) -> Array:
    """Return how far, and how long, thermostats stand outside the comfort band while people are there [K.h].

    Args:
        plans_nts: shape (plans, steps, settings).
        outlook: band and occupancy.

    Returns:
        Shape (plans, 2): heating setpoints under the band, cooling setpoints over it; 0 for a setting the building lacks.
    """
    hourly = hourly_means(plans_nts, len(outlook.future))
    names = outlook.settings.names
    out = np.zeros((len(plans_nts), 2))
    for side, (name, edge, sign) in enumerate(
        (("heating_setpoint", outlook.low_t, 1.0), ("cooling_setpoint", outlook.high_t, -1.0))
    ):
        if name in names:
            outside = np.maximum(sign * (edge - hourly[:, :, names.index(name)]), 0.0)
            out[:, side] = outside[:, outlook.is_occupied_t].sum(axis=1)
    return out


class PlanProblem(Problem):  # type: ignore[misc]  # pymoo has no types
    """Find plans of least objectives that keep every hard limit.

    Two things keep the search where a building can use it. An objective under its `enough` counts as `enough`: no energy is
    spent on air that is already clean. And a plan beyond `focus` in any objective ranks after every plan within: nobody wants the
    end of the front where the building is off.
    """

    def __init__(self, decisions: Decisions, judge: Judge, enough_k: Array, focus_k: Array) -> None:
        self.decisions = decisions
        self.judge = judge
        self.enough_k = enough_k
        self.focus_k = focus_k
        super().__init__(
            n_var=len(decisions.space),
            n_obj=len(judge.objectives),
            n_ieq_constr=len(LIMITS) + len(judge.objectives),
            xl=0.0,
            xu=1.0,
        )

    def _evaluate(self, x: Array, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        judgement = self.judge.judge(self.decisions.unroll(x))
        guarded = judgement.guarded_nk
        beyond = np.where(np.isfinite(self.focus_k), guarded / np.where(np.isfinite(self.focus_k), self.focus_k, 1.0) - 1.0, -1.0)
        out["F"] = np.maximum(guarded, self.enough_k)
        # A broken hard limit outweighs any distance from the focus.
        out["G"] = np.concatenate([1e3 * judgement.broken_nl, beyond], axis=1)
        out["values"], out["guarded"], out["broken"] = judgement.values_nk, guarded, judgement.broken_nl
