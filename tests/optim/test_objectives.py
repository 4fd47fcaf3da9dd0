"""Objectives on predictions whose value is known by hand. What all share is in tests/contracts/test_objectives.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from building.description import Building
from building.scenario import Scenario
from optim.objectives import co2_excess, cost, discomfort, emissions, energy, moisture_risk
from optim.outlook import Outlook

Week = Callable[..., tuple[Scenario, Scenario]]


@pytest.fixture(scope="module")
def outlook(two_node: Building, week: Week) -> Outlook:
    return Outlook.of(two_node, *week(two_node), two_node.outputs)


def constant(outlook: Outlook, **values: float) -> np.ndarray:
    calm = {"zone_air_temperature": 22.0, "zone_co2": 420.0, "mean_humidity_ratio": 0.006}
    y = np.zeros((1, 168, len(outlook.outputs)))
    for name, value in {**calm, **values}.items():
        y[:, :, outlook.outputs.position(name)] = value
    return y


def test_energy_is_fans_cooling_reheat_and_gas_over_its_burner_without_hot_water(outlook: Outlook) -> None:
    y = constant(
        outlook, fan_electricity=1000, cooling_electricity=2000, electric_reheat_heat=3000, gas_coil_heat=800, hot_water_gas=9e9
    )
    assert energy(y, outlook) == pytest.approx(168 * (1 + 2 + 3 + 0.8 / 0.8))


def test_discomfort_counts_both_sides_of_the_band_in_occupied_hours_only(outlook: Outlook) -> None:
    # The own schedule: 16 occupied hours on five days, 11 on Saturday; winter band 20 to 24.
    hours = 5 * 16 + 11
    assert outlook.is_occupied_t.sum() == hours
    assert discomfort(constant(outlook, zone_air_temperature=19.5), outlook) == pytest.approx(0.5 * hours)
    assert discomfort(constant(outlook, zone_air_temperature=25.0), outlook) == pytest.approx(1.0 * hours)
    assert discomfort(constant(outlook), outlook) == 0


def test_co2_counts_over_800_ppm_above_outdoor(outlook: Outlook) -> None:
    assert co2_excess(constant(outlook, zone_co2=1320.0), outlook) == pytest.approx(100 * 91)
    assert co2_excess(constant(outlook, zone_co2=1219.0), outlook) == 0


def test_moisture_risk_is_zero_in_sound_air_and_counts_dry_damp_and_cold_surfaces(outlook: Outlook) -> None:
    assert moisture_risk(constant(outlook, mean_humidity_ratio=0.005), outlook) == 0
    assert moisture_risk(constant(outlook, mean_humidity_ratio=0.002), outlook) > 1
    # 0.0115 kg/kg at 22 degC is 69 %: inside the band, but at -8 degC outside the coldest surface stands at 16 degC: mould.
    damp = moisture_risk(constant(outlook, mean_humidity_ratio=0.0115), outlook)
    assert damp > 1
    assert moisture_risk(constant(outlook, mean_humidity_ratio=0.014), outlook) > damp


def test_cost_and_emissions_follow_the_carriers(outlook: Outlook) -> None:
    y = constant(outlook, fan_electricity=1000, gas_coil_heat=800)
    assert cost(y, outlook) == pytest.approx(168 * (1 * 0.14 + 1 * 0.04))
    assert emissions(y, outlook) == pytest.approx(168 * (1 * 0.37 + 1 * 0.18))
