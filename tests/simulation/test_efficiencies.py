"""Efficiencies may act after the predictor: what they promise of a run without them, the engine reports of a run with them.

The pressure of the fans is the exception that is stated: the heat it puts into the air is left out.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from building.description import Building
from building.indices.energy import FinalPower, final_power
from simulation.audit import base_run
from simulation.energyplus import SPIN_UP_H, simulate

pytestmark = pytest.mark.engine

HALF_A_PERCENT = 0.005
HOURS = 5 * 24


@pytest.fixture(scope="module")
def winter(office: Building) -> pd.DataFrame:
    return lived(office, "2018-01-15")


@pytest.fixture(scope="module")
def summer(office: Building) -> pd.DataFrame:
    return lived(office, "2018-07-09")


def lived(office: Building, day: str, **adjust: float) -> pd.DataFrame:
    """Return the working days after `day`, with the engine's own efficiencies adjusted."""
    return simulate(office, replace(base_run(office, day, HOURS), adjust=adjust)).iloc[SPIN_UP_H:]


def promised(office: Building, reference: pd.DataFrame, **efficiency: float) -> FinalPower:
    """Return final powers as the program works them out: from a run at reference values, at other efficiencies."""
    y_to = reference[list(office.outputs.names)].to_numpy()
    return final_power(y_to, office.outputs, office.efficiency.model_copy(update=efficiency))


@pytest.mark.parametrize("burner", [0.7, 0.95])
def test_gas_follows_the_burner_and_nothing_else_does(office: Building, winter: pd.DataFrame, burner: float) -> None:
    real = lived(office, "2018-01-15", burner_efficiency=burner)
    gas = promised(office, winter, burner=burner).heating_gas.sum()
    assert gas == pytest.approx(real["heating_gas"].sum(), rel=HALF_A_PERCENT)
    assert abs(gas / winter["heating_gas"].sum() - 1) > 0.1, "the burner must have moved the gas at all"
    outputs = list(office.outputs.names)
    assert (real[outputs].mean() - winter[outputs].mean()).abs().max() <= 1e-6 * winter[outputs].abs().mean().max()


def test_cooling_electricity_follows_the_cop_hour_by_hour(office: Building, summer: pd.DataFrame) -> None:
    real = lived(office, "2018-07-09", cop_factor=1.3)
    power = promised(office, summer, cooling_cop=1.3 * office.efficiency.reference_cooling_cop)
    for told, measured in (
        (power.cooling, real["cooling_electricity"]),
        (power.facility_electricity, real["facility_electricity"]),
    ):
        assert told.sum() == pytest.approx(measured.sum(), rel=HALF_A_PERCENT)
        assert abs(told - measured.to_numpy()).mean() < HALF_A_PERCENT * measured.mean()
    assert real["coil_cooling"].sum() == pytest.approx(summer["coil_cooling"].sum(), rel=1e-6)


def test_fan_electricity_follows_the_pressure_and_the_heat_left_out_is_small(office: Building, summer: pd.DataFrame) -> None:
    pressure = 1.3 * office.efficiency.reference_fan_pressure
    real = lived(office, "2018-07-09", fan_pressure_factor=1.3)
    fans = promised(office, summer, fan_pressure=pressure).fans.sum()
    assert fans == pytest.approx(real["fan_electricity"].sum(), rel=HALF_A_PERCENT)
    left_out = 1 - summer["coil_cooling"].sum() / real["coil_cooling"].sum()
    assert 0 < left_out < 0.04, f"30 % more pressure asks {left_out:.1%} more cooling, which the program leaves out"
