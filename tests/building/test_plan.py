import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.description import load_building
from building.errors import (
    IrregularTimeError,
    MissingColumnError,
    NotFiniteError,
    OutsideBoundsError,
    SetpointsCrossError,
    ShapeError,
)
from building.plan import DEADBAND_K, Plan, WeekProfile
from building.timeline import steps

OFFICE = load_building("medium_office")
START = pd.Timestamp("2026-03-02T06:00Z")


def plan(n=24, step_min=60, **columns):
    full = {"heating_setpoint": 20.0, "cooling_setpoint": 24.0, **columns}
    return Plan(pd.DataFrame(full, index=steps(START, n, step_min), dtype=float))


def test_crossing_setpoints_are_refused_with_place_and_values():
    with pytest.raises(SetpointsCrossError) as caught:
        plan(3, heating_setpoint=[20, 23.5, 20])
    assert caught.value.where == START + pd.Timedelta(hours=1)
    assert "heating setpoint is 23.5 degC and the cooling setpoint 24 degC" in str(caught.value)


@given(st.floats(14, 24), st.floats(-2, 4))
def test_plan_exists_exactly_when_the_deadband_is_kept(heating, gap):
    if gap >= DEADBAND_K:
        assert plan(2, heating_setpoint=heating, cooling_setpoint=heating + gap)
    elif gap < DEADBAND_K - 2e-6:
        with pytest.raises(SetpointsCrossError):
            plan(2, heating_setpoint=heating, cooling_setpoint=heating + gap)


@pytest.mark.parametrize("step_min", [15, 60])
def test_json_round_trip_is_the_same_plan(step_min):
    before = Plan(
        plan(8, step_min, heating_setpoint=np.linspace(18, 20, 8)).frame, "optimised", START, {"saving": 0.12, "reason": "knee"}
    )
    after = Plan.from_dict(json.loads(json.dumps(before.to_dict())))
    pd.testing.assert_frame_equal(after.frame, before.frame, check_freq=False, atol=1e-6, rtol=0)
    assert (after.origin, after.issued, dict(after.meta)) == (before.origin, before.issued, before.meta)
    assert after.end == before.end


def test_at_gives_the_step_in_force_and_nothing_outside():
    p = plan(4, 15, heating_setpoint=[15, 16, 17, 18])
    assert p.at(START) == {"heating_setpoint": 15.0, "cooling_setpoint": 24.0}
    assert p.at(START + pd.Timedelta(minutes=14, seconds=59))["heating_setpoint"] == 15.0
    assert p.at(START + pd.Timedelta(minutes=15))["heating_setpoint"] == 16.0
    assert p.at(p.end - pd.Timedelta(seconds=1))["heating_setpoint"] == 18.0
    assert p.at(p.end) is None
    assert p.at(START - pd.Timedelta(seconds=1)) is None
    assert p.at(pd.Timestamp("2026-03-02T01:20", tz="America/New_York"))["heating_setpoint"] == 16.0


def test_hourly_is_the_mean_of_the_quarters():
    assert plan(8, 15, heating_setpoint=[15, 16, 17, 18, 20, 20, 20, 20]).hourly()["heating_setpoint"].tolist() == [16.5, 20.0]
    assert plan(2).hourly().equals(plan(2).frame)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (steps(START, 3, 30), "the step is 30 min"),
        (steps(START, 3).tz_localize(None), "not in UTC"),
        (steps(START, 3).tz_convert("Europe/Paris"), "not in UTC"),
        (steps(START, 4).delete(2), "the step there is 0 days 02:00:00"),
        (steps(START, 3)[::-1], "step"),
        (steps(START, 0), "holds no step"),
    ],
)
def test_broken_time_is_refused(index, reason):
    with pytest.raises(IrregularTimeError, match=reason):
        Plan(pd.DataFrame({"heating_setpoint": 20.0}, index=index))


def test_nan_is_refused_by_column_and_hour():
    with pytest.raises(NotFiniteError) as caught:
        plan(3, heating_setpoint=[20, np.nan, 20])
    assert (caught.value.column, caught.value.where) == ("heating_setpoint", START + pd.Timedelta(hours=1))


def test_check_names_missing_settings_and_values_out_of_bounds():
    with pytest.raises(MissingColumnError, match="lacks 3 of the 5 .*system_on, outdoor_air_flow, supply_air_temperature"):
        plan().check(OFFICE.settings)
    whole = {"system_on": 1.0, "outdoor_air_flow": 2.0, "supply_air_temperature": 12.8}
    plan(**whole).check(OFFICE.settings)
    with pytest.raises(OutsideBoundsError, match=r"outdoor_air_flow = -0.1 m3/h.m2 lies outside 0 .. 5.4"):
        plan(**{**whole, "outdoor_air_flow": -0.1}).check(OFFICE.settings)
    with pytest.raises(OutsideBoundsError, match=r"supply_air_temperature = 25 degC"):
        plan(**{**whole, "supply_air_temperature": 25}).check(OFFICE.settings)


def hours_profile():
    """Value = 100 * day type + local hour."""
    return WeekProfile(("v",), (100.0 * np.arange(3)[:, None] + np.arange(24))[..., None])


@pytest.mark.parametrize(
    ("day", "zone", "hours"),
    [
        ("2026-03-08", "America/Chicago", [0, 1, *range(3, 24)]),  # 02:00 does not exist
        ("2026-11-01", "America/Chicago", [0, 1, 1, *range(2, 24)]),  # 01:00 twice
        ("2026-03-29", "Europe/Paris", [0, 1, *range(3, 24)]),
        ("2026-10-25", "Europe/Paris", [0, 1, 2, 2, *range(3, 24)]),
        ("2026-06-07", "Europe/Paris", list(range(24))),
    ],
)
def test_week_profile_follows_the_wall_clock_over_daylight_saving(day, zone, hours):
    start = pd.Timestamp(day, tz=zone)
    index = pd.date_range(start, start + pd.DateOffset(days=1), freq="60min", inclusive="left").tz_convert("UTC")
    assert hours_profile().unroll(index, zone)["v"].tolist() == [200.0 + h for h in hours]


def test_week_profile_knows_day_types_and_holidays():
    index = steps(pd.Timestamp("2026-07-13", tz="Europe/Paris"), 24 * 7)
    values = hours_profile().unroll(index, "Europe/Paris", [date(2026, 7, 14)])["v"].to_numpy().reshape(7, 24) // 100
    assert (values == values[:, :1]).all()
    assert values[:, 0].tolist() == [0, 2, 0, 0, 0, 1, 2]


def test_quarter_hour_profile_is_read_by_quarter():
    profile = WeekProfile(("v",), np.tile(np.arange(96.0)[None, :, None], (3, 1, 1)))
    assert profile.unroll(steps(pd.Timestamp("2026-07-13T05:30", tz="Asia/Kolkata"), 4, 15), "Asia/Kolkata")["v"].tolist() == [
        22,
        23,
        24,
        25,
    ]


def test_week_profile_round_trips():
    profile = OFFICE.own_schedule()
    again = WeekProfile.from_dict(json.loads(json.dumps(profile.to_dict())))
    assert again.columns == profile.columns
    assert np.array_equal(again.values, profile.values)


def test_week_profile_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"\(3, 23, 1\); wanted \(3, 24 or 96, 1\)"):
        WeekProfile(("v",), np.zeros((3, 23, 1)))


def test_own_schedule_unrolls_to_a_plan_within_the_settings():
    frame = OFFICE.own_schedule().unroll(steps(pd.Timestamp("2026-01-05T06:00Z"), 168), OFFICE.site.time_zone)
    p = Plan(frame[list(OFFICE.settings.names)])
    p.check(OFFICE.settings)
    assert p.origin == "own"
