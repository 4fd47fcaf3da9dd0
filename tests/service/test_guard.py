from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from building.description import Building, load_building
from building.indices.air import minimum_outdoor_air_en16798
from building.plan import Plan
from service.config import GuardSection
from service.guard import Guarded, Moment, disagreement, guard, observe
from service.store import PlanRecord, Reading, RegimeRecord, SqlStore

OFFICE = load_building("medium_office")
NOW = pd.Timestamp("2026-01-07T16:00Z")  # Wednesday, 10:00 in Chicago
HOUR = pd.Timedelta(hours=1)
LIMITS = GuardSection()
OWN = {
    "heating_setpoint": 21.0,
    "cooling_setpoint": 24.0,
    "system_on": 1.0,
    "outdoor_air_flow": 2.42,
    "supply_air_temperature": 12.8,
}
PLANNED = {
    "heating_setpoint": 20.0,
    "cooling_setpoint": 25.5,
    "system_on": 1.0,
    "outdoor_air_flow": 2.0,
    "supply_air_temperature": 15.0,
}


def record(issued: pd.Timestamp = NOW - HOUR, n_h: int = 168, start: pd.Timestamp | None = None, **changes: float) -> PlanRecord:
    index = pd.date_range(start or issued, periods=n_h, freq="h")
    plan = Plan(pd.DataFrame({**PLANNED, **changes}, index=index), "optimised", issued)
    return PlanRecord(7, issued, "accepted", plan)


def moment(**changes: object) -> Moment:
    facts = {
        "now": NOW,
        "own": OWN,
        "plan": record(),
        "last_reading": NOW - HOUR,
        "calibrated": NOW - 24 * HOUR,
        "occupancy_share": 0.5,
        "coldest_zone": 20.0,
    }
    return Moment(**{**facts, **changes})  # type: ignore[arg-type]


def rules(result: Guarded) -> list[tuple[str, str | None]]:
    return [(a.rule, a.setting) for a in result.actions]


def test_good_plan_passes_unchanged() -> None:
    result = guard(moment(), OFFICE, LIMITS)
    assert result.settings == PLANNED and result.actions == ()
    assert (result.origin, result.plan_id, result.issued) == ("optimised", 7, NOW - HOUR)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"plan": None}, "there is no plan"),
        ({"plan": record(NOW - 49 * HOUR)}, "49 h old"),
        ({"plan": record(NOW + HOUR, start=NOW)}, "in the future"),
        ({"plan": record(NOW - 30 * HOUR, n_h=24)}, "does not cover"),
        ({"last_reading": NOW - 7 * HOUR}, "no reading for 7 h"),
        ({"last_reading": None}, "no reading ever"),
        ({"calibrated": None}, "no calibration"),
        ({"calibrated": NOW - 61 * 24 * HOUR}, "61 days old"),
        ({"disagreement": 3.1}, "zones are 3.1 K from what was predicted, at most 3 K"),
        ({"own_day": "switchback day 3 of 28"}, "own schedule today: switchback day 3 of 28"),
        ({"plan": record(heating_setpoint=3.0)}, "broken"),
        ({"plan": replace(record(), plan=Plan(record().plan.frame[["heating_setpoint"]]))}, "broken"),
    ],
)
def test_plan_that_cannot_be_trusted_is_replaced_by_the_own_schedule(changes: dict[str, object], why: str) -> None:
    result = guard(moment(**changes), OFFICE, LIMITS)
    assert result.settings == OWN and result.origin == "own" and result.plan_id is None
    assert rules(result) == [("own_schedule", None)] and why in str(result.actions[0])


def test_plan_without_calibration_is_followed_where_that_is_allowed() -> None:
    result = guard(moment(calibrated=None), OFFICE, GuardSection(is_calibration_needed=False))
    assert result.plan_id == 7


def test_own_schedule_without_numbers_or_out_of_bounds_is_repaired() -> None:
    broken = {**OWN, "heating_setpoint": math.nan, "supply_air_temperature": 5.0}
    result = guard(moment(plan=None, own=broken), OFFICE, LIMITS)
    assert result.settings["heating_setpoint"] == 19.0 and result.settings["supply_air_temperature"] == 11.0
    assert [r for r, _ in rules(result)] == ["own_schedule", "number", "bounds"]


def test_change_is_held_to_the_ramp_of_an_hour() -> None:
    recent = {"heating_setpoint": [15.6, 15.6], "cooling_setpoint": [26.7]}
    wanted = guard(moment(plan=record(heating_setpoint=21.0), recent=recent), OFFICE, LIMITS)
    assert wanted.actions == ()  # 5.4 K are within 6 K an hour, at once
    result = guard(moment(plan=record(heating_setpoint=22.5), recent=recent), OFFICE, LIMITS)
    assert result.settings["heating_setpoint"] == pytest.approx(21.6) and rules(result) == [("rate", "heating_setpoint")]
    # Four small steps within the hour count together.
    recent = {"heating_setpoint": [15.0, 17.0, 19.0, 21.0]}
    result = guard(moment(plan=record(heating_setpoint=23.0), recent=recent), OFFICE, LIMITS)
    assert result.settings["heating_setpoint"] == pytest.approx(21.0)


def test_minimum_renewal_is_kept_while_people_are_there() -> None:
    need = float(minimum_outdoor_air_en16798(1.0, 0.0538))
    result = guard(moment(plan=record(outdoor_air_flow=0.3), occupancy_share=1.0, occupant_density=0.0538), OFFICE, LIMITS)
    assert result.settings["outdoor_air_flow"] == pytest.approx(need) and need > 1.0
    off = guard(moment(plan=record(system_on=0.0), occupancy_share=1.0, occupant_density=0.0538), OFFICE, LIMITS)
    assert off.settings["system_on"] == 1.0 and off.settings["outdoor_air_flow"] == 2.0
    nobody = guard(moment(plan=record(system_on=0.0, outdoor_air_flow=0.0), occupancy_share=0.05), OFFICE, LIMITS)
    assert nobody.settings["system_on"] == 0.0 and nobody.actions == ()


def test_own_schedule_that_breaks_the_renewal_is_raised_and_says_so() -> None:
    result = guard(moment(plan=None, own={**OWN, "outdoor_air_flow": 0.0}, occupancy_share=0.1), OFFICE, LIMITS)
    assert result.settings["outdoor_air_flow"] > 0 and "EN 16798-1" in result.reasons()["outdoor_air_flow"]


def test_frost_forces_heating_whatever_the_ramp_says() -> None:
    cold = moment(
        plan=record(heating_setpoint=14.0, system_on=0.0, outdoor_air_flow=0.0),
        occupancy_share=0.0,
        coldest_zone=6.0,
        frost_setpoint=21.0,
        recent={"heating_setpoint": [14.0]},
    )
    result = guard(cold, OFFICE, LIMITS)
    assert result.settings["system_on"] == 1.0 and result.settings["heating_setpoint"] == 21.0


def test_setpoints_never_cross_even_when_the_ramp_pulls_them_together() -> None:
    recent = {"heating_setpoint": [24.0], "cooling_setpoint": [32.0, 25.0]}
    result = guard(moment(plan=record(heating_setpoint=18.0, cooling_setpoint=21.0), recent=recent), OFFICE, LIMITS)
    assert result.settings["cooling_setpoint"] - result.settings["heating_setpoint"] >= 1.0 - 1e-9


anything = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=300, deadline=None)
@given(
    own=st.fixed_dictionaries({}, optional=dict.fromkeys(OWN, anything)),
    recent=st.dictionaries(st.sampled_from(list(OWN)), st.lists(anything, max_size=4)),
    occupancy=st.none() | st.floats(0, 1),
    density=st.floats(0, 1),
    coldest=st.none() | st.floats(-50, 50),
    frost=st.floats(14, 24),
    has_plan=st.booleans(),
)
def test_nothing_leaves_that_is_not_finite_within_bounds_and_uncrossed(
    own: dict[str, float],
    recent: dict[str, list[float]],
    occupancy: float | None,
    density: float,
    coldest: float | None,
    frost: float,
    has_plan: bool,
) -> None:
    result = guard(
        moment(
            own=own,
            recent=recent,
            occupancy_share=occupancy,
            occupant_density=density,
            coldest_zone=coldest,
            frost_setpoint=frost,
            plan=record() if has_plan else None,
        ),
        OFFICE,
        LIMITS,
    )
    assert set(result.settings) == set(OFFICE.settings.names)
    for v in OFFICE.settings:
        assert math.isfinite(result.settings[v.name]) and v.low <= result.settings[v.name] <= v.high
    assert result.settings["cooling_setpoint"] >= result.settings["heating_setpoint"] + 1 - 1e-9


# -- observe


def put(store: SqlStore, stamp: pd.Timestamp, **values: float) -> None:
    store.add_readings([Reading(n, stamp, v, stamp) for n, v in values.items()])


def test_moment_is_gathered_from_the_store(store: SqlStore) -> None:
    put(store, NOW - HOUR, core_mid_air_temperature=21.0, core_top_air_temperature=19.5, occupancy_share=0.4)
    store.add_plan(record().plan, NOW - HOUR)
    store.add_calibration({"parameters": {"occupant_density": 0.07}}, NOW - 3 * HOUR, is_accepted=True)
    store.add_calibration({}, NOW - HOUR, is_accepted=False)
    store.add_publication("heating_setpoint", "t", 20.0, NOW, NOW - HOUR / 2, None)
    store.add_publication("heating_setpoint", "t", 16.0, NOW, NOW - 2 * HOUR, None)
    seen = observe(store, OFFICE, NOW)
    assert seen.own == OWN and seen.plan is not None and seen.last_reading == NOW - HOUR
    assert seen.calibrated == NOW - 3 * HOUR and seen.occupant_density == 0.07
    assert seen.recent == {"heating_setpoint": [20.0]} and seen.coldest_zone == 19.5 and seen.frost_setpoint == 21.0
    assert guard(seen, OFFICE, LIMITS).origin == "optimised"


def test_empty_store_gives_the_own_schedule(store: SqlStore) -> None:
    result = guard(observe(store, OFFICE, NOW), OFFICE, LIMITS)
    assert result.settings == OWN and result.origin == "own"


def test_occupancy_is_the_counter_now_else_the_forecast_else_the_own_schedule(store: SqlStore) -> None:
    assert observe(store, OFFICE, NOW).occupancy_share == 0.95  # baseline.toml, Wednesday 10:00
    store.add_forecast(pd.DataFrame({"occupancy_share": [0.6]}, index=[NOW]), NOW - HOUR)
    assert observe(store, OFFICE, NOW).occupancy_share == 0.6
    put(store, NOW - HOUR, occupancy_share=0.2)  # the mean of the hour before: people were expected anyway
    assert observe(store, OFFICE, NOW).occupancy_share == 0.6
    put(store, NOW - pd.Timedelta(minutes=5), occupancy_share=0.3)
    assert observe(store, OFFICE, NOW).occupancy_share == 0.3


def test_people_where_nobody_was_expected_get_air(store: SqlStore) -> None:
    sunday = pd.Timestamp("2026-01-11T16:00Z")
    assert observe(store, OFFICE, sunday).occupancy_share == 0.0
    put(store, sunday - HOUR, occupancy_share=0.5)
    result = guard(observe(store, OFFICE, sunday), OFFICE, LIMITS)
    assert result.settings["system_on"] == 1.0 and result.settings["outdoor_air_flow"] > 0.7


def test_stale_zone_temperatures_raise_no_frost_alarm(store: SqlStore) -> None:
    put(store, NOW - 3 * HOUR, core_mid_air_temperature=2.0)
    assert observe(store, OFFICE, NOW).coldest_zone is None
    put(store, NOW - HOUR, core_mid_air_temperature=2.0)
    assert observe(store, OFFICE, NOW).coldest_zone == 2.0


def test_own_schedule_follows_the_wall_clock_over_daylight_saving(store: SqlStore, office: Building) -> None:
    for day, utc_hour in (("2026-03-06", 12), ("2026-03-09", 11)):  # 06:00 in Chicago, before and after the change
        before = observe(store, office, pd.Timestamp(f"{day}T{utc_hour - 1:02d}:45Z")).own["system_on"]
        after = observe(store, office, pd.Timestamp(f"{day}T{utc_hour:02d}:00Z")).own["system_on"]
        assert (before, after) == (0.0, 1.0)
    np.testing.assert_allclose(observe(store, office, NOW).own["supply_air_temperature"], 12.8)


@pytest.mark.parametrize(
    ("is_on", "minutes", "wanted", "given_"),
    [
        (True, 9, 0.0, 1.0),  # on for less than the least time: stays on
        (True, 10, 0.0, 0.0),
        (False, 9, 1.0, 0.0),
        (False, 10, 1.0, 1.0),
        (True, 3, 0.5, 0.5),  # on is any share of the step
        (True, -5, 0.0, 0.0),  # a clock that was set back keeps nothing switched on
    ],
)
def test_system_stays_as_it_was_switched_for_its_least_time(is_on, minutes, wanted, given_) -> None:
    m = moment(plan=record(system_on=wanted), switched=(is_on, NOW - pd.Timedelta(minutes=minutes)), occupancy_share=0.0)
    result = guard(m, OFFICE, LIMITS)
    assert result.settings["system_on"] == given_
    assert (("switching", "system_on") in rules(result)) == (wanted != given_)


def test_air_and_frost_pass_the_least_time_off() -> None:
    off = (False, NOW - pd.Timedelta(minutes=1))
    for changes in ({"occupancy_share": 0.8}, {"coldest_zone": 5.0, "occupancy_share": 0.0}):
        assert guard(moment(switched=off, **changes), OFFICE, LIMITS).settings["system_on"] == 1.0


def test_last_switch_is_found_among_what_was_published(store: SqlStore) -> None:
    for minutes, value in ((200, 1.0), (50, 0.0), (35, 0.0), (20, 0.6), (5, 0.6)):
        at = NOW - pd.Timedelta(minutes=minutes)
        store.add_publication("system_on", "t", value, at + HOUR, at, None)
    seen = observe(store, OFFICE, NOW)
    assert seen.switched == (True, NOW - pd.Timedelta(minutes=20)) and seen.recent["system_on"] == [0.0, 0.0, 0.6, 0.6]
    assert observe(store, OFFICE, NOW + 9 * HOUR).switched is None


ZONE = "core_mid_air_temperature"


def lived_beside_a_prediction(store: SqlStore, away_k: float, n_h: int = 12, **regime: object) -> None:
    hours = pd.date_range(NOW.floor("h") - n_h * HOUR, periods=n_h, freq="h")
    store.add_forecast(pd.DataFrame({ZONE: 21.0}, index=hours), NOW - 2 * n_h * HOUR)
    store.add_readings([Reading(ZONE, t + pd.Timedelta(minutes=20), 21.0 + away_k, t) for t in hours])
    store.note_regime(RegimeRecord(hours[0], NOW, **{"run": "plan", **regime}))  # type: ignore[arg-type]


def test_disagreement_is_how_far_zones_are_from_what_was_predicted_under_the_plan(store: SqlStore) -> None:
    assert disagreement(store, OFFICE, NOW) is None
    lived_beside_a_prediction(store, -2.5)
    assert disagreement(store, OFFICE, NOW) == pytest.approx(2.5)
    store.add_calibration({"parameters": {}}, NOW - 3 * HOUR, is_accepted=True)  # a new start: three hours are too few
    assert disagreement(store, OFFICE, NOW) is None


@pytest.mark.parametrize("regime", [{"run": "own"}, {"held": ("heating_setpoint",)}])
def test_hours_run_otherwise_than_predicted_say_nothing_of_the_metamodel(store: SqlStore, regime) -> None:
    lived_beside_a_prediction(store, 5.0, **regime)
    assert disagreement(store, OFFICE, NOW) is None


def test_four_hours_under_the_plan_are_too_few_to_judge(store: SqlStore) -> None:
    lived_beside_a_prediction(store, 5.0, n_h=4)
    assert disagreement(store, OFFICE, NOW) is None
