import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.description import Carrier, Efficiency, load_building
from building.errors import MissingColumnError, ShapeError, UnknownNameError
from building.indices.energy import (
    cost_tot,
    emis_tot,
    ener_tot,
    energy_kwh,
    final_power,
    hvac_energy_kwh,
    local_hours,
    pele_tot,
    pgas_tot,
)
from building.timeline import steps

OFFICE = load_building("medium_office")
REFERENCE = OFFICE.efficiency
OTHER = Efficiency(burner=0.9, cooling_cop=4.0, reference_cooling_cop=3.2, fan_pressure=800, reference_fan_pressure=1000)
ELECTRICITY = Carrier(price=0.20, emission=0.4, source="a test")
GAS = Carrier(price=0.05, emission=0.2, source="a test")
CARRIERS = {"electricity": ELECTRICITY, "gas": GAS}


def response(**powers):
    """One day, two members (the second twice the first), constant powers [W], other channels 20."""
    y = np.full((2, 24, len(OFFICE.outputs)), 20.0)
    for name, value in powers.items():
        y[:, :, OFFICE.outputs.position(name)] = value * np.array([[1.0], [2.0]])
    return y


POWERS = {
    "gas_coil_heat": 900.0, "electric_reheat_heat": 500.0, "coil_cooling": 3200.0, "cooling_electricity": 1000.0,
    "fan_electricity": 200.0, "facility_electricity": 5000.0, "hot_water_gas": 50.0,
}  # fmt: skip


def test_hvac_energy_by_hand_at_other_efficiencies():
    """Gas 900/0.9 = 1000, cooling 1000*3.2/4 = 800, fans 200*0.8 = 160, reheat 500: 2460 W for 24 h."""
    y = response(**POWERS)
    p = final_power(y, OFFICE.outputs, OTHER)
    assert p.hvac[:, 0] == pytest.approx([2460, 4920])
    assert hvac_energy_kwh(y, OFFICE.outputs, OTHER) == pytest.approx([59.04, 118.08])
    assert p.facility_electricity[0, 0] == pytest.approx(5000 - 200 - 40)
    assert p.facility_by_carrier()["gas"][0, 0] == pytest.approx(1000 + 50)
    assert {c: v[0, 0] for c, v in p.hvac_by_carrier().items()} == pytest.approx({"electricity": 1460, "gas": 1000})


def test_at_reference_only_the_burner_acts():
    p = final_power(response(**POWERS), OFFICE.outputs, REFERENCE)
    assert (p.fans[0, 0], p.cooling[0, 0], p.reheat[0, 0], p.facility_electricity[0, 0]) == (200, 1000, 500, 5000)
    assert p.heating_gas[0, 0] == pytest.approx(900 / REFERENCE.burner)


def test_hot_water_is_no_hvac_energy():
    without = response(**{**POWERS, "hot_water_gas": 0.0})
    assert np.array_equal(
        hvac_energy_kwh(without, OFFICE.outputs, OTHER), hvac_energy_kwh(response(**POWERS), OFFICE.outputs, OTHER)
    )


@given(st.floats(0.5, 1.0), st.floats(1.5, 6), st.floats(300, 2000))
def test_facility_changes_by_what_fans_and_cooling_change(burner, cop, pressure):
    own = REFERENCE.model_copy(update={"burner": burner, "cooling_cop": cop, "fan_pressure": pressure})
    a, b = (final_power(response(**POWERS), OFFICE.outputs, e) for e in (REFERENCE, own))
    rest_a, rest_b = (p.facility_electricity - p.hvac_electricity for p in (a, b))
    assert np.allclose(rest_a, rest_b)


def test_plant_a_building_does_not_have_counts_as_zero_but_not_all_of_it():
    keep = [n for n in OFFICE.outputs.names if n not in ("gas_coil_heat", "hot_water_gas")]
    small = OFFICE.outputs.only(keep)
    y = response(**POWERS)[..., OFFICE.outputs.positions(keep)]
    assert final_power(y, small, OTHER).heating_gas.sum() == 0
    assert final_power(y, small, OTHER).hvac[0, 0] == pytest.approx(1460)
    zones = OFFICE.outputs.only(["core_mid_air_temperature"])
    with pytest.raises(MissingColumnError, match="gas_coil_heat, .*facility_electricity"):
        final_power(y[..., :1], zones, OTHER)
    with pytest.raises(ShapeError):
        final_power(y[..., :1], small, OTHER)


def test_energy_counts_the_length_of_the_step():
    assert energy_kwh(np.full((3, 8), 1000.0), step_h=0.25) == pytest.approx([2, 2, 2])


def power_by_carrier():
    return final_power(response(**POWERS), OFFICE.outputs, OTHER).hvac_by_carrier()


def test_boptest_totals_by_hand():
    area = 100.0
    p = power_by_carrier()
    assert ener_tot(p, area) == pytest.approx([0.5904, 1.1808])
    assert cost_tot(p, CARRIERS, area) == pytest.approx(np.array([1, 2]) * (1.46 * 24 * 0.20 + 24 * 0.05) / 100)
    assert emis_tot(p, CARRIERS, area) == pytest.approx(np.array([1, 2]) * (1.46 * 24 * 0.4 + 24 * 0.2) / 100)
    assert pele_tot(p["electricity"], area) == pytest.approx([0.0146, 0.0292])
    assert pgas_tot(p["gas"], area) == pytest.approx([0.01, 0.02])


def test_peak_is_the_greatest_hour():
    p = np.ones((1, 24)) * 100.0
    p[0, 17] = 5000.0
    assert pele_tot(p, 1000.0) == pytest.approx([0.005])


@pytest.mark.parametrize(("start", "n_cheap"), [("2026-01-10", 6), ("2026-03-08", 5), ("2026-11-01", 7)])
def test_hourly_price_follows_the_wall_clock_over_daylight_saving(start, n_cheap):
    """Midnight to six is free of charge; the night of the change has an hour less or more of it."""
    zone = "America/Chicago"
    begin = pd.Timestamp(start, tz=zone)
    hours = local_hours(steps(begin, int((begin + pd.DateOffset(days=1) - begin) / pd.Timedelta(hours=1))), zone)
    carrier = ELECTRICITY.model_copy(update={"price_by_hour": [0.0] * 6 + [1.0] * 18})
    power = {"electricity": np.full((1, len(hours)), 1000.0)}
    assert cost_tot(power, {"electricity": carrier}, 1.0, hours) == pytest.approx([len(hours) - n_cheap])


def test_hourly_price_without_local_hours_and_carrier_without_price_are_refused():
    carrier = ELECTRICITY.model_copy(update={"price_by_hour": [0.1] * 24})
    with pytest.raises(ShapeError, match="local hours for the hourly price of electricity"):
        cost_tot(power_by_carrier(), {**CARRIERS, "electricity": carrier}, 1.0)
    with pytest.raises(UnknownNameError, match="'gas' is not a carrier"):
        cost_tot(power_by_carrier(), {"electricity": ELECTRICITY}, 1.0)
    with pytest.raises(UnknownNameError, match="'gas' is not a carrier"):
        emis_tot(power_by_carrier(), {"electricity": ELECTRICITY}, 1.0)
