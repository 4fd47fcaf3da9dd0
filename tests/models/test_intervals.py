"""Prediction intervals: how often they hold on runs nobody fitted, exact zeros, bounds, and what a damaged bundle is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from building.errors import BadBundleError
from building.units import POWER, SHARE, TEMPERATURE
from building.variables import Role, Signature, Variable
from models.evaluation import coverage
from models.runtime.bundle import Bundle
from models.runtime.intervals import KINDS, LEAST_H, Intervals

INPUTS = Signature(Variable("system_on", SHARE, Role.SETTING, 0, 1))
OUTPUTS = Signature(
    Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="core"),
    Variable("gas_coil_heat", POWER, Role.CONSUMPTION, 0, 1e4),
    Variable("fan_electricity", POWER, Role.CONSUMPTION, 0, 1e4),
)


def runs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, prediction and scenario of n runs of four weeks: each run has a bias of its own, restart hours err threefold."""
    rng = np.random.default_rng(seed)
    hour = np.arange(672) % 24
    x = np.broadcast_to(((hour >= 6) & (hour < 19)).astype(float), (n, 672))[..., None]
    pred = np.empty((n, 672, 3))
    pred[..., 0] = 21 + 2 * np.sin(2 * np.pi * hour / 24)
    pred[..., 1] = np.where(x[..., 0] > 0, 2000 + 1500 * np.sin(2 * np.pi * hour / 24), 0.0)
    pred[..., 2] = 500 * x[..., 0]
    size = np.where(hour == 6, 3.0, 1.0)
    true = pred.copy()
    true[..., 0] += size * (0.15 * rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, 672)))
    true[..., 1] *= 1 + 0.1 * size * rng.normal(size=(n, 672))
    true[..., 2] *= 1 + 0.05 * rng.normal(size=(n, 672))
    return np.clip(true, OUTPUTS_LOW, None), pred, x


OUTPUTS_LOW = np.array([v.low for v in OUTPUTS])


@pytest.fixture(scope="module")
def fitted() -> Intervals:
    true, pred, x = runs(24, seed=1)
    return Intervals.fit_across(true, pred, x, np.arange(24), INPUTS, OUTPUTS)[0]


def bundle_with(facts: dict[str, object]) -> Bundle:
    return Bundle(Path("b"), "toy", INPUTS, OUTPUTS, *[0] * (len(Bundle.__dataclass_fields__) - 5), facts)  # type: ignore[arg-type]


def test_nine_hours_of_ten_of_runs_nobody_fitted_lie_inside_for_every_output(fitted: Intervals) -> None:
    true, pred, x = runs(40, seed=2)
    shares = coverage(true, *fitted.around(pred, x), OUTPUTS)
    assert all(0.87 <= c["coverage"] <= 0.93 for c in shares.values()), shares


def test_runs_left_out_of_the_fit_are_covered_as_fresh_runs_are() -> None:
    true, pred, x = runs(24, seed=3)
    _, low, high = Intervals.fit_across(true, pred, x, np.arange(24), INPUTS, OUTPUTS)
    assert all(0.88 <= c["coverage"] <= 0.93 for c in coverage(true, low, high, OUTPUTS).values())


def test_the_hour_of_a_restart_is_known_to_be_less_sure(fitted: Intervals) -> None:
    _, pred, x = runs(1, seed=4)
    low, high = fitted.around(pred, x)
    width = (high - low)[0, 24:, 0].reshape(-1, 24).mean(axis=0)
    assert width[6] > 2 * width[12]


def test_what_is_certainly_off_has_an_interval_without_width_and_no_power_goes_below_zero(fitted: Intervals) -> None:
    _, pred, x = runs(2, seed=5)
    low, high = fitted.around(pred, x)
    off = x[..., 0] == 0
    assert (low[off][:, 1:] == 0).all() and (high[off][:, 1:] == 0).all()
    assert (low[..., 1:] >= 0).all() and (high[..., 1] > low[..., 1])[~off].all()


def test_a_zero_that_is_often_wrong_has_an_interval_that_begins_at_zero() -> None:
    true, pred, x = runs(24, seed=6)
    wrong = (x[..., 0] == 0) & (np.random.default_rng(0).random(x.shape[:2]) < 0.3)
    true[..., 1][wrong] = 700.0
    low, high = Intervals.fit(true, pred, x, INPUTS, OUTPUTS).around(pred, x)
    off = (x[..., 0] == 0)[:, 24:]
    assert (low[:, 24:, 1][off] == 0).all() and (high[:, 24:, 1][off] == 700).all()


def test_an_interval_holds_its_prediction_and_stays_within_the_bounds_of_its_output(fitted: Intervals) -> None:
    pred = np.stack([np.linspace(-10, 60, 200), np.linspace(0, 1e4, 200), np.linspace(0, 1e4, 200)], axis=-1)[None]
    low, high = fitted.around(pred, np.ones((1, 200, 1)))
    assert (low <= pred).all() and (pred <= high).all()
    assert (low >= OUTPUTS_LOW).all() and (high <= [v.high for v in OUTPUTS]).all()


def test_a_kind_of_hour_that_was_rare_takes_the_errors_of_all_hours() -> None:
    true, pred, x = runs(4, seed=7)
    assert ((x[:, 1:, 0] > 0) & (x[:, :-1, 0] == 0)).sum() < LEAST_H
    fitted = Intervals.fit(true, pred, x, INPUTS, OUTPUTS)
    assert np.array_equal(fitted.above_okg[0, KINDS.index("starting")], fitted.above_okg[0, KINDS.index("stopping")])


def test_a_building_without_a_switch_is_always_running() -> None:
    true, pred, x = runs(6, seed=8)
    other = Signature(Variable("opening", SHARE, Role.SETTING, 0, 1))
    low, high = Intervals.fit(true, pred, x, other, OUTPUTS).around(pred, x)
    assert 0.88 < coverage(true, low, high, OUTPUTS)["core_air_temperature"]["coverage"] < 0.92


def test_intervals_travel_in_the_bundle_as_plain_json(fitted: Intervals) -> None:
    data = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    back = Intervals.of(bundle_with({"intervals": data}))
    assert back is not None
    _, pred, x = runs(1, seed=9)
    for found, wanted in zip(back.around(pred, x), fitted.around(pred, x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0.01, atol=0.01)
    assert len(json.dumps(data)) / len(OUTPUTS) < 800  # bytes an output; forty of them stay below 30 kB


def test_a_bundle_without_intervals_has_none() -> None:
    assert Intervals.of(bundle_with({})) is None


@pytest.mark.parametrize("damage", ["no output", "text", "no number", "another length"])
def test_damaged_intervals_are_refused(fitted: Intervals, damage: str) -> None:
    data = json.loads(json.dumps(fitted.to_dict()))
    running = data["outputs"]["gas_coil_heat"]["running"]
    if damage == "no output":
        del data["outputs"]["gas_coil_heat"]
    elif damage == "text":
        running["above"][0] = "wide"
    elif damage == "no number":
        running["above"][0] = None
    else:
        running["above"] = running["above"][1:]
    with pytest.raises(BadBundleError, match="intervals"):
        Intervals.of(bundle_with({"intervals": data}))
