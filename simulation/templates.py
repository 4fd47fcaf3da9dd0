"""The three files of an adopted building, as text: laid out as those of `buildings/medium_office`, with a line on every table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from building.description import Follows
from building.timeline import DAY_TYPES

Array = NDArray[np.float64]

WEATHER = """[weather]
outdoor_air_temperature = { quantity = "temperature", low = -35, high = 50, meaning = "dry bulb, site" }
outdoor_air_humidity_ratio = { quantity = "humidity_ratio", low = 0, high = 0.030, meaning = "water vapour per dry air, site" }
outdoor_air_pressure = { quantity = "pressure", low = 75000, high = 105000, meaning = "station pressure; carries the altitude" }
wind_speed = { quantity = "wind_speed", low = 0, high = 25, meaning = "site, 10 m" }
direct_normal_irradiance = { quantity = "irradiance", low = 0, high = 1150, meaning = "beam, normal to the sun" }
diffuse_horizontal_irradiance = { quantity = "irradiance", low = 0, high = 700, meaning = "sky, on the horizontal" }
""" + "".join(
    f'{side}_beam_irradiance = {{ quantity = "irradiance", low = 0, high = 1150, meaning = "beam on {what}; follows from place '
    'and time" }\n'
    for side, what in (
        ("north", "the north facade"), ("east", "the east facade"), ("south", "the south facade"), ("west", "the west facade"),
        ("roof", "the roof"),
    )
)  # fmt: skip

OCCUPANCY = {
    "occupancy_share": "people present, of the design number",
    "lighting_share": "lights on, of the installed power",
    "plug_share": "equipment on, of the installed power",
}
PARAMETERS = {
    "infiltration": ("factor", "leakage, times that of the model"),
    "internal_mass": ("factor", "furniture and partitions, times the area in the model"),
    "wall_insulation": ("factor", "resistance of the wall insulation, times that of the model"),
    "roof_insulation": ("factor", "resistance of the roof insulation, times that of the model"),
    "window_u_factor": ("transmittance", "glazing with frame, mean"),
    "window_shgc": ("share", "solar heat gain coefficient of the glazing"),
    "occupant_density": ("density_of_people", "people per floor area at full occupancy, mean of the zones that have any"),
    "lighting_power_density": ("power_density", "installed lights per floor area, mean of the zones that have any"),
    "equipment_power_density": ("power_density", "installed plug loads per floor area, mean of the zones that have any"),
    "heating_capacity": ("power_density", "installed heating coils, per conditioned floor area"),
    "air_system_size": ("flow_per_area", "design supply air, per conditioned floor area; the cooling coils grow with it"),
    "vav_minimum_flow": ("share", "least flow of a VAV box, of its greatest"),
}
SETTINGS = {
    "heating_setpoint": ("temperature", "the zones of the driven thermostats"),
    "cooling_setpoint": ("temperature", "the zones of the driven thermostats"),
    "system_on": ("share", "fans available, share of the step; off leaves night cycling"),
    "outdoor_air_flow": ("flow_per_area", "least outdoor air while on, per conditioned floor area"),
    "supply_air_temperature": ("temperature", "setpoint at the end of the air loops"),
}
OUTPUTS = {
    "mean_humidity_ratio": ("humidity_ratio", 0.040, "zone air, weighted by floor area"),
    "gas_coil_heat": ("power", None, "heat given by the gas coils"),
    "electric_reheat_heat": (
        "power",
        None,
        "heat given by electric coils, of the air loops and of the zones; also their electricity",
    ),
    "coil_cooling": ("power", None, "total cooling given by the DX coils"),
    "cooling_electricity": ("power", None, "compressors and condenser fans at the reference COP"),
    "fan_electricity": ("power", None, "fans at the reference pressure"),
    "facility_electricity": ("power", None, "everything electric, at reference COP and pressure"),
    "hot_water_gas": ("power", None, "gas of the hot water heater"),
}
GREATEST_W_PER_M2 = 1000
"""No output of power exceeds this per conditioned floor area."""


def building_text(f: Mapping[str, Any]) -> str:
    """Return building.toml from the facts that `adopt` gathered."""
    area = sum(z.floor_area * z.multiplier for z in f["zones"])
    site = f["site"]
    lines = [
        f"# Adopted from {f['model']} by setwise adopt. Every value is yours to correct; setwise audit shows what acts.",
        "# Inside units everywhere (docs/reference/nomenclature.md). Bounds of inputs are what campaigns and bundles cover.",
        "",
        f"name = {quoted(f['name'])}",
        f"title = {quoted(f['title'])}",
        'energyplus_model = "model.epJSON" # in this folder',
        'currency = "USD"',
        "zones = [",
        *(_zone(z) for z in f["zones"]),
        "]",
        "",
        "[site]",
        f"latitude = {site.latitude:g}",
        f"longitude = {site.longitude:g}",
        f"elevation = {site.elevation:g}",
        f"time_zone = {quoted(f['time_zone'])}",
        f"weather = {quoted(site.path.name)} # in this folder",
        "outdoor_co2 = 420",
        "",
        WEATHER,
        "[occupancy]",
        *(_declared(n, "share", 0, 1, OCCUPANCY[n]) for n in f["occupancy"]),
        "",
        "[parameters] # the model's own values are the defaults",
    ]
    for n, (low, high, default, scale) in f["parameters"].items():
        kind, meaning = PARAMETERS[n]
        how = f"{'scale = ' + quoted(scale) + ', ' if scale != 'linear' else ''}default = {default:g}, "
        lines.append(_declared(n, kind, low, high, meaning, how))
    lines += ["", "[settings] # what the BMS may be told"]
    for n, (low, high, ramp) in f["settings"].items():
        kind, meaning = SETTINGS[n]
        lines.append(_declared(n, kind, low, high, meaning, f"ramp = {ramp:g}, " if ramp else ""))
    crowd = max(1.0, f["parameters"].get("occupant_density", (0, 0.125, 0, ""))[1] / 0.125)  # times an office's densest
    lines += [
        "",
        "[zone_outputs]",
        _declared("air_temperature", "temperature", -30, 70, "mean air temperature"),
        _declared("co2", "co2", 300, float(f"{20000 * crowd:.2g}"), "CO2 concentration"),
        "",
        "[outputs]",
    ]
    for n in f["outputs"]:
        kind, high, meaning = OUTPUTS[n]
        lines.append(_declared(n, kind, 0, high or float(f"{GREATEST_W_PER_M2 * area:.2g}"), meaning))
    lines += [
        "",
        "[efficiency] # act after the predictor; the reference values are those of the simulated model",
        f"burner = {f['burner']:g}",
        f"cooling_cop = {f['cooling_cop']:g}",
        f"reference_cooling_cop = {f['cooling_cop']:g}",
        f"fan_pressure = {f['fan_pressure']:g}",
        f"reference_fan_pressure = {f['fan_pressure']:g}",
        "",
        "[carriers.electricity]",
        "price = 0.14",
        "emission = 0.37",
        'source = "EIA 2024 commercial average; EPA eGRID 2022 US average. Replace by your contract."',
        "[carriers.gas]",
        "price = 0.04",
        "emission = 0.18",
        'source = "EIA 2024 commercial average; 0.18 kg CO2 per kWh of natural gas (EPA). Replace by your contract."',
        "",
        "[schedules] # of model.epJSON: which input each follows, linear between the input's 0 and 1 where that is given",
        *(f"{quoted(n)} = {_follows(s)}" for n, s in f["schedules"].items()),
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return text as one TOML string."""
    return json.dumps(text, ensure_ascii=False)


def _zone(z: Any) -> str:
    more = f", multiplier = {z.multiplier:g}" if z.multiplier != 1 else ""
    more += f", in_model = {quoted(z.in_model)}" if z.in_model else ""
    return f"  {{ name = {quoted(z.name)}, floor_area = {z.floor_area:g}, volume = {z.volume:g}{more} }},"


def _declared(name: str, quantity: str, low: float, high: float, meaning: str, more: str = "") -> str:
    return f'{name} = {{ quantity = "{quantity}", low = {low:g}, high = {high:g}, {more}meaning = {quoted(meaning)} }}'


def _follows(f: Follows) -> str:
    ends = "" if (f.at_zero, f.at_one) == (0.0, 1.0) else f", at_zero = {f.at_zero:g}, at_one = {f.at_one:g}"
    return f"{{ input = {quoted(f.input)}{ends} }}"


def baseline_text(model: str, own: Mapping[str, Array]) -> str:
    """Return baseline.toml: a table per column, 24 hours per day type, shape (3, 24) each."""
    lines = [
        f"# The own schedule, read from the schedules of {model}: local wall-clock hours, the median over the year of each hour.",
        "# It is the baseline of every saving: write into it what the real building does.",
    ]
    for name, values in own.items():
        lines += ["", f"[{name}]"]
        for day, hours in zip(DAY_TYPES, values, strict=True):
            lines.append(f"{day} = [{', '.join(f'{x:.4g}' for x in hours)}]")
    return "\n".join(lines) + "\n"


def evaluation_text(f: Mapping[str, Any], own: Mapping[str, Array], climates: Sequence[str], apart: Sequence[str]) -> str:
    """Return evaluation.toml: ranges around the building's own schedule, wide enough to plan in."""
    heat, cool, on = (own[n] for n in ("heating_setpoint", "cooling_setpoint", "system_on"))
    low, high = f["settings"]["heating_setpoint"][:2]
    occupied = float(heat.max())
    hours = np.flatnonzero(on[0] > 0.5)
    start, stop = (float(hours[0]), float(hours[-1] + 1)) if 0 < len(hours) < 24 else (6.0, 22.0)
    runs = [float((on[d] > 0.5).any()) for d in (1, 2)]
    lines = [
        "# What campaigns and fresh runs are drawn from. Guessed by setwise adopt around the own schedule; widen it before the",
        "# first campaign rather than after: what a bundle has never seen, no plan may ask for.",
        "",
        "odd_share = 0.3334 # of the windows: every setting an odd hourly series instead of a schedule",
        f"held_out_climates = {json.dumps(list(apart))} # in no campaign",
        f"climates = {json.dumps(list(climates))} # the first lies in this folder",
        "",
        "[parameters] # inside the bounds of building.toml",
        *(f"{n} = [{p[0]:g}, {p[1]:g}]" for n, p in f["parameters"].items()),
        "",
        "[schedules]",
        _range("heating_setpoint", max(low + 1, occupied - 3), min(high - 0.5, occupied + 2.5), "occupied"),
        _range("deadband", 1, max(6, float((cool - heat).min()) + 2), "K, cooling setpoint above it"),
        _range("setback", 0, max(7, float(np.ptp(heat)) + 1), "K, heating setpoint lower while off"),
        _range("setup", 0, max(7, float(np.ptp(cool)) + 1), "K, cooling setpoint higher while off"),
        _range("start_hour", max(0, start - 2), min(12, start + 3), "in quarter hours"),
        _range("stop_hour", max(13, stop - 5), min(24, stop + 1.5), ""),
    ]
    if "outdoor_air_flow" in f["settings"]:
        lines.append(
            _range(
                "outdoor_air_flow",
                0.05 * f["settings"]["outdoor_air_flow"][1],
                f["settings"]["outdoor_air_flow"][1],
                "m3/h.m2 while on",
            )
        )
        lines.append(_range("outdoor_air_delay", 0, 2, "h after the start"))
    if "supply_air_temperature" in f["settings"]:
        low, high = f["settings"]["supply_air_temperature"][:2]
        lines.append(_range("supply_air_temperature", low, high, ""))
    lines += [
        f"saturday_share = {0.9 if runs[0] else 0.3} # of the schedules run on Saturday, sunday_share on Sunday",
        f"sunday_share = {0.9 if runs[1] else 0.15}",
        f"always_on_share = {0.08 if 0 < len(hours) < 24 else 0.3}",
        "",
        "[occupancy]",
        _range("level", 0.5, 1.0, "peak share of people; lights and plugs likewise"),
        _range("shift_hour", -2, 2, ""),
        _range("night", 0, _night(own), "share of lights and plugs left on"),
    ]
    people = own.get("occupancy_share", own["system_on"])
    here = np.flatnonzero(people[0] > 0.3 * max(people[0].max(), 1e-6))
    begin, end = (float(here[0]), float(here[-1] + 1)) if 0 < len(here) < 24 else (8.0, 18.0)
    lines.append(_range("day", begin, end, "hours a usual day begins and ends"))
    for d, day in ((1, "saturday"), (2, "sunday")):
        share = float(people[d].sum() / max(people[0].sum(), 1e-6))
        drawn = sorted({round(min(max(share * x, 0.0), 1.2), 2) for x in (0.6, 1.0, 1.2)} | ({0.0} if share < 0.5 else set()))
        lines.append(f"{day} = {drawn} # shares of a usual day, one drawn for the {day}s of a window")
    return "\n".join(lines) + "\n"


def _night(own: Mapping[str, Array]) -> float:
    """Return the share of plugs left on at night, at least an office's."""
    plugs = own.get("plug_share")
    return 0.4 if plugs is None else max(0.4, float(plugs.min()))


def _range(name: str, low: float, high: float, meaning: str) -> str:
    return f"{name} = [{low:.4g}, {high:.4g}]{f' # {meaning}' if meaning else ''}"
