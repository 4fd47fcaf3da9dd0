"""Objectives: what a search minimises. Plain functions of predictions and outlook, in a table by name.

Every objective is at least 0, least is best, judges each plan alone, and comes from a function of `building.indices`.

Legend of shapes: n plan, t hour, o output, z zone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from building.indices.air import idis_tot
from building.indices.comfort import distance_outside, tdis_tot
from building.indices.energy import cost_tot, emis_tot, final_power, hvac_energy_kwh, local_hours
from building.indices.moisture import humidity_band_en16798, mould_excess, relative_humidity, surface_humidity_iso13788
from building.units import CO2, TEMPERATURE, Quantity
from building.variables import Role
from optim.outlook import Outlook

Array = NDArray[np.float64]
Objective = Callable[[Array, Outlook], Array]
"""Predictions (plans, hours, outputs) and outlook in, one value per plan out."""


def energy(y_nto: Array, outlook: Outlook) -> Array:
    """HVAC energy [site kWh]: fans, cooling electricity, reheat electricity, heating gas; hot water excluded."""
    return hvac_energy_kwh(y_nto, outlook.outputs, outlook.building.efficiency)


def discomfort(y_nto: Array, outlook: Outlook) -> Array:
    """BOPTEST ``tdis_tot`` [K.h per zone]: outside the band on air temperature while occupied."""
    return tdis_tot(zones(y_nto, outlook, TEMPERATURE), outlook.low_t, outlook.high_t, outlook.is_occupied_t)


def co2_excess(y_nto: Array, outlook: Outlook) -> Array:
    """BOPTEST ``idis_tot`` [ppm.h per zone]: over 800 ppm above outdoor while occupied."""
    return idis_tot(zones(y_nto, outlook, CO2), outlook.is_occupied_t, outlook.building.site.outdoor_co2, limits=outlook.limits)


def moisture_risk(y_nto: Array, outlook: Outlook) -> Array:
    """Too dry, too damp, or damp on cold surfaces [share.h per zone].

    Relative humidity outside the EN 16798-1 category III band while occupied, plus surface humidity over the mould limit (ISO
    13788) at all hours; both as distance times hours, since a search needs a slope where hours alone are steps.
    """
    temperature = zones(y_nto, outlook, TEMPERATURE)
    ratio = y_nto[..., outlook.outputs.position("mean_humidity_ratio")]
    names = outlook.future.inputs.names
    pressure = outlook.series("outdoor_air_pressure") if "outdoor_air_pressure" in names else np.full(ratio.shape[1], 101325.0)
    humidity = relative_humidity(temperature, ratio[..., None], pressure[:, None])
    low, high = humidity_band_en16798("III", outlook.limits)
    outside = distance_outside(humidity, low, high).mean(axis=-1) @ outlook.is_occupied_t.astype(float)
    surface = surface_humidity_iso13788(temperature, ratio, outlook.outdoor_t, pressure, outlook.limits)
    return np.asarray(outside + mould_excess(surface, limits=outlook.limits))


def cost(y_nto: Array, outlook: Outlook) -> Array:
    """HVAC energy cost [currency], by the building's tariffs."""
    power = final_power(y_nto, outlook.outputs, outlook.building.efficiency).hvac_by_carrier()
    hours = local_hours(outlook.future.index, outlook.building.site.time_zone)
    area = outlook.building.floor_area
    return cost_tot(power, outlook.building.carriers, area, hours) * area


def emissions(y_nto: Array, outlook: Outlook) -> Array:
    """HVAC emissions [kg CO2e], by the factors of the building's carriers."""
    power = final_power(y_nto, outlook.outputs, outlook.building.efficiency).hvac_by_carrier()
    area = outlook.building.floor_area
    return emis_tot(power, outlook.building.carriers, area) * area


OBJECTIVES: Mapping[str, Objective] = {
    "energy": energy,
    "discomfort": discomfort,
    "co2_excess": co2_excess,
    "moisture_risk": moisture_risk,
}
"""What a search minimises unless told otherwise."""

KNOWN: Mapping[str, Objective] = {**OBJECTIVES, "cost": cost, "emissions": emissions}
"""Every objective there is."""

UNITS: Mapping[str, str] = {
    "energy": "kWh",
    "discomfort": "K.h per zone",
    "co2_excess": "ppm.h per zone",
    "moisture_risk": "share.h per zone",
    "cost": "currency",
    "emissions": "kg CO2e",
}

GUARDED = ("discomfort", "co2_excess")
"""Objectives that safety margins act on."""

TOLERANCE_PER_WEEK: Mapping[str, float] = {"discomfort": 0.5, "co2_excess": 50.0, "moisture_risk": 1.0}
"""How much counts as none, per zone and week: comfort and air by the definitions of issue 2; moisture is ours (10 % for 10 h)."""


def zones(y_nto: Array, outlook: Outlook, quantity: Quantity) -> Array:
    """Return the predictions of one quantity in all zones, shape (plans, hours, zones)."""
    wanted = [v.name for v in outlook.outputs.having(Role.INDOOR, quantity=quantity) if v.zone is not None]
    return y_nto[..., outlook.outputs.positions(wanted)]
