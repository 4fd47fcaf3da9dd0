"""The knob table: what each parameter changes in the model, and what each schedule of the model follows.

PARAMETERS edit the hard-sized model, by object types, never by the names of one building. Schedules are the building's own
(`[schedules]` of building.toml): each is replaced by a `Schedule:File` of the same name, so that every reference stays good and
any plan can be run. `simulation.audit` proves that both act. MODEL_TYPES says what a parameter needs of a model.

Stated behaviour, the same in every run:
- Outdoor air is only a setting: the controllers' fixed minimum flow times their damper schedule; zero while off. Each air loop's
  share is that of its floor area. The model's own economiser stays.
- Night cycle stays as the model has it.
- Zones without infiltration get CORE_INFILTRATION_ACH (times `infiltration`), or nothing would remove their CO2 at night.
- Densities keep their spread over the building: each object is moved with the mean.
- Ground and mains temperatures are held at their annual mean, since no input tells the month.
- Outdoor CO2 is that of the site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from building.description import Building
from simulation.airloops import air_loops, find
from simulation.epjson import Epjson

CORE_INFILTRATION_ACH = 0.05
LEAKS = {
    "ZoneInfiltration:DesignFlowRate": (
        "design_flow_rate", "flow_rate_per_floor_area", "flow_rate_per_exterior_surface_area", "air_changes_per_hour",
    ),
    "ZoneInfiltration:EffectiveLeakageArea": ("effective_air_leakage_area",),
    "ZoneInfiltration:FlowCoefficient": ("flow_coefficient",),
}  # fmt: skip
"""Object types that leak, each with the fields that say how much."""

ZONE_FIELD = "zone_or_zonelist_or_space_or_spacelist_name"


def _each(epjson: Epjson, object_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from epjson.get(object_type, {}).items()


def infiltration(epjson: Epjson, factor: float, building: Building) -> None:
    """Multiply the leakage of every zone; adds a little to zones that have none."""
    leaky: set[str] = set()
    schedules = []
    for kind, fields in LEAKS.items():
        for _, o in _each(epjson, kind):
            for field in fields:
                if isinstance(o.get(field), int | float):
                    o[field] *= factor
            leaky.update(zones_of(epjson, next(o[f] for f in (ZONE_FIELD, "zone_or_space_name", "zone_name") if f in o)))
            schedules.append(o.get("schedule_name"))
    for zone in building.zones:
        if zone.model_name.lower() not in leaky:
            epjson.setdefault("ZoneInfiltration:DesignFlowRate", {})[f"{zone.name} infiltration"] = {
                ZONE_FIELD: zone.model_name,
                **({"schedule_name": schedules[0]} if schedules[0] else {}),
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
    for object_type, name in insulation(epjson, surface_type):
        if object_type == "Material":
            epjson[object_type][name]["conductivity"] /= factor
        else:
            epjson[object_type][name]["thermal_resistance"] *= factor


def insulation(epjson: Epjson, surface_type: str) -> list[tuple[str, str]]:
    """Return the insulating layers of the outdoor surfaces of one type: (object type, name), each once, in the model's order.

    Of each construction those called insulation; where none is, the layer of the greatest resistance.
    """
    constructions = {
        o["construction_name"].lower()
        for _, o in _each(epjson, "BuildingSurface:Detailed")
        if o["surface_type"] == surface_type and o["outside_boundary_condition"] == "Outdoors"
    }
    resistance = {
        name.lower(): o["thickness"] / o["conductivity"] if kind == "Material" else o["thermal_resistance"]
        for kind in ("Material", "Material:NoMass")
        for name, o in _each(epjson, kind)
    }
    found: set[str] = set()
    for name, o in _each(epjson, "Construction"):
        if name.lower() in constructions:
            layers = [layer.lower() for layer in o.values() if layer.lower() in resistance]
            called = [layer for layer in layers if "insulation" in layer]
            found.update(called or sorted(layers, key=lambda layer: resistance[layer])[-1:])
    return [(kind, name) for kind in ("Material", "Material:NoMass") for name, _ in _each(epjson, kind) if name.lower() in found]


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
    for name, density in spread(epjson, "People", building).items():
        o = epjson["People"][name]
        if o["number_of_people_calculation_method"] == "Area/Person":
            o["floor_area_per_person"] = 1 / (value * density)
        else:
            o["people_per_floor_area"] = value * density


def lighting_power_density(epjson: Epjson, value: float, building: Building) -> None:
    """Set installed lights [W/m2]."""
    for name, density in spread(epjson, "Lights", building).items():
        epjson["Lights"][name]["watts_per_floor_area"] = value * density


def equipment_power_density(epjson: Epjson, value: float, building: Building) -> None:
    """Set installed plug loads [W/m2]; lifts (a level, not a density) stay."""
    for name, density in spread(epjson, "ElectricEquipment", building).items():
        epjson["ElectricEquipment"][name]["watts_per_floor_area"] = value * density


def spread(epjson: Epjson, object_type: str, building: Building) -> dict[str, float]:
    """Return, of each object that is given per floor area in a zone of the building, its density over their mean.

    The mean is taken over the floor area they stand on; where all are alike every one is exactly 1.
    """
    own = densities(epjson, object_type)
    area = {z.model_name.lower(): z.floor_area * z.multiplier for z in building.zones}
    weight = {n: sum(area.get(z, 0.0) for z in zones_of(epjson, epjson[object_type][n][ZONE_FIELD])) for n in own}
    there = {n: d for n, d in own.items() if weight[n]}
    if len(set(there.values())) < 2:
        return dict.fromkeys(there, 1.0)
    mean = sum(d * weight[n] for n, d in there.items()) / sum(weight[n] for n in there)
    return {n: d / mean for n, d in there.items()}


def densities(epjson: Epjson, object_type: str) -> dict[str, float]:
    """Return the people [1/m2], lights or plug loads [W/m2] of each object that is given per floor area, not as a number."""
    per_area = {
        "Area/Person": lambda o: 1 / o["floor_area_per_person"],
        "People/Area": lambda o: o["people_per_floor_area"],
        "Watts/Area": lambda o: o["watts_per_floor_area"],
    }
    methods = {n: o[METHOD_FIELD[object_type]] for n, o in _each(epjson, object_type)}
    return {n: float(per_area[m](epjson[object_type][n])) for n, m in methods.items() if m in per_area}


METHOD_FIELD = {
    "People": "number_of_people_calculation_method",
    "Lights": "design_level_calculation_method",
    "ElectricEquipment": "design_level_calculation_method",
}


def zones_of(epjson: Epjson, name: str) -> list[str]:
    """Return the zones a zone, zone list, space or space list stands for, lower case."""
    wanted = name.lower()
    for kind, items, item in (("ZoneList", "zones", "zone_name"), ("SpaceList", "spaces", "space_name")):
        for own, o in _each(epjson, kind):
            if own.lower() == wanted:
                return [z for member in o[items] for z in zones_of(epjson, member[item])]
    for own, o in _each(epjson, "Space"):
        if own.lower() == wanted:
            return [str(o["zone_name"]).lower()]
    return [wanted]


def heating_capacity(epjson: Epjson, value: float, building: Building) -> None:
    """Scale gas and reheat coils to a total capacity [W/m2]."""
    coils = [o for t in HEATING_COILS for _, o in _each(epjson, t)]
    factor = value * building.floor_area / sum(o["nominal_capacity"] for o in coils)
    for o in coils:
        o["nominal_capacity"] *= factor


HEATING_COILS = ("Coil:Heating:Fuel", "Coil:Heating:Electric")

AIR_FIELDS = {
    "AirLoopHVAC": ("design_supply_air_flow_rate",),
    "AirLoopHVAC:UnitaryHeatCool": (
        "cooling_supply_air_flow_rate", "heating_supply_air_flow_rate", "no_load_supply_air_flow_rate",
    ),
    "AirTerminal:SingleDuct:ConstantVolume:NoReheat": ("maximum_air_flow_rate",),
    "AirTerminal:SingleDuct:VAV:Reheat": ("maximum_air_flow_rate", "maximum_flow_per_zone_floor_area_during_reheat"),
    "Controller:OutdoorAir": ("maximum_outdoor_air_flow_rate",),
    "Fan:SystemModel": ("design_maximum_air_flow_rate", "design_electric_power_consumption"),
    "Fan:VariableVolume": ("maximum_flow_rate",),
    "Fan:ConstantVolume": ("maximum_flow_rate",),
    "Fan:OnOff": ("maximum_flow_rate",),
    "Coil:Cooling:DX:SingleSpeed": ("gross_rated_total_cooling_capacity", "rated_air_flow_rate"),
    "Coil:Cooling:DX:TwoSpeed": (
        "high_speed_gross_rated_total_cooling_capacity",
        "low_speed_gross_rated_total_cooling_capacity",
        "high_speed_rated_air_flow_rate",
        "low_speed_rated_air_flow_rate",
    ),
}  # fmt: skip


def air_system_size(epjson: Epjson, value: float, building: Building) -> None:
    """Scale supply air and cooling coils together to a total design flow [m3/h.m2]; the minimum outdoor air stays a setting."""
    total = sum(o["design_supply_air_flow_rate"] for _, o in _each(epjson, "AirLoopHVAC"))
    factor = value * building.floor_area / 3600 / total
    apart = zone_fans(epjson)
    for object_type, fields in AIR_FIELDS.items():
        for name, o in _each(epjson, object_type):
            for field in fields if name.lower() not in apart else ():
                if isinstance(o.get(field), int | float):
                    o[field] *= factor


def zone_fans(epjson: Epjson) -> set[str]:
    """Return the fans of zone equipment (unit heaters), lower case: they are no part of the air loops."""
    return {
        str(o[field]).lower()
        for kind in epjson
        if kind.startswith("ZoneHVAC:")
        for _, o in _each(epjson, kind)
        for field in ("supply_air_fan_name", "fan_name")
        if field in o
    }


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

MODEL_TYPES: dict[str, tuple[str, ...]] = {
    "infiltration": tuple(LEAKS),
    "internal_mass": ("InternalMass",),
    "window_u_factor": ("WindowMaterial:SimpleGlazingSystem",),
    "window_shgc": ("WindowMaterial:SimpleGlazingSystem",),
    "occupant_density": ("People",),
    "lighting_power_density": ("Lights",),
    "equipment_power_density": ("ElectricEquipment",),
    "heating_capacity": HEATING_COILS,
    "air_system_size": ("AirLoopHVAC",),
    "vav_minimum_flow": ("AirTerminal:SingleDuct:VAV:Reheat",),
}
"""What a parameter edits: a model with none of these types does not have it. (Insulation is found by `insulation`.)"""

OUTDOOR_AIR = "outdoor_air_flow"


def driven(series: pd.DataFrame, building: Building) -> pd.DataFrame:
    """Return the values of the model's driven schedules, a column each, from a frame of settings and occupancy.

    A schedule that follows `outdoor_air_flow` is the damper's: that flow over its upper bound, the controllers' minimum flow,
    while the system is on.
    """
    scale = {}
    if OUTDOOR_AIR in building.settings:
        scale[OUTDOOR_AIR] = series["system_on"] * series[OUTDOOR_AIR] / building.settings[OUTDOOR_AIR].high
    columns = {}
    for name, f in building.facts.schedules.items():
        columns[name] = f.at_zero + (f.at_one - f.at_zero) * scale.get(f.input, series[f.input])
    return pd.DataFrame(columns, index=series.index)


def prepare(epjson: Epjson, building: Building) -> None:
    """Make the changes every run shares: damper scale, constant ground and mains, CO2 balance."""
    area = {z.model_name.lower(): z.floor_area * z.multiplier for z in building.zones}
    for loop in air_loops(epjson):
        # In the order of the building's zones: a sum of the same numbers in another order is another number.
        floor_area = sum(a for zone, a in area.items() if zone in loop.zones)
        for name in loop.controllers if OUTDOOR_AIR in building.settings else ():
            o = find(epjson, "Controller:OutdoorAir", name)
            o["minimum_outdoor_air_flow_rate"] = building.settings[OUTDOOR_AIR].high / 3600 * floor_area
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
