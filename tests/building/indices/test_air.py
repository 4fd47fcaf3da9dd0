import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.description import load_building
from building.errors import UnknownNameError
from building.indices.air import idis_tot, mean_occupied_co2, minimum_outdoor_air_en16798, outdoor_air_shortfall
from building.indices.limits import with_overrides
from building.timeline import steps


def test_idis_tot_by_hand():
    """Two zones, three hours, outdoor 400: the limit is 1200; zone 1 is 100 and 300 over, the empty hour does not count."""
    co2 = np.array([[[1300.0, 1200.0], [1500.0, 800.0], [9000.0, 9000.0]]])
    occupied = np.array([True, True, False])
    assert idis_tot(co2, occupied, 400.0).tolist() == [200.0]
    assert idis_tot(co2, occupied, 420.0).tolist() == [180.0]
    assert idis_tot(co2, occupied, 400.0, step_h=0.5).tolist() == [100.0]
    assert idis_tot(co2, occupied, 400.0, limits=with_overrides({"co2_above_outdoor": 1000})).tolist() == [50.0]


def test_mean_occupied_co2_leaves_out_empty_hours():
    co2 = np.array([[[600.0, 800.0], [1000.0, 1000.0], [5000.0, 5000.0]]])
    assert mean_occupied_co2(co2, np.array([1, 1, 0])).tolist() == [850.0]
    assert np.isnan(mean_occupied_co2(co2, np.zeros(3))).all()


def test_minimum_outdoor_air_of_a_landscaped_office():
    """EN 16798-1 with 15 m2 per person: category II, low polluting 7 l/s person + 0.7 l/s m2 = 1.167 l/s m2."""
    assert minimum_outdoor_air_en16798(1.0, 1 / 15, "II", "low") == pytest.approx((7 / 15 + 0.7) * 3.6)
    assert minimum_outdoor_air_en16798(1.0, 1 / 15, "I", "very_low") == pytest.approx((10 / 15 + 0.5) * 3.6)
    assert minimum_outdoor_air_en16798(1.0, 1 / 15, "IV", "not_low") == pytest.approx((2.5 / 15 + 0.6) * 3.6)


def test_minimum_outdoor_air_follows_the_people_present_and_is_nothing_without_them():
    need = minimum_outdoor_air_en16798([0.0, 0.05, 0.08, 0.5, 1.0], 0.0538)
    assert need == pytest.approx([0, 0, *(3.6 * (4 * 0.0538 * s + 0.2) for s in (0.08, 0.5, 1.0))])


def test_minimum_outdoor_air_takes_a_density_per_member():
    need = minimum_outdoor_air_en16798(np.array([0.0, 1.0]), np.array([[0.05], [0.1]]))
    assert need == pytest.approx(np.array([[0, 3.6 * 0.4], [0, 3.6 * 0.6]]))


@given(st.floats(0.08, 1), st.floats(0.02, 0.2))
def test_better_categories_and_dirtier_buildings_need_more(share, density):
    by_category = [float(minimum_outdoor_air_en16798(share, density, c)) for c in ("I", "II", "III", "IV")]
    by_class = [float(minimum_outdoor_air_en16798(share, density, "II", p)) for p in ("very_low", "low", "not_low")]
    assert by_category == sorted(by_category, reverse=True)
    assert by_class == sorted(by_class)


def test_unknown_category_or_class_is_named():
    with pytest.raises(UnknownNameError, match="'V' is not a category of air_per_person"):
        minimum_outdoor_air_en16798(1.0, 0.05, "V")
    with pytest.raises(UnknownNameError, match="'lowish' is not a pollution class"):
        minimum_outdoor_air_en16798(1.0, 0.05, "II", "lowish")


def test_shortfall_counts_the_fans_and_never_rewards_more():
    assert outdoor_air_shortfall([2.0, 2.0, 2.0, 0.0], [1.0, 0.5, 0.0, 1.0], [1.5, 1.5, 1.5, 0.0]).tolist() == [0, 0.5, 1.5, 0]


def test_own_schedule_of_the_office_breaks_the_minimum_only_in_the_hour_before_the_damper_opens():
    """At six 10 % are there, the damper opens at seven; the issue asks to say so."""
    office = load_building("medium_office")
    index = steps(pd.Timestamp("2026-01-05", tz=office.site.time_zone), 168)
    own = office.own_schedule().unroll(index, office.site.time_zone)
    need = minimum_outdoor_air_en16798(own["occupancy_share"], 0.0538)
    short = outdoor_air_shortfall(own["outdoor_air_flow"], own["system_on"], need)
    local = index.tz_convert(office.site.time_zone)
    assert [(t.day_of_week, t.hour) for t in local[short > 0]] == [(d, 6) for d in range(6)]
    assert short.max() == pytest.approx(3.6 * (4 * 0.0538 * 0.1 + 0.2))
