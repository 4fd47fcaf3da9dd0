"""Search: seeded NSGA-II over decision vectors, one `predict` per generation.

Deb, Pratap, Agarwal and Meyarivan (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE TEC 6(2), as
implemented by pymoo (ask/tell: this module owns the loop).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.termination import NoTermination

from building.description import Building
from building.plan import Plan
from building.predictor import Predictor
from building.scenario import Scenario
from optim.constraints import LIMITS, LIMITS_OF_ANY_PLAN
from optim.decisions import Decisions
from optim.front import Front, Reference, non_dominated
from optim.objectives import OBJECTIVES, TOLERANCE_PER_WEEK, Objective
from optim.outlook import Margins, Outlook, hourly_means
from optim.problem import Correct, Judge, PlanProblem, thermostat_slack
from optim.references import GOOD_PRACTICE, nearest_vector, own_plan, raised_plan, rules_plan

Array = NDArray[np.float64]

SEEDED_SHARE = 0.6
"""Share of the first generation drawn around known good vectors; the rest is uniform."""

SEEDED_SPREAD = 0.12
"""Standard deviation of those draws, of the unit interval."""

FOCUS = 3.0
"""Plans beyond this many times what today counts as no worse are out of focus."""

LARGEST_FRONT = 80
"""A front keeps at most this many plans; it is for people and for JSON."""


@dataclass(frozen=True)
class Generation:
    """Where a search stands.

    Attributes:
        number, of: generations done and wanted.
        evaluations: plans judged so far.
        n_feasible: plans of this generation that keep every hard limit.
        saving: of the best plan so far that is no worse than the baseline (with margins), None while there is none.
    """

    number: int
    of: int
    evaluations: int
    n_feasible: int
    saving: float | None


def search(
    predictor: Predictor,
    building: Building,
    past: Scenario,
    future: Scenario,
    *,
    seed: int = 0,
    n_plans: int = 100,
    generations: int = 70,
    seconds: float | None = None,
    objectives: Mapping[str, Objective] = OBJECTIVES,
    correct: Correct | None = None,
    margins: Margins | None = None,
    warm_start: Plan | Front | None = None,
    step_min: int = 60,
    on_generation: Callable[[Generation], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Front:
    """Search plans for the coming hours.

    Args:
        predictor: answers for whole windows; `given(past)` is called once.
        building: its site, settings, ramps, limits and efficiencies.
        past: measured hours with the calibrated parameters, at least 168, ending where `future` begins.
        future: forecast weather and occupancy, the same parameters, the building's own settings: the baseline.
        seed: the same seed gives the same front, unless `seconds` cuts the search short.
        n_plans: plans per generation.
        generations: how many.
        seconds: stop after this much time at the end of a generation; None for no limit.
        objectives: what is minimised; must hold ``energy``.
        correct: residual correction of predictions.
        margins: safety margins against metamodel errors; `Margins()` when None.
        warm_start: a plan or a front of an earlier search; its decisions join the first generation.
        step_min: resolution of the plans, 60 or 15 min.
        on_generation: told after each generation.
        clock: seconds that only rise.

    Returns:
        The front over all plans judged, at most `LARGEST_FRONT` of them, and always the one that `choice.no_worse` takes.

    Raises:
        ShapeError, IrregularTimeError, UnknownNameError: past and future that do not fit (`Outlook.of`).
        NotFiniteError: a predictor that answers something that is not a number.
    """
    begun = clock()
    rng = np.random.default_rng(seed)
    margins = Margins() if margins is None else margins
    outlook = Outlook.of(building, past, future, predictor.outputs)
    decisions = Decisions(outlook, step_min)
    own_slack = thermostat_slack(outlook.plan_values(own_plan(outlook)), outlook)[0]
    judge = Judge(predictor.given(past), outlook, outlook.tightened(margins), objectives, correct, own_slack)

    references, guarded = _references(judge, decisions)
    baseline = "own_raised" if "own_raised" in references else "own"
    tolerance = {k: TOLERANCE_PER_WEEK.get(k, 0.0) * outlook.weeks for k in objectives}
    allowed = np.maximum([references[baseline].values[k] for k in objectives], list(tolerance.values()))
    cost = list(objectives).index("energy")
    enough = np.where([k in ("co2_excess", "moisture_risk") for k in objectives], list(tolerance.values()), 0.0)
    focus = FOCUS * np.maximum(allowed, guarded[baseline])
    focus[(np.arange(len(focus)) == cost) | (focus <= 0)] = np.inf

    problem = PlanProblem(decisions, judge, enough, focus)
    known = np.stack([nearest_vector(decisions, references["own"].plan), *_known(decisions, warm_start)])
    algorithm = NSGA2(pop_size=n_plans, sampling=_first_generation(known, n_plans, rng))
    algorithm.setup(problem, termination=NoTermination(), seed=int(rng.integers(2**31)), verbose=False)
    judged: dict[str, list[Array]] = {"X": [], "values": [], "guarded": [], "broken": []}
    best: float | None = None
    done = 0
    for number in range(1, generations + 1):
        population = algorithm.ask()
        algorithm.evaluator.eval(problem, population)
        algorithm.tell(infills=population)
        for key, rows in judged.items():
            rows.append(np.array(population.get(key), dtype=float))
        done = number
        is_feasible = judged["broken"][-1].sum(axis=1) <= 0
        if on_generation is not None:
            passes = is_feasible & _no_worse(judged["guarded"][-1], allowed, cost)
            if passes.any() and references[baseline].values["energy"] > 0:
                saving = float(1 - judged["values"][-1][passes, cost].min() / references[baseline].values["energy"])
                best = saving if best is None else max(best, saving)
            on_generation(Generation(number, generations, number * n_plans, int(is_feasible.sum()), best))
        if seconds is not None and clock() - begun >= seconds:
            break
    vectors, values, guarded_nk, broken = (np.concatenate(rows) for rows in judged.values())
    keep = _front_places(np.maximum(guarded_nk, enough), values, guarded_nk, broken, allowed, cost, focus)
    return Front(
        objectives=tuple(objectives),
        values_nk=values[keep],
        guarded_nk=guarded_nk[keep],
        violation_n=broken[keep].sum(axis=1),
        decisions=decisions.space.names,
        vectors_nd=decisions.space.from_unit(vectors[keep]),
        settings=outlook.settings.names,
        plans_nts=decisions.unroll(vectors[keep]),
        start=outlook.future.index[0],
        step_min=step_min,
        references=references,
        baseline=baseline,
        tolerance=tolerance,
        meta={
            "seed": seed,
            "generations": done,
            "evaluations": len(vectors),
            "seconds": round(clock() - begun, 3),
            "margin_k": margins.temperature_k,
            "margin_ppm": margins.co2_ppm,
            "broken": {n: float(v) for n, v in zip(LIMITS, broken[keep][0], strict=True) if v > 0},
        },
    )


def _references(judge: Judge, decisions: Decisions) -> tuple[dict[str, Reference], dict[str, Array]]:
    """Judge the plans to compare with; own schedule and its raised version at the hour, in one `predict`."""
    outlook = judge.outlook
    own = own_plan(outlook)
    raised, note = raised_plan(outlook, own)
    rules = rules_plan(decisions)
    plans = {"own": own, "rules": rules} | ({"own_raised": raised} if note else {})
    hourly = [hourly_means(outlook.plan_values(plan), len(outlook.future)) for plan in plans.values()]
    judgement = judge.judge(np.concatenate(hourly))
    counted = [i for i, name in enumerate(LIMITS) if name in LIMITS_OF_ANY_PLAN]
    references = {
        name: Reference(
            plan,
            {k: float(v) for k, v in zip(judge.objectives, judgement.values_nk[i], strict=True)},
            float(judgement.broken_nl[i, counted].sum()),
            note if name == "own_raised" else "",
        )
        for i, (name, plan) in enumerate(plans.items())
    }
    return references, {name: judgement.guarded_nk[i] for i, name in enumerate(plans)}


def _known(decisions: Decisions, warm_start: Plan | Front | None) -> list[Array]:
    """Return unit vectors worth trying first: defaults, good practice, what an earlier search found."""
    known = [decisions.defaults(), decisions.vector(GOOD_PRACTICE)]
    if isinstance(warm_start, Front):
        spread = np.unique(np.linspace(0, len(warm_start) - 1, 12).astype(int))
        known += [decisions.vector(dict(zip(warm_start.decisions, warm_start.vectors_nd[i], strict=True))) for i in spread]
    elif warm_start is not None and "decisions" in warm_start.meta:
        known.append(decisions.vector({str(k): float(v) for k, v in warm_start.meta["decisions"].items()}))
    return known


def _first_generation(known: Array, n_plans: int, rng: np.random.Generator) -> Array:
    """Return the known vectors, then draws around them, then uniform ones; shape (n_plans, decisions)."""
    n_around = max(0, int(SEEDED_SHARE * n_plans) - len(known))
    around = known[rng.integers(len(known), size=n_around)]
    around = np.clip(around + SEEDED_SPREAD * rng.standard_normal(around.shape), 0, 1)
    n_uniform = max(0, n_plans - len(known) - n_around)
    return np.concatenate([known, around, rng.random((n_uniform, known.shape[1]))])[:n_plans]


def _no_worse(judged_nk: Array, allowed_k: Array, cost: int) -> NDArray[np.bool_]:
    others = np.arange(len(allowed_k)) != cost
    return np.asarray((judged_nk[:, others] <= allowed_k[others] + 1e-9).all(axis=1))


def _front_places(
    ranked_nk: Array, values_nk: Array, guarded_nk: Array, broken_nl: Array, allowed_k: Array, cost: int, focus_k: Array
) -> NDArray[np.int64]:
    """Return which of all judged plans make the front, best energy first.

    Feasible plans in focus that no other beats, thinned evenly along energy, and the plans `choice.no_worse` would take. When no
    plan keeps every hard limit: the one that breaks them least.
    """
    violation = broken_nl.sum(axis=1)
    feasible = violation <= 0
    if not feasible.any():
        return np.array([int(np.argmin(violation))])
    inside = feasible & (guarded_nk <= focus_k).all(axis=1)
    places = np.flatnonzero(inside if inside.any() else feasible)
    places = places[non_dominated(ranked_nk[places])]
    places = places[np.argsort(values_nk[places, cost], kind="stable")]
    if len(places) > LARGEST_FRONT:
        places = places[np.unique(np.linspace(0, len(places) - 1, LARGEST_FRONT).astype(int))]
    wanted = []
    for judged in (guarded_nk, values_nk):
        passes = np.flatnonzero(feasible & _no_worse(judged, allowed_k, cost))
        if len(passes):
            wanted.append(passes[np.argmin(values_nk[passes, cost])])
    places = np.unique(np.concatenate([places, wanted]).astype(np.int64))
    return np.asarray(places[np.argsort(values_nk[places, cost], kind="stable")], dtype=np.int64)
