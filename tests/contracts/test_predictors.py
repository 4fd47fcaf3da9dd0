"""One suite for every Predictor: what calibration and optimisation rely on.

A new Predictor joins by adding an entry to CASES: its name, a function that makes it (and may skip), and tolerances. The two-
node building is exact; a network in float32 answers within its own rounding; EnergyPlus is asked little, for it is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from building.description import Building, load_building
from building.errors import ShapeError
from building.predictor import Predictor
from building.scenario import Scenario
from building.variables import Role
from models.runtime.bundle import load_bundle
from models.runtime.session import OnnxPredictor
from simulation.rc import RcPredictor

Array = NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[2]
START = pd.Timestamp("2026-01-26T06:00Z")  # a Monday, midnight in the standard time of both buildings


@dataclass(frozen=True)
class Case:
    """A Predictor to test.

    Attributes:
        make: returns the predictor and its building.
        relative: tolerance on each output, as a share of its greatest magnitude over the batch.
        past_h, future_h, n_batch: how much it is asked.
        weather: the weather it insists on, channels in its order, shape (time, weather); None when it takes any.
    """

    name: str
    make: Callable[[], tuple[Predictor, Building]]
    relative: float = 1e-9
    past_h: int = 168
    future_h: int = 72
    n_batch: int = 4
    weather: Callable[[int], Array] | None = None


def _rc() -> tuple[Predictor, Building]:
    building = load_building("two_node")
    return RcPredictor(building), building


def _bundle() -> tuple[Predictor, Building]:
    building = load_building("medium_office")
    return OnnxPredictor(load_bundle(ROOT / "bundles" / building.name)), building


def _energyplus() -> tuple[Predictor, Building]:
    pytest.importorskip("pyenergyplus", reason="EnergyPlus comes with the extra 'simulate'")
    from simulation.energyplus import EnergyPlusPredictor

    building = load_building("medium_office")
    return EnergyPlusPredictor(building, building.site.weather, START), building


@lru_cache
def _weather_of_the_file(hours: int) -> Array:
    """Return what the engine reports of its weather file from START on."""
    from simulation.energyplus import Run, simulate

    building = load_building("medium_office")
    index = pd.date_range(START, periods=hours, freq="h")
    series = building.own_schedule().unroll(index, building.site.time_zone)
    frame = simulate(building, Run(building.site.weather, {}, series))
    return frame[list(building.inputs.having(Role.WEATHER).names)].to_numpy()


CASES = [
    Case("rc", _rc),
    Case("bundle", _bundle, relative=1e-5),
    Case("energyplus", _energyplus, past_h=48, future_h=24, n_batch=2, weather=_weather_of_the_file),
]
MARKS = {"energyplus": pytest.mark.engine}


@lru_cache
def made(name: str) -> tuple[Predictor, Building]:
    return next(c for c in CASES if c.name == name).make()


@pytest.fixture(params=[pytest.param(c, id=c.name, marks=MARKS.get(c.name, ())) for c in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


def random_batch(case: Case, n_batch: int | None = None, seed: int = 11) -> tuple[pd.DatetimeIndex, Array]:
    """Plausible scenarios: the own schedule under random weather, parameters and shifts of the setpoints."""
    predictor, building = made(case.name)
    n_batch = n_batch or case.n_batch
    rng = np.random.default_rng(seed)
    index = pd.date_range(START, periods=case.past_h + case.future_h, freq="h")
    schedule = building.own_schedule().unroll(index, building.site.time_zone)
    x_btc = np.empty((n_batch, len(index), len(predictor.inputs)))
    day = np.sin(2 * np.pi * (index.hour.to_numpy() - 15) / 24)
    for c, v in enumerate(predictor.inputs):
        if v.name in schedule:
            x_btc[:, :, c] = schedule[v.name].to_numpy()
        elif v.role is Role.PARAMETER:
            x_btc[:, :, c] = rng.uniform(v.low, v.high, (n_batch, 1))
        else:
            level = rng.uniform(0.3, 0.6, (n_batch, 1)) + 0.1 * day + 0.02 * rng.standard_normal((n_batch, len(index)))
            x_btc[:, :, c] = v.low + (v.high - v.low) * np.clip(level, 0, 1)
    if case.weather is not None:
        x_btc[:, :, predictor.inputs.positions(predictor.inputs.having(Role.WEATHER).names)] = case.weather(len(index))
    for name, shift in (("heating_setpoint", -1.0), ("cooling_setpoint", 1.0)):
        if name in predictor.inputs:
            x_btc[:, :, predictor.inputs.position(name)] += shift * rng.random((n_batch, 1))
    return index, x_btc


def assert_same(one: Array, other: Array, case: Case) -> None:
    assert one.shape == other.shape
    span = np.abs(one).max(axis=(0, 1)) + 1e-12
    assert np.abs((one - other) / span).max() <= case.relative


def test_predictor_answers_in_the_shape_of_its_signature(case: Case) -> None:
    predictor, _ = made(case.name)
    assert isinstance(predictor, Predictor)
    _, x_btc = random_batch(case)
    y_bto = predictor.predict(x_btc)
    assert y_bto.shape == (*x_btc.shape[:2], len(predictor.outputs))
    assert np.isfinite(y_bto).all()


def test_predictor_declares_the_variables_of_its_building(case: Case) -> None:
    predictor, building = made(case.name)
    inputs, needed = predictor.inputs, building.inputs.having(Role.PARAMETER, Role.SETTING)
    assert list(inputs) == [v for v in building.inputs if v.name in inputs], "names, bounds and order of the building"
    assert set(needed.names) <= set(inputs.names), "what is fitted and what is chosen is never pruned"
    assert set(predictor.outputs.names) <= set(building.outputs.names)


def test_rows_of_a_batch_do_not_know_each_other(case: Case) -> None:
    predictor, _ = made(case.name)
    _, x_btc = random_batch(case)
    whole = predictor.predict(x_btc)
    for i in range(len(x_btc)):
        assert_same(whole[i : i + 1], predictor.predict(x_btc[i : i + 1]), case)


def test_the_future_does_not_change_the_past(case: Case) -> None:
    predictor, _ = made(case.name)
    _, x_btc = random_batch(case)
    changed = x_btc.copy()
    _, other = random_batch(case, seed=12)
    changed[:, case.past_h :] = other[:, case.past_h :]
    before, after = predictor.predict(x_btc), predictor.predict(changed)
    assert_same(before[:, : case.past_h], after[:, : case.past_h], case)
    assert np.abs(before[:, case.past_h :] - after[:, case.past_h :]).max() > 0


def test_a_predictor_given_its_past_answers_as_whole_windows_do(case: Case) -> None:
    predictor, _ = made(case.name)
    index, x_btc = random_batch(case)
    # One past and one set of parameters for all; the settings of the future differ from member to member.
    constant = predictor.inputs.positions(predictor.inputs.having(Role.PARAMETER).names)
    x_btc[:, :, constant] = x_btc[:1, :, constant]
    past = Scenario(predictor.inputs, index[: case.past_h], x_btc[0, : case.past_h])
    future = x_btc[:, case.past_h :]
    whole = predictor.predict(np.concatenate([np.repeat(past.values[None], len(x_btc), axis=0), future], axis=1))
    assert_same(whole[:, case.past_h :], predictor.given(past).predict(future), case)


def test_a_past_may_be_given_in_two_pieces(case: Case) -> None:
    predictor, _ = made(case.name)
    index, x_btc = random_batch(case, n_batch=1)
    past = Scenario(predictor.inputs, index[: case.past_h], x_btc[0, : case.past_h])
    cut = index[case.past_h - 24]
    pieces = predictor.given(past.between(index[0], cut)).given(past.between(cut, index[case.past_h]))
    assert_same(predictor.given(past).predict(x_btc[:, case.past_h :]), pieces.predict(x_btc[:, case.past_h :]), case)


def test_a_past_with_inputs_in_another_order_is_refused(case: Case) -> None:
    predictor, _ = made(case.name)
    index, x_btc = random_batch(case, n_batch=1)
    swapped = predictor.inputs.only(predictor.inputs.names[::-1])
    with pytest.raises(ShapeError, match="in their order"):
        predictor.given(Scenario(swapped, index, x_btc[0]))


def test_the_batch_asked_is_left_as_it_was(case: Case) -> None:
    predictor, _ = made(case.name)
    _, x_btc = random_batch(case)
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
