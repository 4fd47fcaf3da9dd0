"""What is in a model that somebody brings: its version, its plant, its zones, its thermostats, and what its schedules say.

Reads only. What setwise cannot handle is refused here, by the object's type and name; the engine itself says what the zones
measure and what every schedule is worth at every hour, so that no rule of its input language is written twice.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Zone
from building.errors import BadEpjsonError
from building.timeline import DAY_TYPES, day_type_of
from simulation.engine import run_engine
from simulation.epjson import Epjson, sizing_report, stripped
from simulation.epw import find_weather
from simulation.knobs import zones_of
from simulation.outputs import read_eso

Array = NDArray[np.float64]

PLANT = (
    "AirLoopHVAC", "AirTerminal:", "AirConditioner:", "AirflowNetwork:", "Boiler:", "Chiller:", "Coil:", "CoilSystem:",
    "CoolingTower:", "Dehumidifier:", "DistrictCooling", "DistrictHeating", "EvaporativeCooler:", "Fan:", "HeatExchanger:",
    "HeatPump:", "Humidifier:", "HVACTemplate:", "ThermalStorage:", "UnitarySystem", "ZoneControl:Humidistat", "ZoneHVAC:",
)  # fmt: skip
"""Beginnings of the object types that heat, cool and move air."""

KNOWN_PLANT = frozenset((
    "AirLoopHVAC", "AirLoopHVAC:ControllerList", "AirLoopHVAC:OutdoorAirSystem", "AirLoopHVAC:OutdoorAirSystem:EquipmentList",
    "AirLoopHVAC:ReturnPath", "AirLoopHVAC:ReturnPlenum", "AirLoopHVAC:SupplyPath", "AirLoopHVAC:SupplyPlenum",
    "AirLoopHVAC:UnitaryHeatCool", "AirLoopHVAC:ZoneMixer", "AirLoopHVAC:ZoneSplitter",
    "AirTerminal:SingleDuct:ConstantVolume:NoReheat", "AirTerminal:SingleDuct:VAV:Reheat",
    "Coil:Cooling:DX:SingleSpeed", "Coil:Cooling:DX:TwoSpeed", "Coil:Heating:Electric", "Coil:Heating:Fuel",
    "CoilSystem:Cooling:DX", "Fan:ConstantVolume", "Fan:OnOff", "Fan:SystemModel", "Fan:VariableVolume", "Fan:ZoneExhaust",
    "ZoneHVAC:AirDistributionUnit", "ZoneHVAC:EquipmentConnections", "ZoneHVAC:EquipmentList", "ZoneHVAC:UnitHeater",
))  # fmt: skip
"""Those of them that the knob table and the outputs understand."""

WHY = {
    "Boiler:": "heat that comes from a hot-water plant has no place in the outputs yet (its gas, its pumps).",
    "Chiller:": "cold that comes from a chilled-water plant has no place in the outputs yet.",
    "Coil:Heating:Water": "its heat comes from a hot-water plant, whose gas and pumps have no place in the outputs yet.",
    "Coil:Cooling:Water": "its cold comes from a chilled-water plant, which has no place in the outputs yet.",
    "ZoneHVAC:IdealLoadsAirSystem": "ideal loads have no fans, coils or efficiency to plan with: model the real plant.",
    "HVACTemplate:": "a template must be expanded first ('energyplus --expandobjects'); then adopt the expanded file.",
    "AirflowNetwork:": "leakage is then not in ZoneInfiltration objects, which the knob 'infiltration' moves.",
}
"""What to say of some of the others, by the beginning of their type."""


@dataclass(frozen=True)
class Profile:
    """A schedule by day type and hour.

    Attributes:
        values: shape (3, 24); the median over the year of each hour, local time.
        is_seasonal: some week of the year departs from it.
    """

    values: Array
    is_seasonal: bool

    @property
    def varies(self) -> bool:
        """Say whether it knows more than one value."""
        return self.is_seasonal or bool(np.ptp(self.values) > 1e-6)


@dataclass(frozen=True)
class Thermostat:
    """A dual setpoint: the object that names both schedules, and the zones it controls (names in the model, lower case)."""

    name: str
    heating: str
    cooling: str
    zones: tuple[str, ...]


def refuse(file: Path | str, object_type: str, name: str, reason: str, hint: str = "") -> BadEpjsonError:
    """Return the error that names the object."""
    return BadEpjsonError(file=file, object_type=object_type, object_name=name, reason=reason, hint=hint)


def engine_version() -> str:
    """Return the version of EnergyPlus in the wheel, as its own models state it."""
    from pyenergyplus.dataset import ref_models

    return _stated_version(Path(ref_models["small_office"]).read_text(encoding="utf-8", errors="replace"))


def check_version(file: Path) -> None:
    """Refuse a model of another version before the engine half understands it: it only warns, and takes fields for others.

    Raises:
        BadEpjsonError: another version, or none stated.
    """
    wanted, found = engine_version(), _stated_version(file.read_text(encoding="utf-8", errors="replace"))
    if found.split(".")[:2] == wanted.split(".")[:2]:
        return
    raise refuse(
        file,
        "Version",
        found or "not stated",
        f"this setwise simulates with EnergyPlus {wanted}.",
        f" Bring it to {wanted} with IDFVersionUpdater, which comes with the EnergyPlus {wanted} of energyplus.net (the wheel"
        " holds no such tool), look it over there, and adopt the result.",
    )


def _stated_version(text: str) -> str:
    as_idf = re.search(r"^\s*Version\s*,\s*([\d.]+)", re.sub(r"!.*", "", text), re.IGNORECASE | re.MULTILINE)
    as_json = re.search(r'"version_identifier"\s*:\s*"?([\d.]+)', text)
    found = as_json or as_idf
    return found[1] if found else ""


def check_plant(epjson: Epjson, file: Path) -> None:
    """Refuse what heats, cools or moves air by an object that no knob and no output knows.

    Raises:
        BadEpjsonError: naming the first such object, and how many there are.
    """
    for object_type, objects in epjson.items():
        if object_type in KNOWN_PLANT or not object_type.startswith(PLANT) or not objects:
            continue
        why = next(
            (w for begin, w in WHY.items() if object_type.startswith(begin)), "setwise has no knob and no output for it yet."
        )
        hint = f" There are {len(objects)} of this type. What setwise knows: docs/bring-your-own.md."
        raise refuse(file, object_type, next(iter(objects)), why, hint)
    if not epjson.get("AirLoopHVAC"):
        raise refuse(
            file, "AirLoopHVAC", "none", "the model has no air loop: there are no fans to start and stop, and no air to set."
        )


def thermostats(epjson: Epjson, file: Path) -> list[Thermostat]:
    """Return the dual setpoints of the model.

    Raises:
        BadEpjsonError: no thermostat, or one without a heating and a cooling setpoint.
    """
    controls = epjson.get("ZoneControl:Thermostat", {})
    if not controls:
        reason = "no zone has a thermostat, so there is no setpoint to plan."
        raise refuse(file, "ZoneControl:Thermostat", "none", reason, " Give each conditioned zone one with a dual setpoint.")
    zones: dict[str, list[str]] = {}
    for name, o in controls.items():
        pairs = [(o.get(f"control_{i}_object_type"), o.get(f"control_{i}_name")) for i in range(1, 5)]
        given = [(kind, str(n)) for kind, n in pairs if kind]
        dual = [n for kind, n in given if kind == "ThermostatSetpoint:DualSetpoint"]
        if not dual:
            kind, other = given[0] if given else ("ThermostatSetpoint", "none")
            lacks = (
                "a cooling"
                if str(kind).endswith("SingleHeating")
                else "a heating"
                if str(kind).endswith("SingleCooling")
                else "its own"
            )
            hint = " Give it a ThermostatSetpoint:DualSetpoint (one that never heats: 5 degC; one that never cools: 50 degC)."
            raise refuse(
                file, "ZoneControl:Thermostat", name, f"'{other}' ({kind}) has not {lacks} setpoint beside the other.", hint
            )
        zones.setdefault(dual[0].lower(), []).extend(zones_of(epjson, str(o["zone_or_zonelist_name"])))
    duals = {n.lower(): (n, o) for n, o in epjson.get("ThermostatSetpoint:DualSetpoint", {}).items()}
    found = []
    for key, served in zones.items():
        if key not in duals:
            raise refuse(file, "ThermostatSetpoint:DualSetpoint", key, "a thermostat names it, but it is not defined.")
        name, o = duals[key]
        schedules = [o.get(f"{way}_setpoint_temperature_schedule_name", "") for way in ("heating", "cooling")]
        if not all(schedules):
            raise refuse(file, "ThermostatSetpoint:DualSetpoint", name, "it lacks the schedule of a setpoint; it needs both.")
        found.append(Thermostat(name, schedules[0], schedules[1], tuple(served)))
    return found


def zones(epjson: Epjson, weather: str, conditioned: list[str]) -> list[Zone]:
    """Return the conditioned zones as the engine measures them, with names that topics and columns can carry.

    Args:
        epjson: the model.
        weather: the weather file, which sizes it.
        conditioned: their names in the model, lower case.

    Raises:
        FailedRunError: the engine could not size the model; its own words say why.
    """
    rows = [[p.strip() for p in line.split(",")] for line in sizing_report(epjson, find_weather(weather))]
    head = next(r for r in rows if r[0].startswith("! <Zone Information>"))
    at = {re.sub(r"\s*\{.*\}", "", column): i for i, column in enumerate(head)}
    measured = {r[1].upper(): r for r in rows if r[0] == "Zone Information"}
    taken: dict[str, str] = {}
    found = []
    for own in epjson["Zone"]:
        if own.lower() not in conditioned:
            continue
        row = measured[own.upper()]
        name = unique(identifier(own), taken)
        taken[name] = own
        found.append(
            Zone(
                name=name,
                floor_area=float(row[at["Floor Area"]]),
                volume=float(row[at["Volume"]]),
                multiplier=float(row[at["Zone Multiplier"]]) * float(row[at["Zone List Multiplier"]]),
                in_model=None if own.lower() == name else own,
            )
        )
    return found


def identifier(text: str) -> str:
    """Return text as a name of the kind variables have: a-z, 0-9 and underscores, a letter first."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss")).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    return name if name[:1].isalpha() else f"zone_{name}".rstrip("_")


def unique(name: str, taken: Mapping[str, Any]) -> str:
    """Return `name`, with a number behind it when it is taken."""
    names = [name, *(f"{name}_{i}" for i in range(2, 1000))]
    return next(n for n in names if n not in taken)


def week_profiles(epjson: Epjson, weather: str) -> dict[str, Profile]:
    """Return what every schedule is worth, by lower-case name: the engine runs a year of nothing but schedules.

    Raises:
        FailedRunError: a schedule the engine does not understand.
    """
    no_sizing = {f"do_{kind}_sizing_calculation": "No" for kind in ("zone", "system", "plant")}
    alone: Epjson = {t: o for t, o in stripped(epjson).items() if t.startswith(("Schedule", "Version", "OutputControl:Files"))}
    alone |= {
        "Building": {"schedules": {}},
        "GlobalGeometryRules": {
            "rules": {
                "coordinate_system": "Relative",
                "starting_vertex_position": "UpperLeftCorner",
                "vertex_entry_direction": "Counterclockwise",
            }
        },
        "SimulationControl": {
            "one": {
                **no_sizing,
                "run_simulation_for_sizing_periods": "No",
                "run_simulation_for_weather_file_run_periods": "Yes",
            }
        },
        "Timestep": {"one": {"number_of_timesteps_per_hour": 4}},
        "RunPeriod": {
            "one": {
                "begin_year": 2017, "begin_month": 1, "begin_day_of_month": 1, "end_year": 2017, "end_month": 12,
                "end_day_of_month": 31, "use_weather_file_holidays_and_special_days": "No",
                "use_weather_file_daylight_saving_period": "No", "apply_weekend_holiday_rule": "No",
            }
        },
        "Output:Variable": {
            "one": {"key_value": "*", "variable_name": "Schedule Value", "reporting_frequency": "Hourly"}
        },
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.epJSON"
        path.write_text(json.dumps(alone), encoding="utf-8")
        run_engine(["-w", str(find_weather(weather)), "-d", folder, str(path)], Path(folder), timeout_s=300)
        series = read_eso(Path(folder) / "eplusout.eso")
    index = pd.date_range("2017-01-01", periods=8760, freq="60min")
    day = day_type_of(index)
    found = {}
    for (key, variable), values in series.items():
        if variable != "Schedule Value":
            continue
        by_hour = np.array(
            [[np.median(values[(day == d) & (index.hour == h)]) for h in range(24)] for d in range(len(DAY_TYPES))]
        )
        gap = np.abs(values - by_hour[day, index.hour])
        found[key.lower()] = Profile(by_hour, bool(gap.max() > 1e-3))
    return found
