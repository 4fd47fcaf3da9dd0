"""The knob table: what each parameter and each series changes in the model.

Two tables, both audited by `simulation.audit`: PARAMETERS edit the hard-sized model, SCHEDULES replace one of its schedules
by a `Schedule:File` of the same name, so that every reference stays good and any plan can be run.

Stated behaviour, the same in every run:
- system_on drives the fan schedule; the infiltration schedule follows from it (a quarter while on, whole while off).
- Outdoor air is only a setting: the controllers' fixed minimum flow times their damper schedule; zero while off.
  The shipped differential dry-bulb economiser stays.
- Night cycle stays as shipped: while off, a zone 1 K past its setpoint starts its air loop for half an hour.
- Core zones get CORE_INFILTRATION_ACH (times `infiltration`), or nothing would remove their CO2 at night.
- Lifts and hot water follow occupancy_share.
- Ground and mains temperatures are held at their annual mean, since no input tells the month.
- Outdoor CO2 is that of the site.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from building.description import Building
from simulation.epjson import Epjson

CORE_INFILTRATION_ACH = 0.05
INFILTRATION_WHILE_ON = 0.25
HOT_WATER_SHARE = 0.55  # the shipped hot-water schedule peaks at 0.57 where people peak at 0.95
OUTDOOR_AIR_MAX = 5.4  # m3/h.m2, the controllers' minimum flow at a damper schedule of 1

Series = pd.Series


def _each(epjson: Epjson, object_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from epjson.get(object_type, {}).items()


def infiltration(epjson: Epjson, factor: float, building: Building) -> None:
    """Multiply the leakage of every zone; adds a little to zones that have none."""
    leaky = set()
    for _, o in _each(epjson, "ZoneInfiltration:DesignFlowRate"):
        o["flow_rate_per_exterior_surface_area"] *= factor
        leaky.add(o["zone_or_zonelist_or_space_or_spacelist_name"].lower())
    schedule = next(iter(epjson["ZoneInfiltration:DesignFlowRate"].values()))["schedule_name"]
    for zone in building.zones:
        if zone.name not in leaky:
            epjson["ZoneInfiltration:DesignFlowRate"][f"{zone.name} infiltration"] = {
                "zone_or_zonelist_or_space_or_spacelist_name": zone.name,
                "schedule_name": schedule,
                "design_flow_rate_calculation_method": "AirChanges/Hour",
                "air_changes_per_hour": CORE_INFILTRATION_ACH * factor,
                "constant_term_coefficient": 1.0,
                "temperature_term_coefficient": 0.0,
                "velocity_term_coefficient": 0.0,
                "velocity_squared_term_coefficient": 0.0,
            }


def internal_mass(epjson: Epjson, factor: float, building: Building) -> None:
    """Multiply the surface of furniture and partitions."""
    for _, o in _each(epjson, "InternalMass"):
        o["surface_area"] *= factor


def _insulate(epjson: Epjson, surface_type: str, factor: float) -> None:
    """Divide the conductivity of the insulation of outdoor surfaces; thickness and mass stay, or the CTF solver may stop."""
    constructions = {
        o["construction_name"]
        for _, o in _each(epjson, "BuildingSurface:Detailed")
        if o["surface_type"] == surface_type and o["outside_boundary_condition"] == "Outdoors"
    }
    layers = {layer for c in constructions for layer in epjson["Construction"][c].values()}
    for name, o in _each(epjson, "Material"):
        if name in layers and re.search("insulation", name, re.IGNORECASE):
            o["conductivity"] /= factor


def wall_insulation(epjson: Epjson, factor: float, building: Building) -> None:
    """Multiply the thermal resistance of the wall insulation."""
    _insulate(epjson, "Wall", factor)


def roof_insulation(epjson: Epjson, factor: float, building: Building) -> None:
    """Multiply the thermal resistance of the roof insulation."""
    _insulate(epjson, "Roof", factor)


def window_u_factor(epjson: Epjson, value: float, building: Building) -> None:
    """Set the U-factor of all glazing [W/m2.K]."""
    for _, o in _each(epjson, "WindowMaterial:SimpleGlazingSystem"):
        o["u_factor"] = value


def window_shgc(epjson: Epjson, value: float, building: Building) -> None:
    """Set the solar heat gain coefficient of all glazing."""
    for _, o in _each(epjson, "WindowMaterial:SimpleGlazingSystem"):
        o["solar_heat_gain_coefficient"] = value


def occupant_density(epjson: Epjson, value: float, building: Building) -> None:
    """Set people per floor area [1/m2]."""
    for _, o in _each(epjson, "People"):
        o["floor_area_per_person"] = 1 / value


def lighting_power_density(epjson: Epjson, value: float, building: Building) -> None:
    """Set installed lights [W/m2]."""
    for _, o in _each(epjson, "Lights"):
        o["watts_per_floor_area"] = value


def equipment_power_density(epjson: Epjson, value: float, building: Building) -> None:
    """Set installed plug loads [W/m2]; lifts (a level, not a density) stay."""
    for _, o in _each(epjson, "ElectricEquipment"):
        if o["design_level_calculation_method"] == "Watts/Area":
            o["watts_per_floor_area"] = value


def heating_capacity(epjson: Epjson, value: float, building: Building) -> None:
    """Scale gas and reheat coils to a total capacity [W/m2]."""
    coils = [o for t in ("Coil:Heating:Fuel", "Coil:Heating:Electric") for _, o in _each(epjson, t)]
    factor = value * building.floor_area / sum(o["nominal_capacity"] for o in coils)
    for o in coils:
        o["nominal_capacity"] *= factor


AIR_FIELDS = {
    "AirLoopHVAC": ("design_supply_air_flow_rate",),
    "AirTerminal:SingleDuct:VAV:Reheat": ("maximum_air_flow_rate", "maximum_flow_per_zone_floor_area_during_reheat"),
    "Controller:OutdoorAir": ("maximum_outdoor_air_flow_rate",),
    "Fan:SystemModel": ("design_maximum_air_flow_rate", "design_electric_power_consumption"),
    "Fan:VariableVolume": ("maximum_flow_rate",),
    "Coil:Cooling:DX:TwoSpeed": (
        "high_speed_gross_rated_total_cooling_capacity",
        "low_speed_gross_rated_total_cooling_capacity",
        "high_speed_rated_air_flow_rate",
        "low_speed_rated_air_flow_rate",
    ),
}


def air_system_size(epjson: Epjson, value: float, building: Building) -> None:
    """Scale supply air and cooling coils together to a total design flow [m3/h.m2]; the minimum outdoor air stays a setting."""
    total = sum(o["design_supply_air_flow_rate"] for _, o in _each(epjson, "AirLoopHVAC"))
    factor = value * building.floor_area / 3600 / total
    for object_type, fields in AIR_FIELDS.items():
        for _, o in _each(epjson, object_type):
            for field in fields:
                o[field] *= factor


def vav_minimum_flow(epjson: Epjson, value: float, building: Building) -> None:
    """Set the least flow of every VAV box, as share of its greatest."""
    for _, o in _each(epjson, "AirTerminal:SingleDuct:VAV:Reheat"):
        o["zone_minimum_air_flow_input_method"] = "Constant"
        o["constant_minimum_air_flow_fraction"] = value


PARAMETERS: dict[str, Callable[[Epjson, float, Building], None]] = {
    f.__name__: f
    for f in (
        infiltration, internal_mass, wall_insulation, roof_insulation, window_u_factor, window_shgc, occupant_density,
        lighting_power_density, equipment_power_density, heating_capacity, air_system_size, vav_minimum_flow,
    )
}  # fmt: skip

SCHEDULES: dict[str, Callable[[pd.DataFrame], Series]] = {
    "HTGSETP_SCH": lambda f: f["heating_setpoint"],
    "CLGSETP_SCH": lambda f: f["cooling_setpoint"],
    "HVACOperationSchd": lambda f: f["system_on"],
    "INFIL_QUARTER_ON_SCH": lambda f: 1 - (1 - INFILTRATION_WHILE_ON) * f["system_on"],
    "MinOA_MotorizedDamper_Sched": lambda f: f["system_on"] * f["outdoor_air_flow"] / OUTDOOR_AIR_MAX,
    "Seasonal-Reset-Supply-Air-Temp-Sch": lambda f: f["supply_air_temperature"],
    "BLDG_OCC_SCH": lambda f: f["occupancy_share"],
    "BLDG_ELEVATORS": lambda f: f["occupancy_share"],
    "BLDG_SWH_SCH": lambda f: HOT_WATER_SHARE * f["occupancy_share"],
    "BLDG_LIGHT_SCH": lambda f: f["lighting_share"],
    "BLDG_EQUIP_SCH": lambda f: f["plug_share"],
}
"""Schedule of the model -> its series, from a frame of settings and occupancy."""


def prepare(epjson: Epjson, building: Building) -> None:
    """Make the changes every run shares: damper scale, constant ground and mains, CO2 balance."""
    floor_area_of_loop = _floor_area_by_loop(epjson, building)
    for name, o in _each(epjson, "Controller:OutdoorAir"):
        loop = name.split("_OA")[0]
        o["minimum_outdoor_air_flow_rate"] = OUTDOOR_AIR_MAX / 3600 * floor_area_of_loop[loop]
        o["maximum_outdoor_air_flow_rate"] = max(o["maximum_outdoor_air_flow_rate"], o["minimum_outdoor_air_flow_rate"])
    for _, o in _each(epjson, "Site:GroundTemperature:BuildingSurface"):
        mean = sum(o.values()) / len(o)
        o.update(dict.fromkeys(o, mean))
    for _, o in _each(epjson, "Site:WaterMainsTemperature"):
        o["maximum_difference_in_monthly_average_outdoor_air_temperatures"] = 0.0
    epjson["Schedule:Constant"] = {
        **epjson.get("Schedule:Constant", {}),
        "outdoor CO2": {"schedule_type_limits_name": "Any Number", "hourly_value": building.site.outdoor_co2},
    }
    epjson["ZoneAirContaminantBalance"] = {
        "CO2": {"carbon_dioxide_concentration": "Yes", "outdoor_carbon_dioxide_schedule_name": "outdoor CO2"}
    }


def _floor_area_by_loop(epjson: Epjson, building: Building) -> dict[str, float]:
    """Return the conditioned floor area each air loop serves [m2], by following supply splitter and terminal names."""
    area = {z.name: z.floor_area for z in building.zones}
    terminal_inlet = {o["air_inlet_node_name"]: name for name, o in _each(epjson, "AirTerminal:SingleDuct:VAV:Reheat")}
    areas = {}
    for name, o in _each(epjson, "AirLoopHVAC:ZoneSplitter"):
        terminals = [terminal_inlet[n["outlet_node_name"]].lower() for n in o["nodes"]]
        areas[name.split(" ")[0]] = sum(a for z, a in area.items() if any(t.startswith(z) for t in terminals))
    return areas
