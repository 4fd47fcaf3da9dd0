"""What every Objective must do, on both buildings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from building.description import load_building
from building.scenario import Scenario
from building.variables import Role, Signature
from optim.objectives import GUARDED, KNOWN, OBJECTIVES, TOLERANCE_PER_WEEK, UNITS
from optim.outlook import Margins, Outlook

Array = NDArray[np.float64]


def outlook_of(name: str) -> Outlook:
    """An outlook of two days of January: the objectives read occupancy, band and weather from it."""
    building = load_building(name)
    index = pd.date_range("2026-01-05T06:00Z", periods=168 + 48, freq="60min")
    frame = building.own_schedule().unroll(index, building.site.time_zone)
    for v in building.inputs.having(Role.WEATHER):
        frame[v.name] = 0.5 * (v.low + v.high)
    frame["outdoor_air_temperature"] = -5.0
    whole = Scenario.from_frame(building.inputs, frame, building.parameter_space.defaults())
    return Outlook.of(
        building,
        whole.between(index[0], index[168]),
        whole.between(index[168], index[-1] + pd.Timedelta(hours=1)),
        building.outputs,
    )


def predictions(outputs: Signature, n: int = 6, hours: int = 48) -> Array:
    """Predictions spread so that every objective has something to count."""
    rng = np.random.default_rng(5)
    ranges = {"temperature": (16, 30), "co2": (400, 2500), "humidity_ratio": (0.001, 0.016), "power": (0, 1e5)}
    low, high = np.array([ranges[v.quantity.name] for v in outputs]).T
    return low + (high - low) * rng.random((n, hours, len(outputs)))


OUTLOOKS = {name: outlook_of(name) for name in ("two_node", "medium_office")}
every = pytest.mark.parametrize("name", KNOWN)
both = pytest.mark.parametrize("building", OUTLOOKS)


@every
@both
def test_objective_gives_one_finite_value_per_plan_that_is_not_negative(name: str, building: str) -> None:
    outlook = OUTLOOKS[building]
    value = KNOWN[name](predictions(outlook.outputs), outlook)
    assert value.shape == (6,)
    assert np.isfinite(value).all()
    assert (value > 0).all()


@every
@both
def test_objective_judges_each_plan_alone(name: str, building: str) -> None:
    outlook = OUTLOOKS[building]
    y = predictions(outlook.outputs)
    alone = [float(KNOWN[name](y[i : i + 1], outlook)[0]) for i in range(len(y))]
    np.testing.assert_allclose(KNOWN[name](y, outlook), alone, rtol=1e-12)


@every
@both
def test_objective_leaves_its_predictions_alone(name: str, building: str) -> None:
    outlook = OUTLOOKS[building]
    y = predictions(outlook.outputs)
    before = y.copy()
    KNOWN[name](y, outlook)
    np.testing.assert_array_equal(y, before)


@every
@both
def test_objective_finds_its_channels_by_name(name: str, building: str) -> None:
    outlook = OUTLOOKS[building]
    y = predictions(outlook.outputs)
    turned = Signature(*reversed(outlook.outputs.variables))
    again = Outlook(**{**vars(outlook), "outputs": turned})
    np.testing.assert_allclose(KNOWN[name](y[:, :, ::-1], again), KNOWN[name](y, outlook), rtol=1e-9)


@every
@both
def test_safety_margins_never_flatter_and_act_only_on_guarded_objectives(name: str, building: str) -> None:
    outlook = OUTLOOKS[building]
    y = predictions(outlook.outputs)
    plain, guarded = KNOWN[name](y, outlook), KNOWN[name](y, outlook.tightened(Margins(0.5, 50)))
    assert (guarded > plain).all() if name in GUARDED else (guarded == plain).all()


@every
def test_objective_has_a_unit_and_a_meaning(name: str) -> None:
    assert UNITS[name]
    assert KNOWN[name].__doc__


def test_tables_agree() -> None:
    assert set(OBJECTIVES) <= set(KNOWN) == set(UNITS)
    assert set(TOLERANCE_PER_WEEK) | {"energy"} == set(OBJECTIVES)
    assert set(GUARDED) <= set(OBJECTIVES)
