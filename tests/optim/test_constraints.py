"""Hard limits on plans that break them by a known amount."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from building.description import Building
from building.scenario import Scenario
from optim.constraints import LIMITS, bounds, frost, ramp, renewal
from optim.outlook import Outlook

Week = Callable[..., tuple[Scenario, Scenario]]


@pytest.fixture(scope="module")
def outlook(two_node: Building, week: Week) -> Outlook:
    return Outlook.of(two_node, *week(two_node), two_node.outputs)


def calm_plan(outlook: Outlook, per_hour: int = 1) -> np.ndarray:
    plan = np.tile([16.0, 26.0, 1.0, 3.0, 12.8], (1, 168 * per_hour, 1))
    assert outlook.settings.names[:2] == ("heating_setpoint", "cooling_setpoint")
    return plan


def warm_rooms(outlook: Outlook) -> np.ndarray:
    y = np.zeros((1, 168, len(outlook.outputs)))
    y[:, :, outlook.outputs.position("zone_air_temperature")] = 20.0
    return y


@pytest.mark.parametrize("per_hour", [1, 4])
def test_a_calm_plan_keeps_every_limit(outlook: Outlook, per_hour: int) -> None:
    for name, limit in LIMITS.items():
        assert limit(calm_plan(outlook, per_hour), warm_rooms(outlook), outlook).tolist() == [0], name


def test_frost_adds_up_kelvin_hours_of_the_coldest_zone(outlook: Outlook) -> None:
    y = warm_rooms(outlook)
    y[0, 3:7, outlook.outputs.position("zone_air_temperature")] = 4.0
    assert frost(calm_plan(outlook), y, outlook) == pytest.approx(4.0)


@pytest.mark.parametrize("per_hour", [1, 4])
def test_renewal_adds_up_what_is_owed_and_not_given(outlook: Outlook, per_hour: int) -> None:
    plan = calm_plan(outlook, per_hour)
    plan[0, 9 * per_hour : 10 * per_hour, 2] = 0.0
    plan[0, 3 * per_hour : 4 * per_hour, 2] = 0.0  # nobody there
    assert renewal(plan, warm_rooms(outlook), outlook) == pytest.approx(outlook.renewal_t[9])


def test_bounds_catch_a_value_outside_and_setpoints_too_near(outlook: Outlook) -> None:
    plan = calm_plan(outlook)
    plan[0, 5, 3] = 6.0
    assert bounds(plan, warm_rooms(outlook), outlook) == pytest.approx(0.6)
    plan = calm_plan(outlook)
    plan[0, 5, 0], plan[0, 5, 1] = 22.0, 22.3
    assert bounds(plan, warm_rooms(outlook), outlook) == pytest.approx(0.7)


def test_ramp_catches_a_jump_and_a_jump_from_what_is_set_now(outlook: Outlook) -> None:
    plan = calm_plan(outlook)
    plan[0, 40, 0] = 23.5
    assert ramp(plan, warm_rooms(outlook), outlook) == pytest.approx(1.5)
    now = outlook.last_settings()["heating_setpoint"]
    plan = calm_plan(outlook)
    plan[0, 0, 0] = now + 8
    assert ramp(plan, warm_rooms(outlook), outlook) >= 2 - 1e-9


def test_ramp_at_15_min_is_what_happens_within_an_hour(outlook: Outlook) -> None:
    plan = calm_plan(outlook, 4)
    plan[0, 200:, 0] = [16 + min(8, 2 * (k + 1)) for k in range(168 * 4 - 200)]
    assert ramp(plan, warm_rooms(outlook), outlook) == pytest.approx(2.0)
