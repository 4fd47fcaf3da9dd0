import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythermalcomfort.models import adaptive_en, pmv_ppd_iso

from building.errors import ShapeError, UnknownNameError
from building.indices.comfort import (
    adaptive_band_en16798,
    band_by_running_mean,
    category_en16798,
    comfort_band,
    distance_outside,
    is_occupied,
    is_within_iso7730,
    operative_band_en16798,
    pmv_ppd_iso7730,
    relative_air_speed,
    running_mean_en16798,
    running_mean_hourly_en16798,
    tdis_tot,
)
from building.indices.limits import with_overrides
from building.timeline import steps

# ISO 7730:2005 Table D.1: air, radiant [degC], relative air speed [m/s], humidity [%], met, clo, PMV, PPD [%].
TABLE_D1 = [
    (22.0, 22.0, 0.10, 60, 1.2, 0.5, -0.75, 17),
    (27.0, 27.0, 0.10, 60, 1.2, 0.5, 0.77, 17),
    (27.0, 27.0, 0.30, 60, 1.2, 0.5, 0.44, 9),
    (23.5, 25.5, 0.10, 60, 1.2, 0.5, -0.01, 5),
    (23.5, 25.5, 0.30, 60, 1.2, 0.5, -0.55, 11),
    (19.0, 19.0, 0.10, 40, 1.2, 1.0, -0.60, 13),
    (23.5, 23.5, 0.10, 40, 1.2, 1.0, 0.50, 10),
    (23.5, 23.5, 0.30, 40, 1.2, 1.0, 0.12, 5),
    (23.0, 21.0, 0.10, 40, 1.2, 1.0, 0.05, 5),
    (23.0, 21.0, 0.30, 40, 1.2, 1.0, -0.16, 6),
    (22.0, 22.0, 0.10, 60, 1.6, 0.5, 0.05, 5),
    (27.0, 27.0, 0.10, 60, 1.6, 0.5, 1.17, 34),
    (27.0, 27.0, 0.30, 60, 1.6, 0.5, 0.95, 24),
]
MISPRINT = TABLE_D1[6]
"""Known to be wrong in the printed table: the standard's own program gives 0.36 and 8 %, and so do all implementations."""


@pytest.mark.parametrize("row", [r for r in TABLE_D1 if r is not MISPRINT])
def test_pmv_and_ppd_are_those_of_table_d1(row):
    ta, tr, v, rh, met, clo, pmv, ppd = row
    got_pmv, got_ppd = pmv_ppd_iso7730(ta, tr, v, rh / 100, met, clo)
    assert got_pmv == pytest.approx(pmv, abs=0.01)
    assert got_ppd * 100 == pytest.approx(ppd, abs=0.6)


def test_misprinted_row_of_table_d1_agrees_with_the_reference_library():
    ta, tr, v, rh, met, clo, _, _ = MISPRINT
    pmv, ppd = pmv_ppd_iso7730(ta, tr, v, rh / 100, met, clo)
    reference = pmv_ppd_iso(tdb=ta, tr=tr, vr=v, rh=rh, met=met, clo=clo)
    assert pmv == pytest.approx(reference.pmv, abs=0.01)
    assert ppd * 100 == pytest.approx(reference.ppd, abs=0.2)


def test_pmv_and_ppd_agree_with_pythermalcomfort_over_the_whole_range():
    rng = np.random.default_rng(7)
    n = 4000
    ta, tr, v, rh = rng.uniform(8, 32, n), rng.uniform(8, 42, n), rng.uniform(0, 1.1, n), rng.uniform(0.1, 0.95, n)
    met, clo = rng.uniform(0.7, 4.2, n), rng.uniform(0, 2.1, n)
    pmv, ppd = pmv_ppd_iso7730(ta, tr, v, rh, met, clo)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pmv_ppd_iso(tdb=ta, tr=tr, vr=v, rh=rh * 100, met=met, clo=clo, round_output=False)
    one_only = np.isfinite(pmv) != np.isfinite(reference.pmv)
    assert (np.abs(np.where(np.isfinite(pmv), pmv, reference.pmv))[one_only] > 1.99).all()  # |PMV| = 2, a hair apart
    both = np.isfinite(pmv) & np.isfinite(reference.pmv)
    assert both.sum() > 1000
    assert np.abs(pmv - reference.pmv)[both].max() < 0.0075
    assert np.abs(ppd * 100 - reference.ppd)[both].max() < 0.35


@given(st.floats(10, 30), st.floats(10, 40), st.floats(0, 1), st.floats(0, 1), st.floats(0.8, 4), st.floats(0, 2))
def test_an_answer_does_not_depend_on_its_neighbours(ta, tr, v, rh, met, clo):
    alone, _ = pmv_ppd_iso7730(ta, tr, v, rh, met, clo)
    together, _ = pmv_ppd_iso7730([ta, 25, 12], [tr, 25, 12], [v, 0.1, 0.9], [rh, 0.5, 0.1], [met, 1, 3], [clo, 0.5, 0])
    assert np.allclose(alone, together[0], rtol=0, atol=1e-9, equal_nan=True)  # numpy rounds vectors otherwise than scalars


@given(st.floats(15, 28), st.floats(0.1, 1.0))
def test_warmer_air_and_more_clothes_never_feel_colder(ta, clo):
    base, warmer, dressed = (pmv_ppd_iso7730(t, t, 0.1, 0.5, 1.2, c)[0] for t, c in ((ta, clo), (ta + 1, clo), (ta, clo + 0.2)))
    for other in (warmer, dressed):
        assert np.isnan(base) or np.isnan(other) or other > base


def test_least_dissatisfied_is_five_in_a_hundred():
    pmv, ppd = pmv_ppd_iso7730(np.linspace(18, 30, 4000), 24, 0.1, 0.5, 1.2, 0.7)
    assert np.nanmin(ppd) == pytest.approx(0.05, abs=1e-6)
    assert abs(pmv[np.nanargmin(ppd)]) < 0.01


@pytest.mark.parametrize(
    "outside",
    [
        {"ta": 30.1},
        {"ta": 9.9},
        {"tr": 40.1},
        {"air_speed": 1.01},
        {"air_speed": -0.1},
        {"rh": 0.95},
        {"rh": -0.1},
        {"met": 0.79},
        {"met": 4.1},
        {"clo": 2.01},
    ],
    ids=str,
)
def test_outside_iso7730_there_is_no_answer(outside):
    inside = {"ta": 25.0, "tr": 25.0, "air_speed": 0.1, "rh": 0.5, "met": 1.2, "clo": 0.7}
    assert is_within_iso7730(**inside)
    assert np.isfinite(pmv_ppd_iso7730(**inside)[0])
    assert not is_within_iso7730(**{**inside, **outside})
    assert all(np.isnan(x) for x in pmv_ppd_iso7730(**{**inside, **outside}))


def test_pmv_beyond_two_is_no_answer_and_nan_raises_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(pmv_ppd_iso7730(10, 10, 1.0, 0.5, 1.0, 0.3)[0])
        assert np.isnan(pmv_ppd_iso7730(np.nan, 24, 0.1, 0.5)[0])


def test_body_in_motion_feels_more_wind():
    assert relative_air_speed([0.1, 0.1, 0.1], [0.9, 1.0, 2.0]) == pytest.approx([0.1, 0.1, 0.4])


def test_category_of_a_vote():
    assert category_en16798([0, -0.2, 0.21, 0.5, -0.7, 0.71, np.nan]).tolist() == [1, 1, 2, 2, 3, 4, 4]


# Adaptive and fixed bands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running_mean", [10.0, 14.3, 20.0, 27.5, 30.0])
@pytest.mark.parametrize("category", ["I", "II", "III"])
@pytest.mark.parametrize("air_speed", [0.1, 0.6, 0.9, 1.2])
def test_adaptive_band_agrees_with_pythermalcomfort(running_mean, category, air_speed):
    low, high = adaptive_band_en16798(running_mean, category, air_speed)
    # pythermalcomfort raises the limit where the operative temperature asked about is above 25 degC.
    reference = adaptive_en(tdb=26, tr=26, t_running_mean=running_mean, v=air_speed)
    name = f"cat_{category.lower()}"
    assert low == pytest.approx(getattr(reference, f"tmp_cmf_{name}_low"), abs=0.06)
    if 0.33 * running_mean + 18.8 + {"I": 2, "II": 3, "III": 4}[category] > 25:
        assert high == pytest.approx(getattr(reference, f"tmp_cmf_{name}_up"), abs=0.06)


def test_adaptive_band_by_hand():
    low, high = adaptive_band_en16798(20.0, "II")
    assert (low, high) == (pytest.approx(21.4), pytest.approx(28.4))


def test_adaptive_band_ends_at_10_and_30():
    """Older pythermalcomfort went on to 33.5; the one tested against (>= 4) ends at 30 too."""
    low, high = adaptive_band_en16798([9.9, 10.0, 30.0, 30.1], "II")
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, False, True]


def test_fixed_bands_of_an_office_and_no_category_iv():
    assert operative_band_en16798("heating") == (20, 24)
    assert operative_band_en16798("cooling", "I") == (23.5, 25.5)
    with pytest.raises(UnknownNameError):
        operative_band_en16798("heating", "IV")
    with pytest.raises(UnknownNameError):
        adaptive_band_en16798(20, "IV")


# The project's band and tdis_tot ------------------------------------------------------------------------------------------------


def test_band_of_the_issue():
    low, high = band_by_running_mean([-5, 9.99, 10, 12, 15, 15.01, 30])
    assert low.tolist() == [20, 20, 20, 20, 20, 23, 23]
    assert high.tolist() == [24, 24, 26, 26, 26, 26, 26]


def test_band_takes_the_limits_of_the_building():
    low, high = band_by_running_mean([5, 20], with_overrides({"band_cold_low": 19, "band_warm_high": 27}))
    assert (low.tolist(), high.tolist()) == ([19, 23], [24, 27])


def test_running_mean_follows_the_recursion_of_en16798():
    assert running_mean_en16798(np.array([10.0, 20.0, 0.0, 5.0])) == pytest.approx([10.0, 10.0, 12.0, 9.6])
    assert len(running_mean_en16798(np.empty(0))) == 0


@given(st.lists(st.floats(-30, 45), min_size=15, max_size=40))
def test_running_mean_is_the_weighted_sum_of_en16798_equation_b1(days):
    """T_rm = (1 - a) (T-1 + a T-2 + a^2 T-3 + ...), with the first day standing in for all before it."""
    t = np.array(days)
    weights = 0.2 * 0.8 ** np.arange(len(t) - 1)
    expected = (weights * t[-2::-1]).sum() + 0.8 ** (len(t) - 1) * t[0]
    assert running_mean_en16798(t)[-1] == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.floats(-30, 45), min_size=2, max_size=20))
def test_running_mean_never_sees_today_or_later(days):
    t = np.array(days)
    changed = t.copy()
    changed[-1] += 10
    assert np.array_equal(running_mean_en16798(t), running_mean_en16798(changed))


@pytest.mark.parametrize(("start", "n"), [("2026-01-05", 24 * 9), ("2026-03-05", 24 * 6 - 1), ("2026-10-29", 24 * 6 + 1)])
def test_hourly_running_mean_is_that_of_local_days(start, n):
    zone = "America/Chicago"
    index = steps(pd.Timestamp(start, tz=zone), n)
    outdoor = np.random.default_rng(3).normal(12, 8, n)
    got = pd.Series(running_mean_hourly_en16798(index, outdoor, zone), index=index.tz_convert(zone))
    daily = pd.Series(outdoor, index=index.tz_convert(zone)).groupby(lambda t: t.date()).mean()
    assert len(daily) == round(n / 24)
    for day, expected in zip(daily.index, running_mean_en16798(daily.to_numpy()), strict=True):
        assert got[[t.date() == day for t in got.index]].to_numpy() == pytest.approx(expected, abs=1e-9)


def test_band_changes_at_local_midnight_after_the_weather_did():
    zone = "America/Chicago"
    index = steps(pd.Timestamp("2026-04-01", tz=zone), 24 * 20)
    outdoor = np.where(np.arange(len(index)) < 24 * 10, 2.0, 25.0)  # 2 degC, then 25 degC from the eleventh day on
    low, high = comfort_band(index, outdoor, zone)
    local = index.tz_convert(zone)
    changes = np.flatnonzero(np.diff(low) + np.diff(high)) + 1
    assert (local[changes].hour == 0).all()
    # T_rm: 2 on the eleventh day, then 25 - 23 * 0.8^k: 6.6, 10.3, 13.2, 15.6 on the fifteenth.
    assert [(d + 1, low[d * 24], high[d * 24]) for d in (10, 11, 12, 13, 14)] == [
        (11, 20, 24), (12, 20, 24), (13, 20, 26), (14, 20, 26), (15, 23, 26),
    ]  # fmt: skip


def test_empty_index_has_an_empty_band():
    assert len(comfort_band(steps(pd.Timestamp("2026-01-05T00:00Z"), 0), [], "UTC")[0]) == 0


def test_occupied_from_eight_in_a_hundred_on():
    assert is_occupied([0, 0.05, 0.0799, 0.08, 1]).tolist() == [False, False, False, True, True]


def test_tdis_tot_by_hand():
    """Two zones, three hours, the last unoccupied: zone 1 misses by 1 K below and 2 K above, zone 2 never."""
    temperature = np.array([[[19.0, 22.0], [26.0, 24.0], [10.0, 10.0]], [[20.0, 24.0], [22.0, 22.0], [99.0, 99.0]]])
    got = tdis_tot(temperature, np.full(3, 20.0), np.full(3, 24.0), np.array([True, True, False]))
    assert got.tolist() == [1.5, 0.0]
    assert tdis_tot(temperature, 20.0, 24.0, [True, True, False], step_h=0.25).tolist() == [0.375, 0.0]


@given(st.integers(0, 2**32 - 1))
def test_tdis_tot_equals_plain_loops_and_judges_each_member_alone(seed):
    rng = np.random.default_rng(seed)
    temperature = rng.uniform(15, 30, (3, 7, 2))
    low, high, occupied = rng.uniform(19, 22, 7), rng.uniform(23, 26, 7), rng.random(7) > 0.4
    got = tdis_tot(temperature, low, high, occupied)
    for b in range(3):
        total = 0.0
        for t in range(7):
            for z in range(2):
                if occupied[t]:
                    total += max(low[t] - temperature[b, t, z], temperature[b, t, z] - high[t], 0) / 2
        assert got[b] == pytest.approx(total)
        assert tdis_tot(temperature[b], low, high, occupied) == pytest.approx(total)


def test_occupancy_and_band_may_differ_between_members():
    temperature = np.full((2, 4, 1), 18.0)
    low = np.array([[20.0] * 4, [21.0] * 4])
    assert tdis_tot(temperature, low, low + 5, np.array([[1, 1, 0, 0], [1, 0, 0, 0]])).tolist() == [4.0, 3.0]


def test_band_of_another_length_is_refused():
    with pytest.raises(ShapeError, match="zone values and their band"):
        distance_outside(np.zeros((2, 24, 3)), np.zeros(23), np.ones(23))
    with pytest.raises(ShapeError):
        distance_outside(np.zeros(24), 0.0, 1.0)
