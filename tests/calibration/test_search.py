"""CMA-ES on functions whose minimum is known, and the polish behind it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from building.units import TEMPERATURE
from building.variables import Role, Signature, Variable
from calibration.linear import linearise, polish
from calibration.misfit import Misfit
from calibration.observation import Observation
from calibration.search import Budget, Progress, search

Array = NDArray[np.float64]
PRECISE = Budget(population=12, max_evaluations=6000, max_restarts=0, tolerance=1e-9)


def ellipsoid(u_bn: Array) -> Array:
    return np.asarray(((u_bn - 0.3) ** 2 * 10.0 ** np.arange(u_bn.shape[1])).sum(axis=1))


def rastrigin(u_bn: Array) -> Array:
    x = 6 * (u_bn - 0.7)
    return np.asarray((x**2 - 3 * np.cos(2 * np.pi * x) + 3).sum(axis=1))


def test_an_ill_conditioned_bowl_is_solved() -> None:
    found = search(ellipsoid, np.full(5, 0.8), 1, PRECISE)
    assert np.allclose(found.u, 0.3, atol=1e-3)
    assert found.stopped == "settled"


def test_a_minimum_on_the_bound_is_reached() -> None:
    found = search(lambda u: np.asarray(u[:, 0] + (u[:, 1] - 0.5) ** 2), np.full(2, 0.5), 1, PRECISE)
    assert found.u[0] < 1e-4
    assert found.u[1] == pytest.approx(0.5, abs=1e-2)


def test_restarts_leave_a_local_minimum() -> None:
    start = np.full(2, 0.05)
    small = Budget(population=6, max_evaluations=6000, max_restarts=0, sigma=0.03, tolerance=1e-6)
    stuck = search(rastrigin, start, 1, small)
    found = search(rastrigin, start, 1, Budget(population=6, max_evaluations=6000, max_restarts=5, sigma=0.3, tolerance=1e-6))
    assert stuck.misfit > 0.5
    assert found.misfit < 0.5 * stuck.misfit
    assert found.misfit == min(m for _, m in found.optima)


def test_same_seed_same_answer() -> None:
    one, other, third = (search(rastrigin, np.full(4, 0.5), s, Budget(max_evaluations=480)) for s in (5, 5, 6))
    assert np.array_equal(one.u, other.u)
    assert not np.array_equal(one.u, third.u)


def test_evaluations_are_never_overdrawn() -> None:
    asked = []
    found = search(
        lambda u: (asked.append(len(u)), ellipsoid(u))[1], np.full(3, 0.5), 1, Budget(population=10, max_evaluations=95)
    )
    assert sum(asked) == found.evaluations == 90
    assert found.stopped == "evaluations"


def test_seconds_of_the_injected_clock_end_the_search() -> None:
    now = iter(range(10_000))
    seen: list[Progress] = []
    budget = Budget(max_seconds=20, tolerance=1e-12)
    found = search(ellipsoid, np.full(5, 0.5), 1, budget, seen.append, clock=lambda: float(next(now)))
    assert found.stopped == "seconds"
    assert found.generations == len(seen) < 21


def test_candidates_that_are_not_numbers_are_merely_the_worst() -> None:
    def holes(u_bn: Array) -> Array:
        return np.where(u_bn[:, 0] > 0.6, np.inf, ellipsoid(u_bn))

    assert np.allclose(search(holes, np.full(3, 0.5), 1, PRECISE).u, 0.3, atol=1e-2)


# The polish, on a misfit that is exactly quadratic: measured = a straight line in known features.
N_H, N = 240, 3
FEATURES = np.random.default_rng(0).normal(size=(N, N_H, 1)) * np.array([1.0, 0.3, 0.05])[:, None, None]
TRUTH = np.array([0.4, 0.7, 0.5])


def line(u_bn: Array) -> Array:
    return np.einsum("bn,ntc->btc", u_bn, FEATURES)


def observed(truth: Array, noise: float = 0.0) -> Misfit:
    channels = Signature(Variable("zone_air_temperature", TEMPERATURE, Role.INDOOR, -50, 50))
    measured = line(truth[None])[0] + noise * np.random.default_rng(1).normal(size=(N_H, 1))
    ones = np.full((N_H, 1), max(noise, 0.1))
    hours = np.ones(N_H, dtype=bool)
    index = pd.date_range("2026-01-01", periods=N_H, freq="h", tz="UTC")
    scenario = type("NoScenario", (), {"index": index})()
    return Misfit(Observation(scenario, Signature(), channels, measured, ones, ones, hours, ~hours, {}, {}), channels)


def test_polish_solves_a_linear_valley_in_a_few_batches() -> None:
    misfit = observed(TRUTH, noise=0.05)
    start = np.array([0.5, 0.5, 0.1])
    u, linear = polish(lambda u_bn: misfit.errors(line(u_bn)), lambda u_bn: misfit(line(u_bn)), misfit, start)
    features = FEATURES[..., 0].T
    solution = np.linalg.lstsq(features, misfit.measured_tc[:, 0], rcond=None)[0]
    assert 0 < solution[2] < 1  # the weak direction is inside the cube for this seed
    assert np.allclose(u, solution, atol=1e-3)
    assert np.abs(linear.gradient).max() < 1e-6


def test_polish_keeps_to_the_cube_when_the_truth_lies_outside() -> None:
    misfit = observed(np.array([1.4, 0.5, 0.5]))
    u, linear = polish(lambda u_bn: misfit.errors(line(u_bn)), lambda u_bn: misfit(line(u_bn)), misfit, np.full(3, 0.5))
    assert u[0] == 1.0
    assert linear.gradient[0] < 0


def test_linear_gradient_is_the_slope_of_the_misfit() -> None:
    misfit = observed(TRUTH, noise=0.05)
    at = np.array([0.45, 0.6, 0.3])
    linear = linearise(lambda u_bn: misfit.errors(line(u_bn)), misfit, at)
    h = 1e-5
    slope = [(misfit(line((at + h * e)[None])) - misfit(line((at - h * e)[None])))[0] / (2 * h) for e in np.eye(N)]
    assert np.allclose(linear.gradient, slope, rtol=1e-3, atol=1e-6)
