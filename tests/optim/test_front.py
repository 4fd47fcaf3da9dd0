"""The front on fronts that are known by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.optimize import minimize
from pymoo.problems.multi.zdt import ZDT1

from building.errors import ShapeError, UnknownNameError
from optim.front import Front, non_dominated

FrontOf = Callable[..., Front]


def zdt1_front(n: int) -> NDArray[np.float64]:
    f1 = np.linspace(0, 1, n)
    return np.stack([f1, 1 - np.sqrt(f1)], axis=1)


def test_hypervolume_of_two_boxes_is_the_area_drawn_by_hand(front_of: FrontOf) -> None:
    # (1, 2) and (2, 1) in the box (4, 4): 3*2 + 2*3 - 2*2 = 8 of 16.
    assert front_of([[1, 2], [2, 1]]).hypervolume(np.array([4, 4])) == pytest.approx(0.5)


def test_hypervolume_of_the_true_zdt1_front_is_two_thirds(front_of: FrontOf) -> None:
    # 1 - integral of (1 - sqrt(f1)) = 2/3; a staircase of n points falls short by about 1/n.
    assert front_of(zdt1_front(2000)).hypervolume(np.array([1 + 1e-9, 1 + 1e-9])) == pytest.approx(2 / 3, abs=2e-3)


def test_nsga2_reaches_the_known_zdt1_front_and_the_front_says_so(front_of: FrontOf) -> None:
    result = minimize(ZDT1(n_var=8), NSGA2(pop_size=60), ("n_gen", 150), seed=1, verbose=False)
    assert front_of(result.F).hypervolume(np.array([1.1, 1.1])) == pytest.approx((1.21 - 1 / 3) / 1.21, abs=0.01)


def test_hypervolume_leaves_out_plans_that_break_a_limit_and_plans_beyond_the_reference(front_of: FrontOf) -> None:
    good = front_of([[1, 2]]).hypervolume(np.array([4, 4]))
    more = front_of([[1, 2], [0, 0], [9, 0]], violation=[0, 1, 0]).hypervolume(np.array([4, 4]))
    assert good == more == pytest.approx(6 / 16)
    assert front_of([[9, 9]]).hypervolume(np.array([4, 4])) == 0


@pytest.mark.parametrize("point", [[1.0], [1.0, 0.0], [1.0, 1.0, 1.0]])
def test_hypervolume_refuses_a_reference_point_that_spans_no_box(front_of: FrontOf, point: list[float]) -> None:
    with pytest.raises(ShapeError):
        front_of([[1, 2]]).hypervolume(np.array(point))


def test_non_dominated_keeps_exactly_the_unbeaten_rows_and_one_of_equal_ones() -> None:
    values = np.array([[1, 4], [2, 2], [2, 2], [3, 3], [4, 1], [1, 5]], dtype=float)
    assert non_dominated(values).tolist() == [0, 1, 4]


def test_non_dominated_agrees_with_the_definition_on_random_points() -> None:
    values = np.random.default_rng(3).integers(0, 6, size=(120, 3)).astype(float)
    kept = {tuple(v) for v in values[non_dominated(values)]}
    unbeaten = {tuple(v) for v in values if not ((values <= v).all(axis=1) & (values < v).any(axis=1)).any()}
    assert kept == unbeaten


def test_front_survives_json(front_of: FrontOf) -> None:
    front = front_of(zdt1_front(5), meta={"seed": 4})
    again = Front.from_dict(json.loads(json.dumps(front.to_dict())))
    assert again.to_dict() == front.to_dict()
    assert again.start == front.start
    assert again.references["own"].plan.to_dict() == front.references["own"].plan.to_dict()
    np.testing.assert_array_equal(again.plans_nts, front.plans_nts)


def test_front_with_arrays_that_do_not_fit_is_refused_by_name(front_of: FrontOf) -> None:
    with pytest.raises(ShapeError, match="violation_n"):
        front_of([[1, 2], [2, 1]], violation=[0.0])
    with pytest.raises(ShapeError, match="plans_nts"):
        front_of([[1, 2], [2, 1]], plans_nts=np.zeros((1, 24, 2)))


def test_unknown_baseline_and_objective_are_named_with_a_hint(front_of: FrontOf) -> None:
    with pytest.raises(UnknownNameError, match="'own' is not a reference"):
        front_of([[1, 2]], references={})
    with pytest.raises(UnknownNameError, match="Did you mean 'energy'"):
        front_of([[1, 2]]).position("enrgy")


def test_allowed_is_the_larger_of_baseline_and_tolerance(front_of: FrontOf) -> None:
    assert front_of([[1, 2]], baseline=[10, 0.1]).allowed().tolist() == [10, 0.5]
    assert front_of([[1, 2]], baseline=[10, 3.0]).allowed().tolist() == [10, 3.0]
