import numpy as np
import pytest

from building.indices.hygiene import air_changes, air_per_person, band_uba, flush_shortfall_en16798, frost_shortfall
from building.indices.limits import with_overrides


def test_air_changes_of_the_office():
    """2.42 m3/h.m2 in rooms 2.743 m high."""
    assert air_changes([2.42, 2.42, 2.42], [1, 0.5, 0], 4982.2, 13666.0) == pytest.approx([0.8823, 0.4411, 0], abs=1e-3)


def test_air_per_person_is_45_m3_per_hour_at_the_shipped_design():
    assert air_per_person(2.42, 1.0, 1.0, 1 / 18.58) == pytest.approx(45, abs=0.1)
    assert air_per_person([2.42, 2.42], [1, 1], [0.5, 0.0], 0.05).tolist() == pytest.approx([96.8, np.inf])


def test_frost_shortfall_is_that_of_the_coldest_zone_and_hour():
    t = np.full((3, 4, 2), 15.0)
    t[1, 2, 0] = 3.5
    assert frost_shortfall(t).tolist() == [0, 1.5, 0]
    assert frost_shortfall(t, with_overrides({"frost_limit": 16.0})).tolist() == [1, 12.5, 1]


def test_bands_of_the_umweltbundesamt():
    assert band_uba([400, 999.9, 1000, 2000, 2000.1]).tolist() == [0, 0, 1, 1, 2]


def test_flush_is_judged_at_each_arrival_over_two_hours_before():
    """EN 16798-1: one volume within two hours before people come."""
    occupied = np.array([0, 0, 0, 0, 1, 1, 0, 0, 0, 1], dtype=bool)
    ach = np.zeros((3, 10))
    ach[0, [2, 3, 7, 8]] = 0.5  # one volume before both arrivals
    ach[1, [2, 3]] = 0.5  # nothing before the second
    ach[2, [3, 8]] = 0.75  # three quarters before each
    assert flush_shortfall_en16798(ach, occupied).tolist() == [0, 1, 0.25]
    assert flush_shortfall_en16798(np.repeat(ach, 2, axis=1), np.repeat(occupied, 2), step_h=0.5).tolist() == [0, 1, 0.25]


def test_arrival_without_its_hours_before_is_not_judged():
    assert flush_shortfall_en16798(np.zeros((1, 3)), np.array([False, True, True])).tolist() == [0]
    assert flush_shortfall_en16798(np.zeros((1, 3)), np.array([True, True, True])).tolist() == [0]
