"""What a plan is compared with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from building.description import Building
from building.plan import Plan
from building.scenario import Scenario
from optim.constraints import LIMITS
from optim.decisions import Decisions
from optim.outlook import Outlook
from optim.references import own_plan, raised_plan, rules_plan

Week = Callable[..., tuple[Scenario, Scenario]]


@pytest.fixture(scope="module")
def outlook(two_node: Building, week: Week) -> Outlook:
    return Outlook.of(two_node, *week(two_node), two_node.outputs)


def test_own_schedule_without_air_in_its_first_hour_is_raised_exactly_there_and_it_is_said(outlook: Outlook) -> None:
    own = own_plan(outlook)
    raised, note = raised_plan(outlook, own)
    changed = (raised.frame != own.frame).any(axis=1).to_numpy()
    local = outlook.future.index.tz_convert("America/Chicago")
    # The damper opens at 7, people come at 6, on five weekdays and Saturday.
    assert set(local.hour[changed]) == {6}
    assert changed.sum() == 6
    assert "raised to the minimum air renewal in 6 occupied hours" in note
    np.testing.assert_allclose(raised.frame["outdoor_air_flow"][changed], outlook.renewal_t[changed])


def test_schedule_that_is_off_while_people_are_there_is_switched_on(outlook: Outlook) -> None:
    frame = own_plan(outlook).frame.copy()
    frame["system_on"] = 0.0
    raised, _ = raised_plan(outlook, Plan(frame))
    assert (raised.frame["system_on"].to_numpy() == outlook.is_occupied_t).all()
    short = LIMITS["renewal"](outlook.plan_values(raised), np.empty(0), outlook)
    assert short.tolist() == [0]


def test_schedule_that_keeps_the_limit_is_left_alone(outlook: Outlook) -> None:
    frame = own_plan(outlook).frame.assign(system_on=1.0, outdoor_air_flow=2.42)
    plan = Plan(frame)
    assert raised_plan(outlook, plan) == (plan, "")


@pytest.mark.parametrize("step_min", [60, 15])
def test_rules_keep_renewal_bounds_and_ramps(outlook: Outlook, step_min: int) -> None:
    rules = rules_plan(Decisions(outlook, step_min))
    assert rules.origin == "rules"
    assert rules.step_min == step_min
    for name in ("renewal", "bounds", "ramp"):
        assert LIMITS[name](outlook.plan_values(rules), np.empty(0), outlook).tolist() == [0]
