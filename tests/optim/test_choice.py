"""Choices whose answer is known by looking at the front."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import pytest

from building.errors import UnknownNameError
from building.plan import Plan
from optim.choice import RULES, choose, weighted
from optim.front import Front

FrontOf = Callable[..., Front]

#            energy, discomfort, co2
VALUES = [[50, 9, 0], [60, 4, 0], [70, 2, 0], [80, 1, 0], [95, 0.2, 0]]


def chosen(plan: Plan) -> float:
    return float(plan.meta["predicted"]["energy"])


def test_no_worse_takes_the_least_energy_within_the_own_comfort(front_of: FrontOf) -> None:
    plan = choose(front_of(VALUES, baseline=[100, 2.5, 0]))
    assert chosen(plan) == 70
    assert plan.origin == "optimised"
    assert plan.meta["saving"]["own"] == pytest.approx(0.3)
    assert plan.meta["slack"] == {}
    assert "no worse" in plan.meta["reason"]


def test_no_worse_uses_the_tolerance_where_the_own_comfort_is_nearly_perfect(front_of: FrontOf) -> None:
    assert chosen(choose(front_of(VALUES, baseline=[100, 0.0, 0]))) == 95


def test_no_worse_judges_with_the_safety_margins_first(front_of: FrontOf) -> None:
    guarded = [[e, d + 1, c] for e, d, c in VALUES]
    plan = choose(front_of(VALUES, baseline=[100, 2.5, 0], guarded=guarded))
    assert chosen(plan) == 80
    assert "with the safety margins" in plan.meta["reason"]


def test_no_worse_falls_back_to_plain_predictions_and_says_so(front_of: FrontOf) -> None:
    guarded = [[e, d + 9, c] for e, d, c in VALUES]
    plan = choose(front_of(VALUES, baseline=[100, 2.5, 0], guarded=guarded))
    assert chosen(plan) == 70
    assert "without safety margins" in plan.meta["reason"]


def test_own_schedule_stays_when_nothing_saves_without_being_worse(front_of: FrontOf) -> None:
    plan = choose(front_of(VALUES, baseline=[75, 1.0, 0]))
    assert plan.origin == "own"
    assert chosen(plan) == 75
    assert plan.meta["saving"]["own"] == 0
    assert "stays" in plan.meta["reason"]


def test_plan_with_foul_air_is_not_no_worse_however_cheap(front_of: FrontOf) -> None:
    values = [[40, 1, 300], [80, 1, 0]]
    assert chosen(choose(front_of(values, baseline=[100, 2, 100]))) == 80


def test_plan_that_breaks_a_hard_limit_is_never_taken_while_another_keeps_them(front_of: FrontOf) -> None:
    front = front_of(VALUES, baseline=[100, 2.5, 0], violation=[0, 0, 3, 0, 0])
    for rule in RULES:
        assert choose(front, rule).meta["violation"] == 0
    assert chosen(choose(front)) == 80


def test_when_no_plan_keeps_the_limits_the_least_broken_one_is_returned_with_its_reason(front_of: FrontOf) -> None:
    front = front_of(VALUES, baseline=[100, 2.5, 0], violation=[5, 4, 1, 3, 2], meta={"broken": {"frost": 1.0}})
    own = front.references["own"]
    cold = {"own": type(own)(own.plan, own.values, violation=7.0)}
    plan = choose(front_of(VALUES, violation=[5, 4, 1, 3, 2], meta={"broken": {"frost": 1.0}}, references=cold))
    assert chosen(plan) == 70
    assert "breaks them least: frost by 1" in plan.meta["reason"]


def test_when_own_breaks_a_limit_and_no_plan_is_no_worse_the_least_worse_plan_that_keeps_it_wins(front_of: FrontOf) -> None:
    front = front_of(VALUES, baseline=[10, 0.1, 0])
    own = front.references["own"]
    frozen = {"own": type(own)(own.plan, own.values, violation=7.0)}
    plan = choose(front_of([[50, 9, 0], [60, 4, 0]], references=frozen))
    assert chosen(plan) == 60
    assert plan.meta["slack"] == {"discomfort": 3.5}


def test_knee_is_the_corner_of_an_l_shaped_front(front_of: FrontOf) -> None:
    assert chosen(choose(front_of([[10, 100], [11, 12], [50, 11], [100, 10]]), "knee")) == 11


def test_knee_of_a_single_plan_is_that_plan(front_of: FrontOf) -> None:
    assert chosen(choose(front_of([[10, 100]]), "knee")) == 10


def test_weights_at_the_ends_give_the_ends_of_the_front(front_of: FrontOf) -> None:
    front = front_of(VALUES)
    assert chosen(choose(front, weighted({"energy": 1}))) == 50
    assert chosen(choose(front, weighted({"discomfort": 1}))) == 95


def test_unknown_rule_and_weight_are_named_with_a_hint(front_of: FrontOf) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'no_worse'"):
        choose(front_of(VALUES), "no_wors")
    with pytest.raises(UnknownNameError, match="Did you mean 'energy'"):
        choose(front_of(VALUES), weighted({"enery": 1}))


def test_chosen_plan_is_plain_json_with_its_decisions_and_issue_time(front_of: FrontOf) -> None:
    issued = pd.Timestamp("2026-01-12T05:00Z")
    plan = choose(front_of(VALUES, baseline=[100, 2.5, 0]), issued=issued)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again.to_dict() == plan.to_dict()
    assert again.issued == issued
    assert set(again.meta["decisions"]) == {"setback_k"}
