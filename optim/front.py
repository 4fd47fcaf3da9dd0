"""Front: the plans no other plan beats in every objective, with what they were compared to.

A Front is a value: it prints, travels as JSON and can be chosen from without predictor, building or search.

Legend of shapes: n plan, k objective, d decision, t step, s setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from building.errors import ShapeError, UnknownNameError, did_you_mean
from building.plan import Plan
from building.timeline import steps

Array = NDArray[np.float64]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Reference:
    """A plan the search compares with.

    Attributes:
        plan: its settings.
        values: each objective as predicted.
        violation: sum of hard limits broken, 0 when none.
        note: what was done to it and why, or "".
    """

    plan: Plan
    values: Mapping[str, float]
    violation: float = 0.0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "plan": self.plan.to_dict(),
            "values": dict(self.values),
            "violation": self.violation,
            "note": self.note,
        }


@dataclass(frozen=True)
class Front:
    """The outcome of a search.

    Attributes:
        objectives: names, least is best for each.
        values_nk: objectives as predicted, shape (plans, objectives).
        guarded_nk: the same with the safety margins (a tighter band); what the search minimised.
        violation_n: sum of hard limits broken, shape (plans,); 0 is feasible.
        decisions: names of the decisions.
        vectors_nd: decisions in physical values, shape (plans, decisions); a warm start for the next search.
        settings: names of the settings.
        plans_nts: shape (plans, steps, settings).
        start, step_min: when the plans begin (UTC) and their resolution.
        references: ``own``, ``rules`` and, where the own schedule breaks a limit, ``own_raised``.
        baseline: the reference every saving and every "no worse" is against.
        tolerance: by objective, how much of it counts as none (comfort 0.5 K.h per zone and week, air 50 ppm.h).
        meta: seed, generations, evaluations, seconds, margins, limits broken by the best plan.
    """

    objectives: tuple[str, ...]
    values_nk: Array
    guarded_nk: Array
    violation_n: Array
    decisions: tuple[str, ...]
    vectors_nd: Array
    settings: tuple[str, ...]
    plans_nts: Array
    start: pd.Timestamp
    step_min: int
    references: Mapping[str, Reference]
    baseline: str
    tolerance: Mapping[str, float] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k = len(self.values_nk), len(self.objectives)
        wanted = {
            "values_nk": (n, k),
            "guarded_nk": (n, k),
            "violation_n": (n,),
            "vectors_nd": (n, len(self.decisions)),
            "plans_nts": (n, *self.plans_nts.shape[1:2], len(self.settings)),
        }
        for name, shape in wanted.items():
            found = getattr(self, name).shape
            if found != shape:
                raise ShapeError(what=f"the front's {name}", shape=found, wanted=str(shape))
        if self.baseline not in self.references:
            hint = did_you_mean(self.baseline, self.references)
            raise UnknownNameError(name=self.baseline, kind="reference", owner="the front", hint=hint)

    def __len__(self) -> int:
        return len(self.values_nk)

    def position(self, objective: str) -> int:
        """Return the column of `objective`. Raises UnknownNameError."""
        if objective not in self.objectives:
            hint = did_you_mean(objective, self.objectives)
            raise UnknownNameError(name=objective, kind="objective", owner="the front", hint=hint)
        return self.objectives.index(objective)

    def baseline_values(self) -> Array:
        """Return the baseline's objectives, shape (objectives,)."""
        return np.array([self.references[self.baseline].values[k] for k in self.objectives])

    def allowed(self) -> Array:
        """Return, per objective, the larger of baseline and tolerance: what counts as no worse than today; (objectives,)."""
        return np.maximum(self.baseline_values(), [self.tolerance.get(k, 0.0) for k in self.objectives])

    def values(self, i: int) -> dict[str, float]:
        """Return the predicted objectives of plan `i` by name."""
        return {k: float(v) for k, v in zip(self.objectives, self.values_nk[i], strict=True)}

    def plan(self, i: int, meta: Mapping[str, Any] | None = None, issued: pd.Timestamp | None = None) -> Plan:
        """Return plan `i`."""
        index = steps(self.start, self.plans_nts.shape[1], self.step_min)
        return Plan(pd.DataFrame(self.plans_nts[i], index=index, columns=list(self.settings)), "optimised", issued, meta or {})

    def hypervolume(self, reference_point: Array) -> float:
        """Return the share of the box between 0 and the reference point that the feasible plans dominate, 0..1.

        A fixed reference point makes fronts of the same outlook comparable. Zitzler and Thiele (1999), "Multiobjective
        evolutionary algorithms: a comparative case study and the strength Pareto approach", IEEE TEC 3(4).

        Args:
            reference_point: one positive value per objective, shape (objectives,); worse plans do not count.

        Raises:
            ShapeError: another number of objectives, or a value that is not positive.
        """
        reference_point = np.asarray(reference_point, dtype=float)
        if reference_point.shape != (len(self.objectives),) or (reference_point <= 0).any():
            raise ShapeError(
                what="the reference point", shape=reference_point.shape, wanted=f"{len(self.objectives)} positive values"
            )
        scaled = np.clip(self.values_nk[self.violation_n <= 0] / reference_point, 0.0, None)
        scaled = scaled[(scaled < 1).all(axis=1)]
        return float(HV(ref_point=np.ones(len(self.objectives)))(scaled)) if len(scaled) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `from_dict`. The key ``plans`` holds nearly all of its size."""
        return {
            "schema_version": SCHEMA_VERSION,
            "objectives": list(self.objectives),
            "values": self.values_nk.tolist(),
            "guarded": self.guarded_nk.tolist(),
            "violation": self.violation_n.tolist(),
            "decisions": list(self.decisions),
            "vectors": self.vectors_nd.tolist(),
            "settings": list(self.settings),
            "plans": self.plans_nts.tolist(),
            "start": self.start.isoformat(),
            "step_min": self.step_min,
            "references": {name: r.to_dict() for name, r in self.references.items()},
            "baseline": self.baseline,
            "tolerance": dict(self.tolerance),
            "meta": dict(self.meta),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Front:
        """Rebuild a Front from `to_dict`'s data. Raises ShapeError where the arrays do not fit each other."""
        n = len(data["values"])
        return Front(
            objectives=tuple(data["objectives"]),
            values_nk=np.array(data["values"], dtype=float).reshape(n, -1),
            guarded_nk=np.array(data["guarded"], dtype=float).reshape(n, -1),
            violation_n=np.array(data["violation"], dtype=float),
            decisions=tuple(data["decisions"]),
            vectors_nd=np.array(data["vectors"], dtype=float).reshape(n, -1),
            settings=tuple(data["settings"]),
            plans_nts=np.array(data["plans"], dtype=float).reshape(n, -1, len(data["settings"])),
            start=pd.Timestamp(data["start"]),
            step_min=data["step_min"],
            references={
                name: Reference(Plan.from_dict(r["plan"]), r["values"], r["violation"], r["note"])
                for name, r in data["references"].items()
            },
            baseline=data["baseline"],
            tolerance=data["tolerance"],
            meta=data["meta"],
        )


def non_dominated(values_nk: Array) -> NDArray[np.int64]:
    """Return the places, rising, of the rows that no other row beats; of equal rows the first stays."""
    _, first = np.unique(values_nk, axis=0, return_index=True)
    first = np.sort(first)
    kept = NonDominatedSorting().do(values_nk[first], only_non_dominated_front=True)
    return np.asarray(np.sort(first[kept]), dtype=np.int64)
