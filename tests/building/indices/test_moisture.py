import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.errors import UnknownNameError
from building.indices.limits import with_overrides
from building.indices.moisture import (
    condensation_hours,
    dew_point_iso13788,
    humidity_band_en16798,
    humidity_hours_outside_en16798,
    humidity_ratio,
    mould_excess,
    mould_line_iso13788,
    mould_risk_hours,
    relative_humidity,
    saturation_pressure_iso13788,
    surface_humidity_iso13788,
    surface_temperature_iso13788,
    temperature_at_saturation_iso13788,
    vapour_pressure,
)

STEAM_TABLE = [
    # ASHRAE Fundamentals 2017, chapter 1, Table 3 (Hyland and Wexler): temperature [degC], saturation pressure [Pa]
    (-20, 103.24), (-10, 259.90), (0, 611.2), (10, 1228.0), (20, 2338.9), (30, 4246.0), (40, 7383.5),
]  # fmt: skip


def hyland_wexler(t):
    """ASHRAE Fundamentals 2017 chapter 1 equations (5), (6); not used by the code, so a second opinion."""
    k = t + 273.15
    ice = -5674.5359 / k + 6.3925247 - 9.677843e-3 * k + 6.2215701e-7 * k**2 + 2.0747825e-9 * k**3 - 9.484024e-13 * k**4
    water = -5800.2206 / k + 1.3914993 - 4.8640239e-2 * k + 4.1764768e-5 * k**2 - 1.4452093e-8 * k**3
    return np.exp(np.where(t < 0, ice + 4.1635019 * np.log(k), water + 6.5459673 * np.log(k)))


@pytest.mark.parametrize(("t", "p"), STEAM_TABLE)
def test_saturation_pressure_is_near_the_steam_table(t, p):
    assert saturation_pressure_iso13788(t) == pytest.approx(p, rel=0.005)
    assert hyland_wexler(np.array(float(t))) == pytest.approx(p, rel=0.001)


@pytest.mark.parametrize(("low", "share"), [(-15, 0.006), (-30, 0.011)])
def test_saturation_pressure_is_as_near_to_hyland_wexler_as_stated(low, share):
    t = np.linspace(low, 50, 400)
    assert np.abs(saturation_pressure_iso13788(t) / hyland_wexler(t) - 1).max() < share


@given(st.floats(-40, 60))
def test_saturation_and_its_inverse_round_trip(t):
    assert temperature_at_saturation_iso13788(saturation_pressure_iso13788(t)) == pytest.approx(t, abs=1e-6)


@given(st.floats(-10, 40), st.floats(0.05, 1), st.floats(75000, 105000))
def test_humidity_ratio_and_relative_humidity_round_trip(t, rh, p):
    assert relative_humidity(t, humidity_ratio(t, rh, p), p) == pytest.approx(rh, rel=1e-9)


def test_check_value_of_din_4108():
    """20 degC, 50 %: dew point 9.3 degC, mould line 12.6 degC."""
    p = vapour_pressure(humidity_ratio(20, 0.5))
    assert dew_point_iso13788(p) == pytest.approx(9.3, abs=0.05)
    assert mould_line_iso13788(p) == pytest.approx(12.6, abs=0.05)


def test_known_state_of_moist_air():
    """ASHRAE psychrometric chart, sea level: 25 degC, 50 % is 9.9 g/kg; at 1500 m (84.55 kPa) 11.9 g/kg."""
    assert humidity_ratio(25, 0.5) == pytest.approx(0.00988, abs=5e-5)
    assert humidity_ratio(25, 0.5, 84556) == pytest.approx(0.01188, abs=6e-5)


def test_din_4108_minimum_factor_meets_the_mould_line_at_the_design_climate():
    """DIN 4108-2: -5 degC outside, 20 degC and 50 % inside, f_Rsi 0.70 gives 12.5 degC, 80 % on the surface."""
    assert surface_temperature_iso13788(20, -5, 0.70) == pytest.approx(12.5)
    w = humidity_ratio(20, 0.5)
    limits = with_overrides({"surface_factor": 0.70})
    rh = surface_humidity_iso13788(np.full((1, 1, 1), 20.0), np.array([[w]]), np.array([-5.0]), limits=limits)
    assert rh[0, 0, 0] == pytest.approx(0.80, abs=0.01)


def test_surface_humidity_grows_with_cold_outside_and_equals_the_air_when_it_is_as_warm():
    w = humidity_ratio(20, 0.5)
    rh = surface_humidity_iso13788(np.full((1, 3, 2), 20.0), np.full((1, 3), w), np.array([20.0, 0.0, -20.0]))
    assert rh.shape == (1, 3, 2)
    assert rh[0, 0] == pytest.approx([0.5, 0.5])
    assert (np.diff(rh[0, :, 0]) > 0).all()


def test_risk_hours_by_hand():
    surface = np.array([[[0.79, 0.81], [0.80, 1.00], [0.50, 1.02], [0.90, 0.20]]])
    assert mould_risk_hours(surface).tolist() == [2.5]
    assert condensation_hours(surface).tolist() == [1.0]
    assert mould_excess(surface) == pytest.approx([(0.01 + 0.20 + 0.22 + 0.10) / 2])
    assert mould_risk_hours(surface, step_h=0.25).tolist() == [0.625]


@given(st.integers(0, 2**32 - 1))
def test_no_risk_hours_means_no_excess_and_the_other_way(seed):
    surface = np.random.default_rng(seed).uniform(0.7, 0.82, (4, 3, 2))
    assert ((mould_risk_hours(surface) > 0) == (mould_excess(surface) > 0)).all()


def test_humidity_band_by_category_and_hours_outside_it():
    assert humidity_band_en16798() == (0.20, 0.70)
    assert humidity_band_en16798("II") == (0.25, 0.60)
    with pytest.raises(UnknownNameError):
        humidity_band_en16798("IV")
    humidity = np.array([[[0.10, 0.30], [0.75, 0.80], [0.05, 0.05]]])
    assert humidity_hours_outside_en16798(humidity, np.array([1, 1, 0])).tolist() == [1.5]
    assert humidity_hours_outside_en16798(humidity, np.array([1, 1, 0]), "I").tolist() == [1.5]
