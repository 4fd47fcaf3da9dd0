"""One suite for every Predictor: what calibration and optimisation rely on.

A new Predictor joins by adding an entry to CASES: its name, a function that makes it (and may skip), and tolerances. The two-
node building is exact; a network in float32 answers within its own rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from building.description import Building, load_building
from building.errors import ShapeError
from building.predictor import Predictor
from building.scenario import Scenario
from building.variables import Role
from simulation.rc import RcPredictor

Array = NDArray[np.float64]
PAST_H, FUTURE_H = 168, 72


@dataclass(frozen=True)
class Case:
    """A Predictor to test.

    Attributes:
        make: returns the predictor and its building.
        relative: tolerance on each output, as a share of its range over the batch.
    """

    name: str
    make: Callable[[], tuple[Predictor, Building]]
    relative: float = 1e-9


def _rc() -> tuple[Predictor, Building]:
    building = load_building("two_node")
    return RcPredictor(building), building


CASES = [Case("rc", _rc)]


@lru_cache
def made(name: str) -> tuple[Predictor, Building]:
    return next(c for c in CASES if c.name == name).make()


@pytest.fixture(params=CASES, ids=lambda c: c.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


def random_batch(predictor: Predictor, building: Building, n_batch: int = 4, seed: int = 11) -> tuple[pd.DatetimeIndex, Array]:
    """Plausible scenarios: the own schedule under random weather, parameters and shifts of the setpoints."""
    rng = np.random.default_rng(seed)
    index = pd.date_range("2026-01-26", periods=PAST_H + FUTURE_H, freq="h", tz="UTC")
    schedule = building.own_schedule().unroll(index, building.site.time_zone)
    x_btc = np.empty((n_batch, len(index), len(predictor.inputs)))
    day = np.sin(2 * np.pi * (np.arange(len(index)) - 15) / 24)
    for c, v in enumerate(predictor.inputs):
        if v.name in schedule:
            x_btc[:, :, c] = schedule[v.name].to_numpy()
        elif v.role is Role.PARAMETER:
            x_btc[:, :, c] = rng.uniform(v.low, v.high, (n_batch, 1))
        else:
            level = rng.uniform(0.3, 0.6, (n_batch, 1)) + 0.1 * day + 0.02 * rng.standard_normal((n_batch, len(index)))
            x_btc[:, :, c] = v.low + (v.high - v.low) * np.clip(level, 0, 1)
    for name, shift in (("heating_setpoint", -1.0), ("cooling_setpoint", 1.0)):
        if name in predictor.inputs:
            x_btc[:, :, predictor.inputs.position(name)] += shift * rng.random((n_batch, 1))
    return index, x_btc


def assert_same(one: Array, other: Array, case: Case) -> None:
    assert one.shape == other.shape
    span = np.abs(one).max(axis=(0, 1)) + 1e-12
    assert np.abs((one - other) / span).max() <= case.relative


def test_predictor_answers_in_the_shape_of_its_signature(case: Case) -> None:
    predictor, building = made(case.name)
    assert isinstance(predictor, Predictor)
    _, x_btc = random_batch(predictor, building)
    y_bto = predictor.predict(x_btc)
    assert y_bto.shape == (*x_btc.shape[:2], len(predictor.outputs))
    assert np.isfinite(y_bto).all()


def test_predictor_declares_the_variables_of_its_building(case: Case) -> None:
    predictor, building = made(case.name)
    assert predictor.inputs == building.inputs
    assert set(predictor.outputs.names) <= set(building.outputs.names)


def test_rows_of_a_batch_do_not_know_each_other(case: Case) -> None:
    predictor, building = made(case.name)
    _, x_btc = random_batch(predictor, building)
    whole = predictor.predict(x_btc)
    for i in range(len(x_btc)):
        assert_same(whole[i : i + 1], predictor.predict(x_btc[i : i + 1]), case)


def test_the_future_does_not_change_the_past(case: Case) -> None:
    predictor, building = made(case.name)
    _, x_btc = random_batch(predictor, building)
    changed = x_btc.copy()
    _, other = random_batch(predictor, building, seed=12)
    changed[:, PAST_H:] = other[:, PAST_H:]
    before, after = predictor.predict(x_btc), predictor.predict(changed)
    assert_same(before[:, :PAST_H], after[:, :PAST_H], case)
    assert np.abs(before[:, PAST_H:] - after[:, PAST_H:]).max() > 0


def test_a_predictor_given_its_past_answers_as_whole_windows_do(case: Case) -> None:
    predictor, building = made(case.name)
    index, x_btc = random_batch(predictor, building)
    # One past and one set of parameters for all; the settings of the future differ from member to member.
    constant = predictor.inputs.positions(predictor.inputs.having(Role.PARAMETER).names)
    x_btc[:, :, constant] = x_btc[:1, :, constant]
    past = Scenario(predictor.inputs, index[:PAST_H], x_btc[0, :PAST_H])
    future = x_btc[:, PAST_H:]
    whole = predictor.predict(np.concatenate([np.repeat(past.values[None], len(x_btc), axis=0), future], axis=1))
    assert_same(whole[:, PAST_H:], predictor.given(past).predict(future), case)


def test_a_past_may_be_given_in_two_pieces(case: Case) -> None:
    predictor, building = made(case.name)
    index, x_btc = random_batch(predictor, building, n_batch=1)
    past = Scenario(predictor.inputs, index[:PAST_H], x_btc[0, :PAST_H])
    cut = index[PAST_H - 24]
    pieces = predictor.given(past.between(index[0], cut)).given(past.between(cut, index[PAST_H]))
    assert_same(predictor.given(past).predict(x_btc[:, PAST_H:]), pieces.predict(x_btc[:, PAST_H:]), case)


def test_the_batch_asked_is_left_as_it_was(case: Case) -> None:
    predictor, building = made(case.name)
    _, x_btc = random_batch(predictor, building)
    kept = x_btc.copy()
    predictor.predict(x_btc)
    assert np.array_equal(x_btc, kept)


@pytest.mark.parametrize("shape", [(24, 1), (1, 24, -1), (1, 24, +1)])
def test_a_wrong_shape_is_refused_by_name(case: Case, shape: tuple[int, ...]) -> None:
    predictor, _ = made(case.name)
    n = len(predictor.inputs)
    wrong = np.zeros((shape[0], n)) if len(shape) == 2 else np.zeros((shape[0], shape[1], n + shape[2]))
    with pytest.raises(ShapeError, match=str(n)):
        predictor.predict(wrong)
