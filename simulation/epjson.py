"""EnergyPlus models as plain dicts: load, strip, check, size hard.

The engine ignores misspelt fields and dies of a dangling schedule name, so `check_epjson` finds both before it sees the model.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from building.errors import BadEpjsonError, FailedRunError, did_you_mean
from simulation.engine import run_engine
from simulation.epw import design_days, find_weather, read_epw

Epjson = dict[str, dict[str, dict[str, Any]]]

CACHE = Path(os.environ.get("SETWISE_CACHE", Path.home() / ".cache" / "setwise"))

# What the engine writes besides the ESO file costs time and disk, and nobody reads it.
ALL_FILES = (
    "csv", "mtr", "eso", "eio", "tabular", "sqlite", "json", "audit", "space_sizing", "zone_sizing", "system_sizing", "dxf",
    "bnd", "rdd", "mdd", "mtd", "end", "shd", "dfs", "glhe", "delightin", "delighteldmp", "delightdfdmp", "edd", "dbg", "perflog",
    "sln", "sci", "wrl", "screen", "extshd", "tarcog",
)  # fmt: skip
DROPPED = ("UtilityCost:", "EnvironmentalImpactFactors", "FuelFactors", "RunPeriodControl:", "OutputControl:Table")

# The words of the sizing report, in lower case with underscores, are the field's name; but for these.
SIZED_FIELDS = {
    ("Pump:VariableSpeed", "design_flow_rate"): "design_maximum_flow_rate",
    ("AirLoopHVAC:UnitaryHeatCool", "supply_air_flow_rate_during_cooling_operation"): "cooling_supply_air_flow_rate",
    ("AirLoopHVAC:UnitaryHeatCool", "supply_air_flow_rate_during_heating_operation"): "heating_supply_air_flow_rate",
    ("AirLoopHVAC:UnitaryHeatCool", "supply_air_flow_rate_when_no_cooling_or_heating_is_needed"): "no_load_supply_air_flow_rate",
    (
        "AirLoopHVAC:UnitaryHeatCool",
        "maximum_supply_air_temperature_from_supplemental_heater",
    ): "maximum_supply_air_temperature",
}
NO_SIZE = 1e-6  # equipment of a zone without a load is sized to 0, which the engine takes from itself but not from us
UNSIZED = {  # fields the sizing report leaves out and the run does not need
    ("AirTerminal:SingleDuct:VAV:Reheat", "maximum_hot_water_or_steam_flow_rate"): 0.0,
    ("ZoneHVAC:UnitHeater", "maximum_hot_water_or_steam_flow_rate"): NO_SIZE,
    ("WaterHeater:Mixed", "source_side_design_flow_rate"): 0.0,
}


def load_epjson(model: str) -> Epjson:
    """Read a reference model of the wheel by name, or an IDF or epJSON by path; a fresh dict each time.

    Raises:
        BadEpjsonError: no such model, or a file that is not one.
    """
    path = Path(model)
    return copy.deepcopy(_load(model, path.stat().st_mtime_ns if path.is_file() else 0))


@lru_cache(maxsize=4)
def _load(model: str, _changed_ns: int) -> Epjson:
    path = Path(model)
    if path.suffix.lower() not in (".idf", ".epjson", ".json"):
        from pyenergyplus.dataset import ref_models

        if model not in ref_models:
            raise BadEpjsonError(
                file=model,
                object_type="model",
                object_name=model,
                reason="not in the wheel.",
                hint=did_you_mean(model, ref_models),
            )
        path = Path(ref_models[model])
    if not path.exists():
        raise BadEpjsonError(file=path, object_type="file", object_name=path.name, reason="there is no such file.", hint="")
    if path.suffix.lower() == ".idf":
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "model.idf"
            copied.write_text(_decoded(path.read_bytes()), encoding="utf-8")  # the engine copies bytes, and JSON is UTF-8
            words = run_engine(["--convert-only", "-c", "-d", folder, str(copied)], Path(folder), timeout_s=120)
            converted = copied.with_suffix(".epJSON")
            if not converted.exists():
                reason = f"the engine could not convert it. It said: {words or 'nothing'}"
                raise BadEpjsonError(file=path, object_type="file", object_name=path.name, reason=reason, hint="")
            text = converted.read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    try:
        loaded: Epjson = json.loads(text)
    except json.JSONDecodeError as e:
        raise BadEpjsonError(file=path, object_type="file", object_name=path.name, reason=f"not valid JSON: {e}", hint="") from e
    return loaded


def _decoded(data: bytes) -> str:
    """Return the text of an IDF, which states no encoding: UTF-8, else that of old Windows editors."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def stripped(epjson: Epjson, *, eio: bool = False) -> Epjson:
    """Return the model without outputs, tariffs, holidays and daylight saving; files off but ESO (or EIO)."""
    out = {
        t: copy.deepcopy(objects)
        for t, objects in epjson.items()
        if not t.startswith(DROPPED) and not (t.startswith("Output") and t != "OutputControl:ReportingTolerances")
    }
    wanted = {"end", "eio" if eio else "eso"}
    out["OutputControl:Files"] = {"files": {f"output_{f}": "Yes" if f in wanted else "No" for f in ALL_FILES}}
    return out


def check_epjson(epjson: Epjson, file: str) -> None:
    """Find what the engine would ignore or crash on.

    Raises:
        BadEpjsonError: an unknown object type or field (with a did-you-mean), or a name of a schedule, zone, construction or
            curve that is not defined.
    """
    known = _known_fields()
    defined = {
        "schedule": {n.lower() for t in epjson if t.startswith("Schedule:") for n in epjson[t]},
        "construction": {n.lower() for t in epjson if t.startswith("Construction") for n in epjson[t]},
        "curve": {n.lower() for t in epjson if t.startswith(("Curve:", "Table:")) for n in epjson[t]},
        "zone": {n.lower() for t in ("Zone", "ZoneList", "Space", "SpaceList") for n in epjson.get(t, {})},
    }
    endings = {"schedule": "schedule_name", "construction": "construction_name", "curve": "curve_name", "zone": "zone_name"}
    for object_type, objects in epjson.items():
        if object_type not in known:
            hint = did_you_mean(object_type, known)
            raise BadEpjsonError(file=file, object_type=object_type, object_name="", reason="unknown object type.", hint=hint)
        for name, fields in objects.items():
            for field, value in fields.items():
                if field not in known[object_type]:
                    hint = did_you_mean(field, known[object_type])
                    reason = f"unknown field '{field}', which the engine would silently ignore."
                    raise BadEpjsonError(file=file, object_type=object_type, object_name=name, reason=reason, hint=hint)
                for kind, ending in endings.items():
                    is_reference = field.endswith(ending) or (kind == "zone" and field.startswith("zone_or_zonelist"))
                    if is_reference and isinstance(value, str) and value and value.lower() not in defined[kind]:
                        hint = did_you_mean(value.lower(), defined[kind])
                        reason = f"'{field}' names the {kind} '{value}', which is not defined."
                        raise BadEpjsonError(file=file, object_type=object_type, object_name=name, reason=reason, hint=hint)


@lru_cache(maxsize=1)
def _known_fields() -> dict[str, set[str]]:
    from pyenergyplus.model import EnergyPlusModel

    known = {}
    for name, info in EnergyPlusModel.model_fields.items():
        for inner in getattr(info.annotation, "__args__", ()):
            for candidate in (inner, *getattr(inner, "__args__", ())):
                if hasattr(candidate, "model_fields"):
                    known[info.alias or name] = {f.alias or n for n, f in candidate.model_fields.items()}
    return known


def hard_sized(model: str, weather: str) -> Epjson:
    """Return the model sized once for a climate: every autosized field a number, sizing objects and design days gone.

    Sized with the default building on the design days of the weather file's header, so that capacities are true knobs
    afterwards. Cached on disk, keyed by the contents of both files and of this module.

    Raises:
        BadEpjsonError, BadWeatherFileError: bad inputs.
        FailedRunError: the sizing run failed, or left a field unsized.
    """
    epw = find_weather(weather)
    base = load_epjson(model)
    key = hashlib.sha256(json.dumps(base, sort_keys=True).encode() + epw.read_bytes() + Path(__file__).read_bytes()).hexdigest()[
        :16
    ]
    cached = CACHE / "sized" / f"{Path(model).stem}-{epw.stem}-{key}.epJSON"
    if cached.exists():
        sized: Epjson = json.loads(cached.read_text(encoding="utf-8"))
        return sized
    check_epjson(base, model)
    sized = _size(base, epw)
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(sized), encoding="utf-8")
    partial.replace(cached)
    return sized


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def sizing_report(base: Epjson, epw: Path) -> list[str]:
    """Return the lines of the engine's report of a sizing run: component sizes, zones, surfaces.

    Raises:
        FailedRunError: the run failed, or wrote no report.
    """
    epjson = stripped(base, eio=True)
    epjson["SizingPeriod:DesignDay"] = design_days(read_epw(epw))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.epJSON"
        path.write_text(json.dumps(epjson), encoding="utf-8")
        words = run_engine(["-w", str(epw), "-d", folder, str(path)], Path(folder), timeout_s=120)
        eio = Path(folder) / "eplusout.eio"
        if not eio.exists():
            raise FailedRunError(reason="the sizing run wrote no report", engine=words)
        return eio.read_text(encoding="utf-8", errors="replace").splitlines()


def _size(base: Epjson, epw: Path) -> Epjson:
    lines = sizing_report(base, epw)
    found: dict[tuple[str, str, str], float] = {}
    for line in lines:
        parts = [p.strip() for p in line.split(",")]
        if parts[0] == "Component Sizing Information" and len(parts) >= 5 and _is_number(parts[4]):
            words = re.sub(r"\s*\[.*\]", "", parts[3]).removeprefix("Design Size ").lower().replace(" ", "_")
            size = float(parts[4])
            if size == 0 and parts[1].startswith(("ZoneHVAC:", "Coil:", "Fan:")):
                size = NO_SIZE
            found[(parts[1], parts[2].lower(), SIZED_FIELDS.get((parts[1], words), words))] = size
    sized = stripped(base)
    for object_type, objects in sized.items():
        if object_type.startswith("Sizing:"):
            continue
        for name, fields in objects.items():
            for field, value in fields.items():
                if isinstance(value, str) and value.lower() in ("autosize", "autocalculate"):
                    key = (object_type, name.lower(), field)
                    if key in found:
                        fields[field] = found[key]
                    elif (object_type, field) in UNSIZED:
                        fields[field] = UNSIZED[(object_type, field)]
                    elif value.lower() == "autosize":
                        reason = f"no size found for {object_type} '{name}' {field}; give it a number in the model"
                        raise FailedRunError(reason=reason, engine="nothing of it in its sizing report")
    for object_type in [t for t in sized if t.startswith(("Sizing:", "SizingPeriod:", "DesignSpecification:OutdoorAir"))]:
        del sized[object_type]
    control = next(iter(sized["SimulationControl"].values()))
    for kind in ("zone", "system", "plant"):
        control[f"do_{kind}_sizing_calculation"] = "No"
    control["run_simulation_for_sizing_periods"] = "No"
    control["run_simulation_for_weather_file_run_periods"] = "Yes"
    return sized
