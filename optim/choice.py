"""Choice: one plan out of a front, and the sentence that says why.

A rule is a plain function from a Front to an index (or None for "keep the baseline") and a reason. The service chooses by
`no_worse`; `RULES` names the others for whoever calls `choose`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import UnknownNameError, did_you_mean
from building.plan import Plan
from optim.front import Front, Reference

Array = NDArray[np.float64]
Chosen = tuple[int | None, str]
Rule = Callable[[Front], Chosen]

COST = "energy"
"""The objective that is saved; every other one is kept."""


def choose(front: Front, rule: Rule | str = "no_worse", issued: pd.Timestamp | None = None) -> Plan:
    """Return one plan of `front`, never nothing.

    Where a hard limit cannot be kept by any plan (a building already too cold), the plan that breaks it least is returned and the
    reason says so; comfort is soft, and what is missing is reported as slack.

    Args:
        front: the outcome of a search.
        rule: a rule, or its name in `RULES`.
        issued: when the plan is made (UTC).

    Returns:
        A Plan whose meta carries rule, reason, decisions, predicted objectives, those of every reference, savings and slack.

    Raises:
        UnknownNameError: a rule nobody knows.
    """
    name = rule if isinstance(rule, str) else getattr(rule, "__name__", "rule")
    if isinstance(rule, str):
        if rule not in RULES:
            raise UnknownNameError(name=rule, kind="rule", owner="optim.choice", hint=did_you_mean(rule, RULES))
        rule = RULES[rule]
    baseline = front.references[front.baseline]
    if (front.violation_n > 0).all() and baseline.violation > 0:
        i, reason = _least_broken(front, baseline)
    else:
        i, reason = rule(front)
    if i is None:
        meta = _meta(front, name, reason, dict(baseline.values), baseline.violation)
        return Plan(baseline.plan.frame, baseline.plan.origin, issued, meta)
    meta = _meta(front, name, reason, front.values(i), float(front.violation_n[i]))
    meta["decisions"] = {d: round(float(v), 6) for d, v in zip(front.decisions, front.vectors_nd[i], strict=True)}
    return front.plan(i, meta, issued)


def no_worse(front: Front) -> Chosen:
    """Least energy among plans with no worse comfort, air and moisture than today.

    "No worse" is judged first with the safety margins of the search, since a metamodel errs and a search finds its errors; only
    when no plan passes, as predicted. Today is the baseline, or the tolerance where that is larger.
    """
    feasible = front.violation_n <= 0
    cost = front.position(COST)
    others = [k for k in range(len(front.objectives)) if k != cost]
    allowed = front.allowed() + 1e-9
    baseline = front.references[front.baseline]
    saves = front.values_nk[:, cost] < baseline.values[COST] if baseline.violation <= 0 else np.ones(len(front), dtype=bool)
    for judged, how in ((front.guarded_nk, "with the safety margins"), (front.values_nk, "as predicted, without safety margins")):
        passes = feasible & (judged[:, others] <= allowed[others]).all(axis=1)
        if (passes & saves).any():
            i = _least(front.values_nk[:, cost], passes & saves)
            return i, f"least energy of {int(passes.sum())} plans that are no worse than the {_said(front)} {how}"
    if baseline.violation <= 0:
        return None, f"no plan saves energy without being worse than the {_said(front)}, which therefore stays"
    # The baseline breaks a hard limit: the best of the allowed plans is the one least worse in comfort and air.
    excess = _excess(front.guarded_nk, front)[:, others].sum(axis=1)
    i = int(np.flatnonzero(feasible)[np.argmin(excess[feasible])])
    return i, f"the {_said(front)} breaks a hard limit; of the plans that keep it this one is least worse in comfort and air"


def knee(front: Front) -> Chosen:
    """The plan farthest under the straight line between the ends of the front, energy against everything else.

    Each objective is scaled to its range over the feasible plans; the others are summed. Das (1999), "On characterizing the knee
    of the Pareto curve", Structural Optimization 18, for two objectives.
    """
    feasible = front.violation_n <= 0
    if not feasible.any():
        return None, f"no plan keeps the hard limits; the {_said(front)} stays"
    scaled = _scaled(front, feasible)
    cost = front.position(COST)
    x = scaled[:, cost]
    y = np.delete(scaled, cost, axis=1).sum(axis=1)
    places = np.flatnonzero(feasible)
    a, b = places[np.argmin(x[places])], places[np.argmin(y[places])]
    # Distance to the line through both ends, positive towards the origin; all 0 when the ends are one plan.
    distance = (x[b] - x) * (y[a] - y) - (x[a] - x) * (y[b] - y)
    i = int(places[np.argmax(distance[places])])
    return i, "the knee: beyond it a little more comfort costs much energy, before it a little energy costs much comfort"


def weighted(weights: Mapping[str, float]) -> Rule:
    """Return the rule "least weighted sum of objectives", each scaled by its range over the feasible plans.

    Args:
        weights: by objective, at least 0; those not named weigh nothing.
    """

    def weighted_sum(front: Front) -> Chosen:
        w = np.zeros(len(front.objectives))
        for name, weight in weights.items():
            w[front.position(name)] = weight
        feasible = front.violation_n <= 0
        if not feasible.any():
            return None, f"no plan keeps the hard limits; the {_said(front)} stays"
        said = ", ".join(f"{n} {v:g}" for n, v in weights.items())
        return _least(_scaled(front, feasible) @ w, feasible), f"least weighted sum ({said})"

    return weighted_sum


def balanced(front: Front) -> Chosen:
    """Energy on one side of the scales, all other objectives together on the other."""
    others = [k for k in front.objectives if k != COST]
    return weighted({COST: 1.0} | {k: 1 / len(others) for k in others})(front)


RULES: dict[str, Rule] = {"no_worse": no_worse, "knee": knee, "balanced": balanced}
"""The rules that `choose` knows by name."""


def _least(cost: Array, keep: NDArray[np.bool_]) -> int:
    places = np.flatnonzero(keep)
    return int(places[np.argmin(cost[places])])


def _scaled(front: Front, feasible: NDArray[np.bool_]) -> Array:
    low, high = front.values_nk[feasible].min(axis=0), front.values_nk[feasible].max(axis=0)
    return np.asarray((front.values_nk - low) / np.where(high > low, high - low, 1.0))


def _excess(values_nk: Array, front: Front) -> Array:
    allowed = front.allowed()
    return np.asarray(np.maximum(values_nk - allowed, 0.0) / np.where(allowed > 0, allowed, 1.0))


def _least_broken(front: Front, baseline: Reference) -> Chosen:
    if len(front) == 0 or baseline.violation <= front.violation_n.min():
        return None, f"no plan keeps all hard limits; the {_said(front)} breaks them least ({baseline.violation:.3g})"
    i = int(np.argmin(front.violation_n))
    broken = front.meta.get("broken", {})
    said = ", ".join(f"{k} by {v:.3g}" for k, v in broken.items()) or f"in sum {front.violation_n[i]:.3g}"
    return i, f"no plan keeps all hard limits; this one breaks them least: {said}"


def _said(front: Front) -> str:
    note = front.references[front.baseline].note
    return "own schedule" + (f" ({note})" if note else "")


def _meta(front: Front, rule: str, reason: str, values: dict[str, float], violation: float) -> dict[str, Any]:
    allowed = dict(zip(front.objectives, front.allowed(), strict=True))
    return {
        "rule": rule,
        "reason": reason,
        "baseline": front.baseline,
        "baseline_note": front.references[front.baseline].note,
        "predicted": {k: round(v, 6) for k, v in values.items()},
        "references": {name: {k: round(float(v), 6) for k, v in r.values.items()} for name, r in front.references.items()},
        "saving": {
            name: round(1 - values[COST] / r.values[COST], 6) for name, r in front.references.items() if r.values[COST] > 0
        },
        "slack": {
            k: round(float(values[k] - allowed[k]), 6) for k in front.objectives if k != COST and values[k] > allowed[k] + 1e-9
        },
        "violation": round(violation, 6),
        "search": {k: v for k, v in front.meta.items() if k not in ("seconds", "broken")},
    }
