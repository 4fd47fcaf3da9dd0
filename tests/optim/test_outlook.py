"""What is known before a plan is chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from building.description import Building
from building.errors import IrregularTimeError, MissingColumnError, ShapeError, UnknownNameError
from building.plan import Plan
from building.scenario import Scenario
from optim.outlook import Margins, Outlook, hourly_means

Week = Callable[..., tuple[Scenario, Scenario]]


@pytest.mark.parametrize(("mean_c", "band"), [(-3.0, (20, 24)), (12.5, (20, 26)), (24.0, (23, 26))])
def test_band_follows_the_season(two_node: Building, week: Week, mean_c: float, band: tuple[float, float]) -> None:
    outlook = Outlook.of(two_node, *week(two_node, mean_c=mean_c), two_node.outputs)
    assert (outlook.low_t[80], outlook.high_t[80]) == band


def test_renewal_is_four_litres_per_person_and_a_fifth_per_square_metre_while_occupied(two_node: Building, week: Week) -> None:
    outlook = Outlook.of(two_node, *week(two_node), two_node.outputs)
    # Monday 9 h: 95 % of 0.0538 people per m2, in m3/h.
    assert outlook.renewal_t[9] == pytest.approx(3.6 * (4 * 0.95 * 0.0538 + 0.2))
    assert outlook.renewal_t[3] == 0


def test_limits_of_the_building_win(two_node: Building, week: Week) -> None:
    strict = Building(two_node.facts.model_copy(update={"limits": {"air_per_person_cat_iii": 8.0}}), two_node.folder)
    outlook = Outlook.of(strict, *week(strict), strict.outputs)
    assert outlook.renewal_t[9] == pytest.approx(3.6 * (8 * 0.95 * 0.0538 + 0.2))
    misspelt = Building(two_node.facts.model_copy(update={"limits": {"frost_limt": 8.0}}), two_node.folder)
    with pytest.raises(UnknownNameError, match="Did you mean 'frost_limit'"):
        Outlook.of(misspelt, *week(misspelt), misspelt.outputs)


def test_margins_narrow_the_band_and_lower_the_co2_limit_but_never_turn_the_band_over(two_node: Building, week: Week) -> None:
    outlook = Outlook.of(two_node, *week(two_node), two_node.outputs)
    tight = outlook.tightened(Margins(0.5, 50))
    assert (tight.low_t[9], tight.high_t[9], tight.limits["co2_above_outdoor"]) == (20.5, 23.5, 750)
    assert (outlook.tightened(Margins(9)).low_t == 22).all()


def test_too_short_a_past_is_refused(two_node: Building, week: Week) -> None:
    past, future = week(two_node)
    with pytest.raises(ShapeError, match="a past of at least 168 h"):
        Outlook.of(two_node, past.between(past.index[1], future.index[0]), future, two_node.outputs)


def test_a_hole_between_past_and_future_is_refused(two_node: Building, week: Week) -> None:
    past, future = week(two_node)
    with pytest.raises(IrregularTimeError):
        Outlook.of(two_node, past, future.between(future.index[2], future.index[-1]), two_node.outputs)


def test_scenarios_differ_from_the_forecast_only_in_settings(two_node: Building, week: Week) -> None:
    outlook = Outlook.of(two_node, *week(two_node), two_node.outputs)
    plans = np.random.default_rng(0).random((3, 168, 5))
    x = outlook.scenarios(plans)
    settings = two_node.inputs.positions(two_node.settings.names)
    np.testing.assert_array_equal(x[:, :, settings], plans)
    others = [c for c in range(len(two_node.inputs)) if c not in settings]
    np.testing.assert_array_equal(x[1][:, others], outlook.future.values[:, others])


def test_hourly_means_of_quarters_and_refusal_of_broken_hours() -> None:
    assert hourly_means(np.array([0, 0, 1, 1, 4, 4, 4, 4.0]).reshape(1, 8, 1), 2).ravel().tolist() == [0.5, 4]
    with pytest.raises(ShapeError):
        hourly_means(np.zeros((1, 7, 1)), 2)


def test_plan_that_does_not_cover_the_outlook_or_lacks_a_setting_is_refused(two_node: Building, week: Week) -> None:
    outlook = Outlook.of(two_node, *week(two_node), two_node.outputs)
    frame = outlook.future.frame()[list(two_node.settings.names)]
    assert outlook.plan_values(Plan(frame)).shape == (1, 168, 5)
    with pytest.raises(ShapeError, match="168 hours"):
        outlook.plan_values(Plan(frame.iloc[:100]))
    with pytest.raises(MissingColumnError, match="system_on"):
        outlook.plan_values(Plan(pd.DataFrame(frame.drop(columns="system_on"))))
