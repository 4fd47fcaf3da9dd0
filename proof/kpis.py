"""The figures a lived week is judged by, from the simulator's own answer: BOPTEST's names, site HVAC energy."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from building.description import Building
from building.indices.air import idis_tot, mean_occupied_co2
from building.indices.comfort import comfort_band, is_occupied, tdis_tot
from building.indices.energy import hvac_energy_kwh
from building.indices.moisture import relative_humidity
from building.units import CO2, TEMPERATURE
from building.variables import Role

TDIS_ENOUGH = 0.5
"""K.h per zone and week that always count as no worse."""
IDIS_ENOUGH = 50.0
"""ppm.h per zone and week that always count as no worse."""


@dataclass(frozen=True)
class Kpis:
    """One week of one building.

    Attributes:
        hvac_kwh: fans, cooling electricity, reheat electricity, heating gas [site kWh]; hot water excluded.
        tdis_tot: discomfort [K.h per zone]. idis_tot: CO2 excess [ppm.h per zone].
        co2_ppm: mean over zones and occupied hours.
        humidity_low, humidity_high: least and greatest relative humidity of the mean zone air, 0..1.
    """

    hvac_kwh: float
    tdis_tot: float
    idis_tot: float
    co2_ppm: float
    humidity_low: float
    humidity_high: float


def kpis(building: Building, lived: pd.DataFrame, start: pd.Timestamp) -> Kpis:
    """Judge the hours of `lived` from `start` on.

    Args:
        building: its zones, band and efficiencies.
        lived: inputs and outputs, hourly, UTC; with at least a week before `start`, from which the running mean follows.
        start: first judged hour.
    """
    index = pd.DatetimeIndex(lived.index)
    limits = building.limits
    low, high = comfort_band(index, lived["outdoor_air_temperature"].to_numpy(), building.site.time_zone, limits)
    judged = index >= start
    week = lived[judged]
    occupied = is_occupied(week["occupancy_share"].to_numpy(), limits)
    temperature = week[list(building.outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)].to_numpy()
    co2 = week[list(building.outputs.having(Role.INDOOR, quantity=CO2).names)].to_numpy()
    humidity = relative_humidity(
        temperature.mean(axis=1), week["mean_humidity_ratio"].to_numpy(), week["outdoor_air_pressure"].to_numpy()
    )
    return Kpis(
        hvac_kwh=float(hvac_energy_kwh(week[list(building.outputs.names)].to_numpy(), building.outputs, building.efficiency)),
        tdis_tot=float(tdis_tot(temperature, low[judged], high[judged], occupied)),
        idis_tot=float(idis_tot(co2, occupied, building.site.outdoor_co2, limits=limits)),
        co2_ppm=float(mean_occupied_co2(co2, occupied)),
        humidity_low=float(humidity.min()),
        humidity_high=float(humidity.max()),
    )


def is_comfort_no_worse(kpi: Kpis, own: Kpis) -> bool:
    """Say whether discomfort is no more than the larger of the own schedule's and `TDIS_ENOUGH`."""
    return kpi.tdis_tot <= max(own.tdis_tot, TDIS_ENOUGH) + 1e-9


def is_air_no_worse(kpi: Kpis, own: Kpis) -> bool:
    """Say whether CO2 excess is no more than the larger of the own schedule's and `IDIS_ENOUGH`."""
    return kpi.idis_tot <= max(own.idis_tot, IDIS_ENOUGH) + 1e-9
