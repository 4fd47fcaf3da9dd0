"""Every decision vector unrolls to an allowed plan, whatever the week."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from building.description import Building
from building.errors import ShapeError
from building.plan import DEADBAND_K
from building.scenario import Scenario
from optim.constraints import bounds, ramp, renewal
from optim.decisions import Decisions
from optim.outlook import Outlook
from optim.references import GOOD_PRACTICE, nearest_vector, own_plan

Week = Callable[..., tuple[Scenario, Scenario]]
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def decisions_of(building: Building, week: Week, step_min: int = 60, **more: object) -> Decisions:
    past, future = week(building, **more)
    return Decisions(Outlook.of(building, past, future, building.outputs), step_min)


@pytest.mark.parametrize("step_min", [60, 15])
@quick
@given(data=st.data())
def test_every_vector_gives_a_plan_within_bounds_ramps_deadband_and_renewal(
    two_node: Building, week: Week, step_min: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    odd_hours = np.where(rng.random(168) < data.draw(st.floats(0, 1)), rng.random(168), 0.0)
    heating = data.draw(st.floats(14, 24))
    now = {"heating_setpoint": heating, "cooling_setpoint": data.draw(st.floats(max(21, heating + DEADBAND_K), 32))}
    now["supply_air_temperature"] = data.draw(st.floats(11, 18))
    decisions = decisions_of(two_node, week, step_min, mean_c=data.draw(st.floats(-20, 32)), occupancy=odd_hours, now=now)
    u = np.concatenate([rng.random((6, len(decisions.space))), rng.integers(0, 2, (6, len(decisions.space))).astype(float)])
    plans = decisions.unroll(u)
    outlook = decisions.outlook
    no_prediction = np.empty((0,))
    for limit in (bounds, ramp, renewal):
        assert limit(plans, no_prediction, outlook).max() == 0, limit.__name__
    for plan in plans:
        decisions.plan(plan, "optimised", {}).check(outlook.settings)


@quick
@given(seed=st.integers(0, 2**32 - 1))
def test_system_runs_whenever_people_are_there(two_node: Building, week: Week, seed: int) -> None:
    rng = np.random.default_rng(seed)
    decisions = decisions_of(two_node, week, occupancy=np.where(rng.random(168) < 0.3, rng.random(168), 0.0))
    on = decisions.unroll(rng.random((5, len(decisions.space))))[:, :, decisions.outlook.settings.position("system_on")]
    assert (on[:, decisions.outlook.is_occupied_t] == 1).all()


def test_plan_does_not_depend_on_its_neighbours(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week)
    u = np.random.default_rng(0).random((7, len(decisions.space)))
    together = decisions.unroll(u)
    for i in range(len(u)):
        np.testing.assert_array_equal(decisions.unroll(u[i : i + 1])[0], together[i])


def series_of(decisions: Decisions, setting: str, **named: float) -> np.ndarray:
    plans = decisions.unroll(decisions.vector(named)[None])
    return plans[0, :, decisions.outlook.settings.position(setting)]


def test_lead_starts_the_system_that_many_hours_before_people_come(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week, mean_c=20.0)
    local = decisions.index.tz_convert(two_node.site.time_zone)
    lead = {"lead_mild_h": 2.0, "lead_cold_h": 0.0, "lead_break_h": 0.0, "purge_h": 0.0}
    tuesday = (local.day_of_week == 1) & (series_of(decisions, "system_on", **lead) > 0)
    # The own schedule has people from 6 to 22.
    assert (local[tuesday].hour.min(), local[tuesday].hour.max()) == (4, 21)


def test_lead_of_a_quarter_hour_is_kept_at_15_min_and_averaged_by_the_hour(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week, 15, mean_c=20.0)
    on = series_of(decisions, "system_on", lead_mild_h=0.75, lead_break_h=0.0, purge_h=0.0)
    x = decisions.outlook.scenarios(
        decisions.unroll(decisions.vector({"lead_mild_h": 0.75, "lead_break_h": 0, "purge_h": 0})[None])
    )
    hourly = x[0, :, two_node.inputs.position("system_on")]
    local = decisions.outlook.future.index.tz_convert(two_node.site.time_zone)
    assert on[5 * 4 : 6 * 4].tolist() == [0, 1, 1, 1]
    assert hourly[(local.day_of_week == 0) & (local.hour == 5)].tolist() == [0.75]


def test_cold_mornings_and_mondays_start_earlier(two_node: Building, week: Week) -> None:
    named = {"lead_cold_h": 4.0, "lead_mild_h": 1.0, "lead_break_h": 2.0, "purge_h": 0.0}
    hours = {}
    for mean in (-20.0, 20.0):
        decisions = decisions_of(two_node, week, mean_c=mean)
        on = series_of(decisions, "system_on", **named)
        hours[mean] = (on[:6].sum(), on[24:30].sum())
    assert hours == {-20.0: (6, 4), 20.0: (3, 1)}


def test_purge_runs_only_in_the_warm_season_and_brings_all_outdoor_air(two_node: Building, week: Week) -> None:
    named = {"purge_h": 3.0, "lead_mild_h": 0.0, "lead_cold_h": 0.0, "lead_break_h": 0.0}
    flow_max = two_node.settings["outdoor_air_flow"].high
    warm = series_of(decisions_of(two_node, week, mean_c=21.0), "outdoor_air_flow", **named)
    cold = series_of(decisions_of(two_node, week, mean_c=-3.0), "outdoor_air_flow", **named)
    assert (warm == flow_max).sum() >= 6
    assert (cold == flow_max).sum() == 0


def test_supply_air_follows_the_weather_along_its_three_knots(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week, mean_c=6.0)
    supply = series_of(decisions, "supply_air_temperature", supply_cold=17.0, supply_mild=14.0, supply_warm=12.0)
    wanted = np.interp(decisions.outlook.outdoor_t, (0, 12, 22), (17, 14, 12))
    # The first hour comes from 12.8 degC by the ramp; after that the weather moves slower than the ramp.
    np.testing.assert_allclose(supply[2:], wanted[2:], atol=1e-3)


def test_setpoints_stand_at_the_band_plus_offsets_while_people_are_there(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week, mean_c=-3.0)
    named = {"heating_offset_k": 0.5, "cooling_offset_k": -0.25, "setback_k": 5.0, "setup_k": 4.0}
    occupied = decisions.outlook.is_occupied_t
    assert series_of(decisions, "heating_setpoint", **named)[occupied] == pytest.approx(20.5)
    assert series_of(decisions, "cooling_setpoint", **named)[occupied] == pytest.approx(23.75)
    assert series_of(decisions, "heating_setpoint", **named).min() == pytest.approx(15.5)
    assert series_of(decisions, "cooling_setpoint", **named).max() == pytest.approx(27.75)


def test_heating_is_at_its_setpoint_when_people_come_even_from_a_setback_deeper_than_the_ramp(
    two_node: Building, week: Week
) -> None:
    decisions = decisions_of(two_node, week, mean_c=25.0)
    heating = series_of(decisions, "heating_setpoint", heating_offset_k=1.0, setback_k=7.0, lead_mild_h=0.0, lead_break_h=0.0)
    assert heating[24 + 6] == pytest.approx(24.0)
    assert heating[24 + 5] == pytest.approx(18.0, abs=1e-3)
    assert heating[24 + 4] == pytest.approx(17.0, abs=1e-3)


@pytest.mark.parametrize("monday", ["2026-03-02", "2026-10-26"])
def test_weeks_with_a_change_of_time_start_at_the_same_wall_clock_hour(two_node: Building, week: Week, monday: str) -> None:
    # Sunday of each week has 23 or 25 hours; 168 hours from Monday on end within or after it.
    decisions = decisions_of(two_node, week, monday=monday, mean_c=20.0)
    assert len(decisions.index) == 168
    on = series_of(decisions, "system_on", lead_mild_h=1.0, lead_break_h=0.0, purge_h=0.0) > 0
    local = decisions.index.tz_convert(two_node.site.time_zone)
    first = pd.Series(local.hour[on]).groupby(local.date[on]).min()
    assert len(first) == 6
    assert set(first) == {5}


@pytest.mark.parametrize("start", ["2026-03-07", "2026-10-31"])
def test_the_day_of_the_change_itself_is_planned_by_the_wall_clock(two_node: Building, week: Week, start: str) -> None:
    # People on the Sunday of the change, 9 to 17 by the wall clock.
    future = week(two_node, monday=start, mean_c=20.0)[1]
    local = future.index.tz_convert(two_node.site.time_zone)
    people = ((local.hour >= 9) & (local.hour < 17)).astype(float)
    decisions = decisions_of(two_node, week, monday=start, mean_c=20.0, occupancy=people)
    on = series_of(decisions, "system_on", lead_mild_h=1.0, lead_break_h=0.0, purge_h=0.0) > 0
    first = pd.Series(local.hour[on]).groupby(local.date[on]).min()
    assert set(first) == {8}


def test_a_week_without_people_never_starts_the_system(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week, occupancy=np.zeros(168))
    assert decisions.unroll(np.random.default_rng(0).random((9, len(decisions.space))))[:, :, 2:4].max() == 0


def test_one_empty_hour_at_noon_does_not_stop_the_fans(two_node: Building, week: Week) -> None:
    people = np.zeros(168)
    people[[32, 33, 34, 36, 37]] = 0.5
    people[[60, 61, 64, 65]] = 0.5
    on = series_of(
        decisions_of(two_node, week, occupancy=people, mean_c=20.0), "system_on", lead_mild_h=0, lead_break_h=0, purge_h=0
    )
    assert on[32:38].tolist() == [1] * 6
    assert on[60:66].tolist() == [1, 1, 0, 0, 1, 1]


def test_own_schedule_is_nearly_in_the_space(two_node: Building, week: Week) -> None:
    past, future = week(two_node)
    decisions = Decisions(Outlook.of(two_node, past, future, two_node.outputs))
    own = own_plan(decisions.outlook).frame
    near = pd.DataFrame(decisions.unroll(nearest_vector(decisions, own_plan(decisions.outlook))[None])[0], columns=own.columns)
    occupied = decisions.outlook.is_occupied_t
    for name in own:
        gap = np.abs(own[name].to_numpy() - near[name].to_numpy())[occupied]
        assert np.median(gap) < 0.01, name


def test_vector_and_names_are_inverse_and_values_outside_are_clipped(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week)
    assert decisions.named(decisions.vector(GOOD_PRACTICE)) == pytest.approx(GOOD_PRACTICE)
    assert decisions.named(decisions.vector({"setback_k": 99.0}))["setback_k"] == 7


def test_vectors_of_another_length_and_odd_steps_are_refused(two_node: Building, week: Week) -> None:
    decisions = decisions_of(two_node, week)
    with pytest.raises(ShapeError, match="decision vectors"):
        decisions.unroll(np.zeros((3, 2)))
    with pytest.raises(ShapeError, match="15 or 60 min"):
        Decisions(decisions.outlook, 30)
