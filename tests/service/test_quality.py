"""Flags that only the run of readings shows, and hours made of irregular readings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.units import POWER, SHARE, TEMPERATURE
from building.variables import Role, Variable
from service.quality import FLAGS, RULES, Rule, Watch, resample, units_that_fit

H = 3_600_000
T0 = 1_767_744_000_000  # 2026-01-07T00:00Z
ZONE = Variable("zone_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60)
POWERS = Variable("fan_electricity", POWER, Role.CONSUMPTION, 0, 1e5)
HEATING = Variable("heating_setpoint", TEMPERATURE, Role.SETTING, 14, 24)
WATCHED = {v.name: v for v in (ZONE, POWERS, HEATING)}


def hours(n: int, start: int = T0) -> np.ndarray:
    return start + H * np.arange(n)


def hourly(rule: Rule, *readings: tuple[float, float], n: int = 4, unusable: tuple[float, ...] = ()) -> list[float]:
    """Return hours of readings given as (hour, value)."""
    stamps = np.array([T0 + round(h * H) for h, _ in readings], dtype=np.int64)
    values = np.array([v for _, v in readings], dtype=float)
    return [
        float(x) for x in resample(rule, stamps, values, np.array([h not in unusable for h, _ in readings], dtype=bool), hours(n))
    ]


nan = float("nan")


@pytest.mark.parametrize(
    ("rule", "readings", "expected"),
    [
        ("mean", [(0, 1.0), (0.5, 2.0), (0.99, 6.0), (3.2, 7.0)], [3.0, nan, nan, 7.0]),
        ("last", [(0, 1.0), (0.5, 2.0), (0.99, 6.0), (3.2, 7.0)], [6.0, nan, nan, 7.0]),
        ("hold", [(0, 20.0), (1.25, 24.0)], [20.0, 23.0, 24.0, 24.0]),
        ("hold", [(0.5, 20.0)], [20.0, 20.0, 20.0, 20.0]),
        ("hold", [(-30, 20.0), (2, 21.0)], [nan, nan, 21.0, 21.0]),  # a day of silence is not bridged
        ("hold", [(-23.5, 20.0)], [20.0, nan, nan, nan]),
        ("hold_last", [(0, 0.0), (1.25, 1.0), (2.1, 0.0), (2.2, 1.0)], [0.0, 1.0, 1.0, 1.0]),
        ("hold_last", [(0.5, 1.0)], [1.0, 1.0, 1.0, 1.0]),
        ("counter", [(0, 100.0), (1, 101.0), (2, 103.5), (4, 104.5)], [1000.0, 2500.0, 500.0, 500.0]),
        ("counter", [(-0.5, 100.0), (0.5, 102.0), (1.5, 104.0)], [2000.0, nan, nan, nan]),
        ("counter", [(0, 999.0), (1, 1000.0), (2, 3.0), (3, 5.0)], [1000.0, 3000.0, 2000.0, nan]),  # a new meter
        ("counter", [(0, 0.0), (1, 1.0), (9, 9.0)], [1000.0, nan, nan, nan]),  # which hour took it?
        ("counter", [(0, 5.0)], [nan] * 4),
    ],
)  # fmt: skip
def test_hours_are_made_by_the_rule_of_the_variable(
    rule: Rule, readings: list[tuple[float, float]], expected: list[float]
) -> None:
    np.testing.assert_allclose(hourly(rule, *readings), expected)


def test_reading_that_does_not_count_says_nothing_but_ends_what_is_held() -> None:
    readings = [(0, 20.0), (1, 20.0), (2.5, 22.0)]
    np.testing.assert_allclose(hourly("hold", *readings, unusable=(1,)), [20.0, nan, 22.0, 22.0])
    np.testing.assert_allclose(hourly("hold_last", *readings, unusable=(1,)), [20.0, nan, 22.0, 22.0])
    np.testing.assert_allclose(hourly("mean", (0, 20.0), (0.5, 900.0), unusable=(0.5,)), [20.0, nan, nan, nan])
    np.testing.assert_allclose(hourly("last", (0, 20.0), (0.5, 900.0), unusable=(0.5,)), [20.0, nan, nan, nan])


@pytest.mark.parametrize("rule", RULES)
def test_no_readings_or_no_hours_are_no_trouble(rule: Rule) -> None:
    assert np.isnan(hourly(rule)).all()
    assert len(resample(rule, np.array([T0]), np.array([1.0]), np.array([True]), hours(0))) == 0


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(st.tuples(st.floats(-40, 40), st.floats(0, 50)), max_size=12))
def test_hours_stay_within_what_was_read(rule: Rule, given: list[tuple[float, float]]) -> None:
    readings = sorted({round(h * H): (h, v) for h, v in given}.values())
    out = np.array(hourly(rule, *readings, n=30))
    known = out[~np.isnan(out)]
    if rule == "counter":
        assert (known >= 0).all()
    elif len(known):
        values = [v for _, v in readings]
        assert known.min() >= min(values) - 1e-6 and known.max() <= max(values) + 1e-6


@pytest.mark.parametrize(("day", "n_hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_day_of_the_clock_change_has_its_true_hours_and_the_counter_its_true_energy(day: str, n_hours: int) -> None:
    start = pd.Timestamp(day, tz="America/Chicago")
    end = start + pd.DateOffset(days=1)
    local = pd.date_range(start, end, freq="15min")
    stamps = np.array([int(t.timestamp() * 1000) for t in local])
    starts = np.array([int(t.timestamp() * 1000) for t in pd.date_range(start, end, freq="h", inclusive="left")])
    assert len(starts) == n_hours
    counted = resample("counter", stamps, 0.5 * np.arange(len(stamps)), np.ones(len(stamps), bool), starts)
    np.testing.assert_allclose(counted, np.full(n_hours, 2000.0))
    mean = resample("mean", stamps, 68.0 + np.zeros(len(stamps)), np.ones(len(stamps), bool), starts)
    assert len(mean) == n_hours and not np.isnan(mean).any()


# -- flags


def test_sensor_that_repeats_itself_for_a_day_is_stuck_until_it_moves() -> None:
    watch = Watch(WATCHED)
    flags = [watch.flag("zone_air_temperature", T0 + i * H, 21.37, T0 + i * H, "good", False) for i in range(30)]
    assert flags[:24] == ["good"] * 24 and flags[24:] == ["stuck"] * 6
    assert watch.flag("zone_air_temperature", T0 + 30 * H, 21.38, T0 + 30 * H, "good", False) == "good"


@pytest.mark.parametrize(("name", "value"), [("heating_setpoint", 20.0), ("fan_electricity", 0.0), ("fan_electricity", 1e5)])
def test_what_may_stand_still_is_never_stuck(name: str, value: float) -> None:
    watch = Watch(WATCHED)
    assert {watch.flag(name, T0 + i * H, value, T0 + i * H, "good", False) for i in range(60)} == {"good"}


def test_two_equal_readings_a_day_apart_are_not_a_stuck_sensor() -> None:
    watch = Watch(WATCHED)
    assert {watch.flag("zone_air_temperature", T0 + i * 25 * H, 21.0, T0 + i * 25 * H, "good", False) for i in range(5)} == {
        "good"
    }


def test_reading_that_comes_after_an_outage_is_late_and_counts() -> None:
    watch = Watch(WATCHED)
    assert watch.flag("zone_air_temperature", T0, 21.0, T0 + 4 * H, "good", False) == "late"
    assert watch.flag("zone_air_temperature", T0 + H, 21.1, T0 + 2 * H, "good", False) == "good"
    assert watch.flag("zone_air_temperature", T0 + H, 99.0, T0 + 9 * H, "out_of_range", False) == "out_of_range"


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_jump_of_our_clock_puts_its_stamps_in_doubt_for_ten_minutes(jump_s: float) -> None:
    watch = Watch(WATCHED)
    assert not watch.tick(1000.0, 5.0) and not watch.tick(1010.0, 15.2)
    assert watch.tick(1020.0 + jump_s, 25.0)
    assert watch.flag("zone_air_temperature", T0, 21.0, T0, "good", True) == "clock_jump"
    assert watch.flag("zone_air_temperature", T0, 21.0, T0, "good", False) == "good"  # the sender's own stamp
    assert not watch.tick(1630.0 + jump_s, 635.0)
    assert watch.flag("zone_air_temperature", T0 + 1, 21.1, T0, "good", True) == "good"


def test_units_in_which_a_number_would_fit_are_named() -> None:
    assert units_that_fit(TEMPERATURE, 294.6, -10, 60, "degC") == ["K"]
    assert units_that_fit(TEMPERATURE, 72.0, -10, 60, "degC") == ["degF"]
    assert units_that_fit(SHARE, 95.0, 0, 1, "1") == ["%"]
    assert units_that_fit(TEMPERATURE, 5000.0, -10, 60, "degC") == []
    assert len(FLAGS) == len(set(FLAGS))
