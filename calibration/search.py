"""Search the unit cube with CMA-ES: ask, evaluate the whole generation at once, tell; restart with a larger population.

CMA-ES: Hansen (2016), arXiv 1604.00772, as implemented by `cma`; restarts with doubled population: IPOP, Auger and Hansen (2005).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cma
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Budget:
    """When to stop.

    Attributes:
        population: candidates of a generation; each restart doubles it.
        max_evaluations: in all, over restarts.
        max_restarts: further starts, from random points, after the search has settled.
        max_seconds: by the injected clock; None for no limit. A search ended by seconds depends on the machine, so its answer
            is not promised to repeat.
        sigma: first step size in the unit cube.
        tolerance: a search has settled when the misfits of recent generations differ by less; `linear.polish` walks the rest.
    """

    population: int = 24
    max_evaluations: int = 6000
    max_restarts: int = 1
    max_seconds: float | None = None
    sigma: float = 0.25
    tolerance: float = 1e-4


USUAL_BUDGET = Budget()


@dataclass(frozen=True)
class Progress:
    """Where a search stands, for progress bars and journals."""

    generation: int
    evaluations: int
    max_evaluations: int
    best: float
    seconds: float


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        u: best point, unit cube.
        misfit: its misfit.
        optima: best point and misfit of each start, in order.
        stopped: ``settled``, ``evaluations`` or ``seconds``.
    """

    u: Array
    misfit: float
    optima: tuple[tuple[Array, float], ...]
    generations: int
    evaluations: int
    seconds: float
    stopped: str


def search(
    misfit_of: Callable[[Array], Array],
    start: Array,
    seed: int,
    budget: Budget = USUAL_BUDGET,
    progress: Callable[[Progress], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Minimise a misfit over the unit cube.

    Args:
        misfit_of: points of the cube, shape (batch, n), to misfits, shape (batch,); called once per generation.
        start: first mean, shape (n,).
        seed: same seed, same answer (unless ended by seconds). Global random state is neither read nor changed.
        budget: when to stop.
        progress: called after each generation.
        clock: seconds, monotonic.
    """
    rng = np.random.default_rng(seed)
    began = clock()
    generations = evaluations = 0
    optima: list[tuple[Array, float]] = []
    stopped = "settled"
    population = budget.population
    mean = np.clip(start, 0.02, 0.98)
    for _ in range(budget.max_restarts + 1):
        strategy = _strategy(mean, population, budget, rng)
        best_u, best = mean, np.inf
        while not strategy.stop():
            if evaluations + population > budget.max_evaluations:
                stopped = "evaluations"
                break
            if budget.max_seconds is not None and clock() - began > budget.max_seconds:
                stopped = "seconds"
                break
            points = strategy.ask()
            u_bn = np.clip(np.asarray(points, dtype=float), 0.0, 1.0)
            misfits = misfit_of(u_bn)
            # CMA-ES ranks; an infinite misfit would spoil its tests of convergence, so it becomes merely the worst.
            finite = np.where(np.isfinite(misfits), misfits, 1e12)
            strategy.tell(points, finite.tolist())
            generations += 1
            evaluations += population
            i = int(finite.argmin())
            if finite[i] < best:
                best_u, best = u_bn[i].copy(), float(finite[i])
            if progress is not None:
                overall = min([best, *(m for _, m in optima)])
                progress(Progress(generations, evaluations, budget.max_evaluations, overall, clock() - began))
        if np.isfinite(best):
            optima.append((best_u, best))
        population *= 2
        if stopped != "settled" or evaluations + 20 * population > budget.max_evaluations:
            break
        mean = rng.uniform(0.1, 0.9, len(start))
    if not optima:
        optima.append((mean, float(misfit_of(mean[None])[0])))
    u, misfit = min(optima, key=lambda o: o[1])
    return Found(u, misfit, tuple(optima), generations, evaluations, clock() - began, stopped)


def _strategy(mean: Array, population: int, budget: Budget, rng: np.random.Generator) -> cma.CMAEvolutionStrategy:
    options = {
        "bounds": [0.0, 1.0],
        "popsize": population,
        "seed": np.nan,  # leave numpy's global generator alone; ours is passed in
        "randn": lambda *size: rng.standard_normal(size),
        "tolfun": budget.tolerance,
        "tolfunhist": budget.tolerance / 10,
        "tolx": budget.tolerance * 10,
        "verbose": -9,
        "verb_log": 0,
    }
    return cma.CMAEvolutionStrategy(mean.tolist(), budget.sigma, options)
