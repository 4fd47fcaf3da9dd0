"""Bring your own building: an IDF or epJSON and an EPW become a folder that every other verb takes.

`adopt` reads the model, refuses what setwise cannot handle (naming the object), lets each setting and each occupancy share drive
the schedules that mean it, and writes

    model.epJSON      the model, with its traps taken out and the schedules it shares between roles parted
    <weather>.epw     a copy of the weather file
    building.toml     zones, variables, parameters with bounds around the model's own values, which schedule follows what
    baseline.toml     the building's own schedule, as the model's schedules say it
    evaluation.toml   what campaigns and fresh runs are drawn from

and says what it found, what it guessed, what it took out, what it left out, and what a person must confirm. `setwise audit`
then proves that each knob acts.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from building.description import Building, Follows, Site, Zone, load_building, parse_strict
from building.errors import AlreadyAdoptedError, BadDescriptionError
from building.plan import DEADBAND_K
from building.timeline import DAY_TYPES
from simulation import knobs
from simulation.airloops import AirLoop, air_loops, find, nodes
from simulation.audit import base_run
from simulation.energyplus import SPIN_UP_H, simulate
from simulation.epjson import Epjson, check_epjson, hard_sized, load_epjson
from simulation.epw import WeatherFile, read_epw
from simulation.place import guess_time_zone, similar_climates
from simulation.survey import (
    Array,
    Profile,
    Thermostat,
    check_plant,
    check_version,
    identifier,
    refuse,
    thermostats,
    unique,
    week_profiles,
    zones,
)
from simulation.templates import baseline_text, building_text, evaluation_text

Use = tuple[str, str, str]
"""One place of a schedule: object type, object name, field."""

OVERWRITERS = ("EnergyManagementSystem:", "PythonPlugin:", "ExternalInterface")
CALENDAR = {
    "RunPeriod": "runs are of our own dates, on the real calendar, in standard time, without holidays",
    "SizingPeriod:": "sized on the design days of your weather file instead",
}
"""Beginnings of the types that bend the calendar, and why they go."""

LEVELS = (
    "ElectricEquipment", "GasEquipment", "HotWaterEquipment", "SteamEquipment", "OtherEquipment", "WaterUse:Equipment",
    "Fan:ZoneExhaust", "ZoneVentilation:", "ZoneMixing", "ZoneCrossMixing", "Exterior:",
)  # fmt: skip
"""Users of a schedule for whom it is how much is going on: such a schedule may follow the people."""

OF_COMFORT = ("activity_level", "work_efficiency", "clothing", "air_velocity")
"""Beginnings of schedule fields that move nothing but reports of comfort, or hardly anything."""

SETPOINT_GAP_K = 0.5
"""A setpoint schedule that is a straight line of the main one to within this follows its setting."""


@dataclass(frozen=True)
class Note:
    """One thing to be told: what kind of thing (found, guessed, removed, left out, confirm), about what, and what."""

    kind: str
    about: str
    said: str


@dataclass(frozen=True)
class Adoption:
    """An adopted building and what is to be said of it."""

    building: Building
    notes: tuple[Note, ...]
    proof: dict[str, float]

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        count = {k.replace(" ", "_"): sum(n.kind == k for n in self.notes) for k in ("guessed", "confirm", "left out", "removed")}
        b = self.building
        return {
            "building": b.folder,
            "zones": len(b.zones),
            "floor_area_m2": b.floor_area,
            "settings": len(b.settings),
            "parameters": len(b.parameter_space),
            **count,
            **self.proof,
        }

    def tables(self) -> list[tuple[str, tuple[str, ...], Sequence[Sequence[object]]]]:
        """Return every note, in the order: found, removed, left out, guessed, confirm."""
        order = ("found", "removed", "left out", "guessed", "confirm")
        rows = sorted(((n.kind, n.about, n.said) for n in self.notes), key=lambda r: order.index(r[0]))
        return [("what_was_done", ("", "about", "what"), rows)]


@dataclass
class Draft:
    """A model while it is adopted."""

    epjson: Epjson
    zones: list[Zone]
    loops: list[AirLoop]
    profiles: dict[str, Profile]
    follows: dict[str, Follows] = field(default_factory=dict)
    own: dict[str, Array] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def note(self, kind: str, about: str, said: str) -> None:
        """Keep something to be told."""
        self.notes.append(Note(kind, about, said))

    def area_of(self, names: Iterable[str]) -> float:
        """Return the floor area of zones by their lower-case names in the model [m2]."""
        area = {z.model_name.lower(): z.floor_area * z.multiplier for z in self.zones}
        return sum(area.get(n, 0.0) for n in names)

    def profile(self, schedule: str) -> Profile:
        """Return what a schedule says."""
        return self.profiles[schedule.lower()]


def adopt(
    model: Path,
    weather: Path,
    folder: Path,
    time_zone: str | None = None,
    progress: Callable[..., None] = lambda *a: None,
) -> Adoption:
    """Turn a model and a weather file into the folder of a building.

    Args:
        model: IDF or epJSON of the engine's version.
        weather: EPW of the site, a whole year.
        folder: where the building goes; its last part becomes the building's name.
        time_zone: IANA name; guessed from the weather file's place without it.
        progress: called with (done, total, what) as the steps end.

    Raises:
        AlreadyAdoptedError: the folder holds a building.
        BadEpjsonError: the model is of another version, breaks off, names what is not defined, or holds what setwise cannot run.
        BadWeatherFileError: a bad weather file. FailedRunError: the engine refused the model; its own words are in it.
    """
    if (folder / "building.toml").exists():
        raise AlreadyAdoptedError(folder=folder)
    if folder.name != (name := identifier(folder.name)):
        reason = f"the folder is the building's name, in topics and columns: a-z, 0-9 and _ only. Call it '{name}'."
        raise BadDescriptionError(file=folder, reason=reason)
    steps = iter(range(1, 7))
    epw = read_epw(weather)
    place = {"latitude": epw.latitude, "longitude": epw.longitude, "weather": weather.name}
    parse_strict(Site, place | {"time_zone": time_zone or guess_time_zone(epw)}, "--time-zone")
    if not model.is_file():
        raise refuse(model, "file", model.name, "there is no such file.")
    check_version(model)
    epjson = load_epjson(str(model))
    check_plant(epjson, model)
    heads = thermostats(epjson, model)
    draft = Draft(epjson, [], [], {})
    _take_out_traps(draft, model.parent)
    check_epjson(epjson, str(model))
    progress(next(steps), 6, "read and checked")
    draft.zones = zones(epjson, str(weather), [z for t in heads for z in t.zones])
    _per_area(draft)
    for o in epjson.get("Site:GroundTemperature:BuildingSurface", {}).values():
        months = [v for v in o.values() if isinstance(v, int | float)]
        if months and max(months) > min(months):
            said = f"held at {sum(months) / len(months):.1f} degC all year (the model: {min(months):.1f} .. {max(months):.1f})"
            draft.note("guessed", "ground temperature", f"{said}; no input tells the month")
    draft.loops = air_loops(epjson)
    progress(next(steps), 6, "sized by the engine")
    draft.profiles = week_profiles(epjson, str(weather))
    progress(next(steps), 6, "schedules read")

    bounds = _setpoints(draft, heads)
    _system(draft)
    _loads(draft)
    _infiltration(draft)
    has_supply = _supply_air(draft)
    damper = _outdoor_air(draft)
    _the_rest(draft)
    progress(next(steps), 6, "schedules parted")

    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / "model.epJSON").write_text(json.dumps(epjson, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.copyfile(weather, partial / weather.name)
        sized = hard_sized(str(partial / "model.epJSON"), str(partial / weather.name))
        flow = _own_outdoor_air(draft, sized, damper)
        facts = _facts(draft, sized, name, model, epw, time_zone, bounds, has_supply, flow)
        (partial / "building.toml").write_text(building_text(facts), encoding="utf-8")
        columns = [*facts["settings"], *facts["occupancy"]]
        text = baseline_text(model.name, {c: draft.own[c] for c in columns})
        (partial / "baseline.toml").write_text(text, encoding="utf-8")
        similar, apart = similar_climates(epw)
        climates = [weather.name, *similar]
        (partial / "evaluation.toml").write_text(evaluation_text(facts, draft.own, climates, apart), encoding="utf-8")
        told = f"{', '.join(similar) or 'none'}; held out: {', '.join(apart) or 'none'}"
        draft.note("guessed", "climates", f"beside your weather file, those of the simulator whose year is alike: {told}")
        progress(next(steps), 6, "written")
        proof = _prove(draft, load_building(partial))
        progress(next(steps), 6, "a winter and a summer day simulated")
        folder.mkdir(parents=True, exist_ok=True)
        for file in partial.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Adoption(load_building(folder), tuple(draft.notes), proof)


# ------------------------------------------------------------------------------------------------------------------- traps


def _take_out_traps(draft: Draft, home: Path) -> None:
    """Take out what would overwrite a knob or bend the calendar, and put in what every run needs."""
    epjson = draft.epjson
    for object_type in [t for t in epjson if t.startswith(OVERWRITERS)]:
        names = ", ".join(list(epjson[object_type])[:4])
        said = f"{len(epjson[object_type])} ({names}): they would overwrite what the settings drive"
        draft.note("removed", object_type, said)
        if object_type.endswith(("Program", "Instance", "ExternalInterface")):
            draft.note("confirm", object_type, "the model ran with these; look whether the building is still itself without them")
        del epjson[object_type]
    for object_type in [t for t in epjson if t.startswith(tuple(CALENDAR))]:
        said = next(why for begin, why in CALENDAR.items() if object_type.startswith(begin))
        draft.note("removed", object_type, f"{len(epjson[object_type])}: {said}")
        del epjson[object_type]
    if "Controller:MechanicalVentilation" in epjson:
        draft.note("removed", "Controller:MechanicalVentilation", "outdoor air is a setting; demand control would overrule it")
    for o in epjson.get("Controller:OutdoorAir", {}).values():
        o.pop("mechanical_ventilation_controller_name", None)
        o.pop("minimum_fraction_of_outdoor_air_schedule_name", None)
        o["minimum_limit_type"] = "FixedMinimum"
    epjson.pop("Controller:MechanicalVentilation", None)
    for name, o in epjson.get("Schedule:File", {}).items():
        path = home / str(o["file_name"])
        if not path.is_file():
            raise refuse(path, "Schedule:File", name, "there is no such file; paths are taken from the folder of the model.")
        o["file_name"] = str(path.resolve())
        draft.note("confirm", "Schedule:File", f"'{name}' stays where it is: {path.resolve()}")
    if "SimulationControl" not in epjson:
        sizing = {f"do_{kind}_sizing_calculation": "Yes" for kind in ("zone", "system", "plant")}
        epjson["SimulationControl"] = {"SimulationControl 1": sizing | {"run_simulation_for_sizing_periods": "No"}}
    epjson.setdefault("Timestep", {"Timestep 1": {"number_of_timesteps_per_hour": 4}})


def _per_area(draft: Draft) -> None:
    """Say lights and people that are given as a number of one zone per floor area instead: the same, and a knob can move it."""
    methods = {"People": ("People", "number_of_people", "People/Area", "people_per_floor_area"),
               "Lights": ("LightingLevel", "lighting_level", "Watts/Area", "watts_per_floor_area")}  # fmt: skip
    areas = {z.model_name.lower(): z.floor_area for z in draft.zones}
    for kind, (old, old_field, new, new_field) in methods.items():
        for o in draft.epjson.get(kind, {}).values():
            area = areas.get(str(o[knobs.ZONE_FIELD]).lower())
            if o.get(knobs.METHOD_FIELD[kind]) == old and area is not None:
                o[knobs.METHOD_FIELD[kind]] = new
                o[new_field] = o.pop(old_field) / area


# --------------------------------------------------------------------------------------------------------------- schedules


def uses(epjson: Epjson, schedule: str) -> list[Use]:
    """Return every place that names a schedule."""
    wanted = schedule.lower()
    return [
        (t, name, f)
        for t, objects in epjson.items()
        if not t.startswith("Schedule:Day:")
        for name, o in objects.items()
        for f, v in o.items()
        if "schedule" in f
        and f.endswith("name")
        and f != "schedule_type_limits_name"
        and isinstance(v, str)
        and v.lower() == wanted
    ]


def _schedule_of(epjson: Epjson, schedule: str) -> tuple[str, str]:
    """Return object type and exact name of a schedule."""
    return next(
        (t, n)
        for t in epjson
        if t.startswith("Schedule:") and not t.startswith(("Schedule:Day", "Schedule:Week"))
        for n in epjson[t]
        if n.lower() == schedule.lower()
    )


def _drive(draft: Draft, schedule: str, places: Sequence[Use], follows: Follows) -> str:
    """Let a schedule follow an input where `places` name it; a copy, when somebody else names it too. Return its name."""
    kind, name = _schedule_of(draft.epjson, schedule)
    if set(uses(draft.epjson, name)) - set(places) or draft.follows.get(name, follows) != follows:
        every = {n for t in draft.epjson if t.startswith("Schedule:") for n in draft.epjson[t]}
        copied = unique(f"{name} for {follows.input}", dict.fromkeys(every))
        draft.epjson[kind][copied] = dict(draft.epjson[kind][name])
        draft.profiles[copied.lower()] = draft.profile(name)
        for object_type, owner, place in places:
            draft.epjson[object_type][owner][place] = copied
        name = copied
    draft.follows[name] = follows
    return name


def _constant(draft: Draft, name: str, value: float) -> str:
    draft.epjson.setdefault("Schedule:Constant", {})[name] = {"hourly_value": value}
    draft.profiles[name.lower()] = Profile(np.full((len(DAY_TYPES), 24), value), False)
    return name


def _setpoints(draft: Draft, heads: list[Thermostat]) -> dict[str, tuple[float, float]]:
    """Drive the setpoints of the greatest part of the building, and those that are a straight line of them.

    Returns:
        Bounds of both settings [degC].
    """
    named: dict[str, Callable[[Thermostat], str]] = {
        "heating_setpoint": lambda t: t.heating,
        "cooling_setpoint": lambda t: t.cooling,
    }
    bounds: dict[str, tuple[float, float]] = {}
    lines: dict[str, dict[str, Follows]] = {}
    for setting, of in named.items():
        area: dict[str, float] = {}
        for t in heads:
            area[of(t).lower()] = area.get(of(t).lower(), 0.0) + draft.area_of(t.zones)
        main = max(area, key=lambda s: area[s])
        base = draft.profile(main)
        draft.own[setting] = base.values
        low, high = float(base.values.min()), float(base.values.max())
        usual, more = ((14.0, 24.0), 2) if setting == "heating_setpoint" else ((21.0, 32.0), 1)
        bounds[setting] = (min(usual[0], math.floor(low - 1)), max(usual[1], math.ceil(high + more)))
        likely = {s: _setpoint_line(draft.profile(s), base, setting) for s in area if s != main}
        lines[setting] = {main: Follows(input=setting)} | {s: f for s, f in likely.items() if f is not None}
        if base.is_seasonal:
            draft.note("guessed", setting, f"'{main}' changes over the year; the own schedule holds its median hours")
    places: dict[tuple[str, str], list[Use]] = {}
    for t in heads:
        heat, cool = (_ends(lines[s].get(of(t).lower()), draft.profile(of(t))) for s, of in named.items())
        may_cross = _may_cross(heat, cool, bounds["heating_setpoint"], bounds["cooling_setpoint"])
        for setting, of in named.items():
            if not may_cross and of(t).lower() in lines[setting]:
                use = ("ThermostatSetpoint:DualSetpoint", t.name, f"{setting}_temperature_schedule_name")
                places.setdefault((setting, of(t).lower()), []).append(use)
            else:
                why = "could cross its partner" if may_cross else "is another schedule"
                draft.note("left out", setting, f"{t.name} ({', '.join(t.zones[:3])}) keeps its own: '{of(t)}' {why}")
    for (setting, schedule), where in places.items():
        follows = lines[setting][schedule]
        _drive(draft, schedule, where, follows)
        if follows != Follows(input=setting):
            slope = follows.at_one - follows.at_zero
            draft.note("guessed", setting, f"'{schedule}' follows it: {follows.at_zero:.2f} degC + {slope:.2f} of it")
    for setting in named:
        n = sum(len(where) for (s, _), where in places.items() if s == setting)
        draft.note("found", setting, f"{n} of {len(heads)} thermostats, own schedule {_span(draft.own[setting], 'degC')}")
    return bounds


def _setpoint_line(own: Profile, base: Profile, setting: str) -> Follows | None:
    """Return the straight line of the setting that a setpoint schedule is to within `SETPOINT_GAP_K`; None when it is none."""
    if not own.varies:
        return None
    spread = float(((base.values - base.values.mean()) ** 2).mean())
    together = float(((base.values - base.values.mean()) * (own.values - own.values.mean())).mean())
    slope = round(together / spread, 2) if spread > 1e-9 else 1.0
    start = round(float(own.values.mean() - slope * base.values.mean()), 2)
    if np.abs(start + slope * base.values - own.values).max() > SETPOINT_GAP_K or not 0.3 <= slope <= 1.5:
        return None
    return Follows(input=setting, at_zero=start, at_one=start + slope)


def _ends(line: Follows | None, own: Profile) -> Callable[[float], tuple[float, float]]:
    """Return what a setpoint may be when its setting has a value: on its line, or anything it is by itself."""
    if line is None:
        return lambda _: (float(own.values.min()), float(own.values.max()))
    return lambda x: (line.at_zero + (line.at_one - line.at_zero) * x,) * 2


def _may_cross(
    heating: Callable[[float], tuple[float, float]],
    cooling: Callable[[float], tuple[float, float]],
    heat: tuple[float, float],
    cool: tuple[float, float],
) -> bool:
    """Say whether a heating setpoint could reach its cooling setpoint anywhere the two settings may be: at the corners."""
    corners = [(h, max(c, h + DEADBAND_K)) for h in heat for c in cool]
    return any(heating(h)[1] > cooling(c)[0] - 0.1 for h, c in corners)


def _system(draft: Draft) -> None:
    """Let system_on drive the fans of every air loop, and give a loop a night cycle where it has none."""
    epjson = draft.epjson
    fans: list[tuple[float, Use]] = []
    modes: list[Use] = []
    for loop in draft.loops:
        area = draft.area_of(loop.zones)
        for kind, name in loop.components:
            if kind.startswith("Fan:"):
                fans.append((area, (kind, name, "availability_schedule_name")))
            elif kind == "AirLoopHVAC:UnitaryHeatCool":
                unit = find(epjson, kind, name)
                fan = (unit["supply_fan_object_type"], unit["supply_fan_name"], "availability_schedule_name")
                fans.append((area, fan))
                if unit.get("supply_air_fan_operating_mode_schedule_name"):
                    modes.append((kind, name, "supply_air_fan_operating_mode_schedule_name"))
    if not fans:
        raise refuse("the model", "AirLoopHVAC", draft.loops[0].name, "no fan stands on its supply branches.")
    fans = [(area, (kind, _exact(epjson, kind, name), f)) for area, (kind, name, f) in fans]
    always = None
    for _, (kind, name, place) in fans:
        if not epjson[kind][name].get(place):
            always = always or _constant(draft, "setwise always", 1.0)
            epjson[kind][name][place] = always
    weight: dict[str, float] = {}
    for area, (kind, name, place) in fans:
        schedule = epjson[kind][name][place].lower()
        weight[schedule] = weight.get(schedule, 0.0) + area
    varying = {s: w for s, w in weight.items() if draft.profile(s).varies}
    main = max(varying or weight, key=lambda s: weight[s])
    draft.own["system_on"] = np.clip(draft.profile(main).values, 0.0, 1.0)
    # A mode of 0 throughout lets the fan cycle with the coils: that is how the unit works, and not when.
    modes = [(k, _exact(epjson, k, n), f) for k, n, f in modes]
    modes = [m for m in modes if draft.profile(epjson[m[0]][m[1]][m[2]]).values.max() > 0]
    managers = [
        ("AvailabilityManager:NightCycle", n, "fan_schedule_name") for n in epjson.get("AvailabilityManager:NightCycle", {})
    ] + [("AvailabilityManager:Scheduled", n, "schedule_name") for n in epjson.get("AvailabilityManager:Scheduled", {})]
    places: dict[str, list[Use]] = {}
    for use in [*(u for _, u in fans), *modes, *managers]:
        places.setdefault(epjson[use[0]][use[1]][use[2]].lower(), []).append(use)
    driven = ""
    for schedule, where in places.items():
        name = _drive(draft, schedule, where, Follows(input="system_on"))
        driven = name if schedule == main else driven
    draft.note("found", "system_on", f"{len(fans)} fans of {len(draft.loops)} air loops by '{main}'")
    if not varying:
        draft.note(
            "confirm",
            "system_on",
            "the model's fans never stop: the own schedule is always on. Write the real hours into baseline.toml",
        )
    elif len(weight) > 1:
        draft.note(
            "guessed", "system_on", f"{len(weight)} fan schedules become one setting; that of the most floor area is its own"
        )
    without = [loop for loop in draft.loops if not _has_night_cycle(epjson, loop.name)]
    for loop in without:
        _add_night_cycle(draft, loop.name, driven)
    if without:
        said = f"{len(without)} air loops: while off, a zone 1 K past its setpoint starts its loop for half an hour"
        draft.note("guessed", "night cycle added", said)


def _exact(epjson: Epjson, kind: str, name: str) -> str:
    """Return a name as its object is called; references know no case."""
    return next(n for n in epjson.get(kind, {}) if n.lower() == name.lower())


def _managers(epjson: Epjson, loop: str) -> dict[str, Any] | None:
    wanted = str(epjson["AirLoopHVAC"][loop].get("availability_manager_list_name", "")).lower()
    lists = epjson.get("AvailabilityManagerAssignmentList", {})
    return next((o for n, o in lists.items() if n.lower() == wanted), None)


def _has_night_cycle(epjson: Epjson, loop: str) -> bool:
    listed = (_managers(epjson, loop) or {}).get("managers", [])
    return any(m["availability_manager_object_type"] == "AvailabilityManager:NightCycle" for m in listed)


def _add_night_cycle(draft: Draft, loop: str, fans: str) -> None:
    epjson = draft.epjson
    always = _constant(draft, "setwise always", 1.0)
    epjson.setdefault("AvailabilityManager:NightCycle", {})[f"{loop} night cycle"] = {
        "applicability_schedule_name": always,
        "fan_schedule_name": fans,
        "control_type": "CycleOnAny",
        "thermostat_tolerance": 1.0,
        "cycling_run_time_control_type": "FixedRunTime",
        "cycling_run_time": 1800.0,
    }
    manager = {
        "availability_manager_object_type": "AvailabilityManager:NightCycle",
        "availability_manager_name": f"{loop} night cycle",
    }
    listed = _managers(epjson, loop)
    if listed is None:
        epjson.setdefault("AvailabilityManagerAssignmentList", {})[f"{loop} managers"] = {"managers": [manager]}
        epjson["AirLoopHVAC"][loop]["availability_manager_list_name"] = f"{loop} managers"
    else:
        listed["managers"] = [*listed.get("managers", []), manager]


def _loads(draft: Draft) -> None:
    """Let the occupancy shares drive people, lights and plug loads; several schedules follow one share as well as they can."""
    epjson = draft.epjson
    for kind, place, share in (
        ("People", "number_of_people_schedule_name", "occupancy_share"),
        ("Lights", "schedule_name", "lighting_share"),
        ("ElectricEquipment", "schedule_name", "plug_share"),
    ):
        dense = knobs.densities(epjson, kind)
        weight: dict[str, float] = {}
        for name, density in dense.items():
            schedule = str(epjson[kind][name][place]).lower()
            area = draft.area_of(knobs.zones_of(epjson, epjson[kind][name][knobs.ZONE_FIELD]))
            weight[schedule] = weight.get(schedule, 0.0) + density * area
        weight = {s: w for s, w in weight.items() if w > 0}
        if not weight:
            draft.note("left out", share, f"no {kind} object of a conditioned zone is given per floor area")
            continue
        total = sum(weight.values())
        mean = np.sum([draft.profile(s).values * w / total for s, w in weight.items()], axis=0)
        draft.own[share] = np.clip(mean, 0.0, 1.0)
        for schedule in weight:
            where = [(kind, n, place) for n in dense if str(epjson[kind][n][place]).lower() == schedule]
            _drive(draft, schedule, where, _fitted(draft.profile(schedule).values, draft.own[share], share))
        draft.note(
            "found", share, f"{len(dense)} {kind} objects on {len(weight)} schedule(s), own peak {draft.own[share].max():.2f}"
        )
        if len(weight) > 1:
            draft.note(
                "guessed",
                share,
                f"one share for {len(weight)} schedules ({', '.join(list(weight)[:4])}), each a straight line of it",
            )


def _fitted(values: Array, of: Array, name: str) -> Follows:
    """Return the straight line of an input that comes nearest to a schedule, cut to 0..1 at both ends."""
    if np.ptp(values - of) < 1e-9:
        return Follows(input=name)
    spread = float(((of - of.mean()) ** 2).mean())
    slope = float(((of - of.mean()) * (values - values.mean())).mean()) / spread if spread > 1e-9 else 0.0
    start = float(values.mean() - slope * of.mean())
    return Follows(input=name, at_zero=round(min(max(start, 0), 1), 3), at_one=round(min(max(start + slope, 0), 1), 3))


def _infiltration(draft: Draft) -> None:
    """Let leakage follow the fans where the model's leakage schedules do."""
    places: dict[str, list[Use]] = {}
    for kind in knobs.LEAKS:
        for name, o in draft.epjson.get(kind, {}).items():
            if o.get("schedule_name"):
                places.setdefault(str(o["schedule_name"]).lower(), []).append((kind, name, "schedule_name"))
    on = draft.own["system_on"] > 0.5
    for schedule, where in places.items():
        values = draft.profile(schedule).values
        if not draft.profile(schedule).varies or on.all() or not on.any():
            continue
        off, while_on = float(values[~on].mean()), float(values[on].mean())
        _drive(draft, schedule, where, Follows(input="system_on", at_zero=round(off, 3), at_one=round(while_on, 3)))
        draft.note(
            "found", "infiltration", f"'{schedule}': {off:.2f} of the leakage while the fans are off, {while_on:.2f} while on"
        )


def _supply_air(draft: Draft) -> bool:
    """Let the supply air temperature drive scheduled setpoint managers at the end of air loops; say whether there is one."""
    at = {node: loop for loop in draft.loops for node in loop.supply_nodes}
    places: dict[str, list[Use]] = {}
    weight: dict[str, float] = {}
    others: dict[str, int] = {}
    for kind, objects in draft.epjson.items():
        if not kind.startswith("SetpointManager:"):
            continue
        for name, o in objects.items():
            here = [n for n in nodes(draft.epjson, o.get("setpoint_node_or_nodelist_name", "")) if n in at]
            if not here:
                continue
            if kind == "SetpointManager:Scheduled" and o.get("control_variable", "Temperature") == "Temperature":
                places.setdefault(o["schedule_name"].lower(), []).append((kind, name, "schedule_name"))
                area = sum(draft.area_of(at[n].zones) for n in here)
                weight[o["schedule_name"].lower()] = weight.get(o["schedule_name"].lower(), 0.0) + area
            elif kind != "SetpointManager:MixedAir":
                others[kind] = others.get(kind, 0) + 1
    if not places:
        why = ", ".join(f"{n} {k}" for k, n in others.items()) or "no setpoint manager at the end of a loop"
        draft.note("left out", "supply_air_temperature", f"the loops choose it themselves ({why})")
        return False
    main = max(weight, key=lambda s: weight[s])
    draft.own["supply_air_temperature"] = draft.profile(main).values
    for schedule, where in places.items():
        _drive(draft, schedule, where, Follows(input="supply_air_temperature"))
    draft.note(
        "found",
        "supply_air_temperature",
        f"{sum(map(len, places.values()))} setpoint managers, {_span(draft.profile(main).values, 'degC')}",
    )
    if others:
        draft.note("left out", "supply_air_temperature", f"loops with {', '.join(others)} keep choosing it themselves")
    return True


def _outdoor_air(draft: Draft) -> dict[str, Profile]:
    """Give every outdoor-air controller one damper schedule that the setting drives; return the own ones by controller."""
    own: dict[str, Profile] = {}
    names = [_exact(draft.epjson, "Controller:OutdoorAir", n) for loop in draft.loops for n in loop.controllers]
    if not names:
        draft.note("left out", knobs.OUTDOOR_AIR, "no air loop has a Controller:OutdoorAir")
        return own
    damper = _constant(draft, "setwise outdoor air", 1.0)
    for name in names:
        o = draft.epjson["Controller:OutdoorAir"][name]
        schedule = o.get("minimum_outdoor_air_schedule_name")
        own[name] = draft.profile(schedule) if schedule else draft.profile(damper)
        o["minimum_outdoor_air_schedule_name"] = damper
    draft.follows[damper] = Follows(input=knobs.OUTDOOR_AIR)
    return own


def _own_outdoor_air(draft: Draft, sized: Epjson, damper: Mapping[str, Profile]) -> float:
    """Return the building's own outdoor air while on [m3/h.m2], and keep its hours."""
    if not damper:
        return 0.0
    area = sum(z.floor_area * z.multiplier for z in draft.zones)
    flows = {n: float(sized["Controller:OutdoorAir"][n]["minimum_outdoor_air_flow_rate"]) * 3600 / area for n in damper}
    hours = np.sum([flows[n] * p.values for n, p in damper.items()], axis=0) * (draft.own["system_on"] > 0)
    draft.own[knobs.OUTDOOR_AIR] = np.round(hours, 3)
    draft.note(
        "found", knobs.OUTDOOR_AIR, f"{len(flows)} controllers, {hours.max():.2f} m3/h per m2 of conditioned floor at most"
    )
    if hours.max() < 0.05:
        said = "the model takes in next to no outdoor air by itself; write what the real building does into baseline.toml"
        draft.note("confirm", knobs.OUTDOOR_AIR, said)
    return float(hours.max())


def _the_rest(draft: Draft) -> None:
    """Let what is still by the clock follow the fans or the people; name what cannot."""
    on, people = draft.own["system_on"], draft.own.get("occupancy_share")
    by_the_clock: dict[str, list[str]] = {}
    for t in [t for t in draft.epjson if t.startswith("Schedule:") and not t.startswith(("Schedule:Day", "Schedule:Week"))]:
        for name in list(draft.epjson[t]):
            profile = draft.profiles.get(name.lower())
            places = [u for u in uses(draft.epjson, name) if not u[2].startswith(OF_COMFORT) and not u[0].startswith("Schedule:")]
            if name in draft.follows or profile is None or not profile.varies or not places:
                continue
            users = sorted({u[0] for u in places})
            if not profile.is_seasonal and np.abs(profile.values - on).max() < 0.05:
                draft.follows[name] = Follows(input="system_on")
                draft.note("guessed", name, f"runs with the fans in the model ({', '.join(users)}), so it follows system_on")
            elif people is not None and all(u.startswith(LEVELS) for u in users) and profile.values.max() <= 1:
                follows = _fitted(profile.values, people, "occupancy_share")
                draft.follows[name] = follows
                said = (
                    f"{', '.join(users)}: follows occupancy_share, {follows.at_zero:g} with nobody to {follows.at_one:g} with all"
                )
                draft.note("guessed", name, said)
            else:
                by_the_clock.setdefault(", ".join(users), []).append(name)
    for who, names in by_the_clock.items():
        shown = f"{', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        draft.note("confirm", who, f"still by the clock ({shown}); no input tells the metamodel of it, so it is noise to it")


def _span(values: Array, unit: str) -> str:
    return f"{values.min():g} .. {values.max():g} {unit}" if np.ptp(values) else f"{values.min():g} {unit}"


# ------------------------------------------------------------------------------------------------------------------- facts


def _facts(
    draft: Draft, sized: Epjson, name: str, model: Path, epw: WeatherFile, time_zone: str | None,
    setpoints: dict[str, tuple[float, float]], has_supply: bool, outdoor_air: float,
) -> dict[str, Any]:  # fmt: skip
    """Return what building.toml says, as plain data; see `templates.building_text`."""
    area = sum(z.floor_area * z.multiplier for z in draft.zones)
    zone = time_zone or guess_time_zone(epw)
    if time_zone is None:
        draft.note("confirm", "time_zone", f"{zone}, guessed from the place in the weather file (--time-zone says another)")
    draft.note("found", "zones", f"{len(draft.zones)} conditioned of {len(draft.epjson['Zone'])}, {area:.0f} m2 with multipliers")
    renamed = [f"{z.in_model} = {z.name}" for z in draft.zones if z.in_model]
    if renamed:
        draft.note("found", "zone names", f"{'; '.join(renamed[:6])}{' ...' if len(renamed) > 6 else ''}")
    settings = {n: (*b, 6) for n, b in setpoints.items()} | {"system_on": (0.0, 1.0, None)}
    if knobs.OUTDOOR_AIR in draft.own:
        settings[knobs.OUTDOOR_AIR] = (0.0, max(5.4, math.ceil(15 * outdoor_air) / 10), None)
    if has_supply:
        own = draft.own["supply_air_temperature"]
        settings["supply_air_temperature"] = (min(11.0, math.floor(own.min())), max(18.0, math.ceil(own.max())), 4)
    order = ("heating_setpoint", "cooling_setpoint", "system_on", knobs.OUTDOOR_AIR, "supply_air_temperature")
    burners = [(float(o["burner_efficiency"]), float(o["nominal_capacity"])) for o in sized.get("Coil:Heating:Fuel", {}).values()]
    draft.note("confirm", "carriers", "prices and emissions are US averages; replace them by your contract")
    title = next(iter(draft.epjson["Building"]), name)
    return {
        "name": name,
        "title": title if title.lower() != "none" else name,
        "model": model.name,
        "zones": draft.zones,
        "site": epw,
        "time_zone": zone,
        "occupancy": [n for n in ("occupancy_share", "lighting_share", "plug_share") if n in draft.own],
        "parameters": _parameters(draft, sized, area),
        "settings": {n: settings[n] for n in order if n in settings},
        "outputs": _outputs(draft.epjson),
        "burner": _weighted(burners, 0.8),
        "cooling_cop": _weighted(_cops(sized), 3.0),
        "fan_pressure": _weighted(_pressures(sized), 500.0),
        "schedules": draft.follows,
        "own": draft.own,
        "outdoor_air": outdoor_air,
    }


def _weighted(pairs: Sequence[tuple[float, float]], otherwise: float) -> float:
    total = sum(w for _, w in pairs)
    return round(sum(v * w for v, w in pairs) / total, 3) if total > 0 else otherwise


def _cops(sized: Epjson) -> list[tuple[float, float]]:
    one = [
        (float(o["gross_rated_cooling_cop"]), float(o["gross_rated_total_cooling_capacity"]))
        for o in sized.get("Coil:Cooling:DX:SingleSpeed", {}).values()
    ]
    two = [
        (float(o["high_speed_gross_rated_cooling_cop"]), float(o["high_speed_gross_rated_total_cooling_capacity"]))
        for o in sized.get("Coil:Cooling:DX:TwoSpeed", {}).values()
    ]
    return one + two


def _pressures(sized: Epjson) -> list[tuple[float, float]]:
    apart = knobs.zone_fans(sized)
    plain = [
        (float(o["pressure_rise"]), float(o["maximum_flow_rate"]))
        for kind in ("Fan:VariableVolume", "Fan:ConstantVolume", "Fan:OnOff")
        for name, o in sized.get(kind, {}).items()
        if name.lower() not in apart
    ]
    system = [
        (float(o["design_pressure_rise"]), float(o["design_maximum_air_flow_rate"]))
        for o in sized.get("Fan:SystemModel", {}).values()
    ]
    return plain + system


def _parameters(draft: Draft, sized: Epjson, area: float) -> dict[str, tuple[float, float, float, str]]:
    """Return the parameters whose objects exist: low, high, default (the model's own), scale."""
    epjson = draft.epjson

    def mean(kind: str) -> float | None:
        own = knobs.densities(epjson, kind)
        where = {n: draft.area_of(knobs.zones_of(epjson, epjson[kind][n][knobs.ZONE_FIELD])) for n in own}
        total = sum(where.values())
        return sum(d * where[n] for n, d in own.items()) / total if total else None

    glass = list(epjson.get("WindowMaterial:SimpleGlazingSystem", {}).values())
    coils = sum(float(o["nominal_capacity"]) for t in knobs.HEATING_COILS for o in sized.get(t, {}).values()) / area
    air = sum(float(o["design_supply_air_flow_rate"]) for o in sized["AirLoopHVAC"].values()) * 3600 / area
    boxes = [
        o.get("constant_minimum_air_flow_fraction", 0.3) for o in sized.get("AirTerminal:SingleDuct:VAV:Reheat", {}).values()
    ]
    n_glass, n_boxes = max(len(glass), 1), max(len(boxes), 1)
    found: dict[str, tuple[float | None, float, float, str]] = {  # default, low and high in shares of it, scale
        "infiltration": (1.0 if any(epjson.get(t) for t in knobs.LEAKS) else None, 0.2, 3.0, "log"),
        "internal_mass": (1.0 if epjson.get("InternalMass") else None, 0.2, 4.0, "log"),
        "wall_insulation": (1.0 if knobs.insulation(epjson, "Wall") else None, 0.3, 3.0, "log"),
        "roof_insulation": (1.0 if knobs.insulation(epjson, "Roof") else None, 0.3, 3.0, "log"),
        "window_u_factor": (sum(o["u_factor"] for o in glass) / n_glass if glass else None, 0.3, 1.75, "linear"),
        "window_shgc": (sum(o["solar_heat_gain_coefficient"] for o in glass) / n_glass if glass else None, 0.5, 1.8, "linear"),
        "occupant_density": (mean("People"), 0.45, 2.3, "log"),
        "lighting_power_density": (mean("Lights"), 0.3, 1.5, "linear"),
        "equipment_power_density": (mean("ElectricEquipment"), 0.3, 1.9, "linear"),
        "heating_capacity": (coils or None, 0.4, 1.3, "log"),
        "air_system_size": (air, 0.68, 1.6, "log"),
        "vav_minimum_flow": (sum(float(b) for b in boxes) / n_boxes if boxes else None, 0.5, 1.65, "linear"),
    }
    cap = {"window_u_factor": 6.5, "window_shgc": 0.85, "vav_minimum_flow": 0.9}
    kept = {
        n: (_digits(low * d), max(min(_digits(high * d), cap.get(n, math.inf)), _digits(1.05 * d)), _digits(d), scale)
        for n, (d, low, high, scale) in found.items()
        if d
    }
    for n, values in (("window_u_factor", [o["u_factor"] for o in glass]), ("vav_minimum_flow", boxes)):
        if len({round(float(v), 4) for v in values}) > 1:
            draft.note("guessed", n, f"one value for all, though the model has {len(set(values))}; the mean is the default")
    absent = [n for n in found if n not in kept]
    if absent:
        lacks = {n: " or ".join(knobs.MODEL_TYPES.get(n, ("insulated outdoor surface",))) for n in absent}
        said = "; ".join(f"{n} (no {what} it could move)" for n, what in lacks.items())
        draft.note("left out", "parameters", said)
    draft.note(
        "guessed",
        "parameter bounds",
        "the model's own value, about a third to about twice of it; narrow them where you know better",
    )
    return kept


def _digits(value: float) -> float:
    """Return a value to four digits, as people write it."""
    return float(f"{value:.4g}")


def _outputs(epjson: Epjson) -> list[str]:
    """Return the outputs that the plant of the model can give."""
    has = {
        "gas_coil_heat": bool(epjson.get("Coil:Heating:Fuel")),
        "electric_reheat_heat": bool(epjson.get("Coil:Heating:Electric")),
        "coil_cooling": any(t.startswith("Coil:Cooling:DX") for t in epjson),
        "cooling_electricity": any(t.startswith("Coil:Cooling:DX") for t in epjson),
        "fan_electricity": True,
        "facility_electricity": True,
        "hot_water_gas": any(
            o.get("heater_fuel_type") == "NaturalGas" for t in epjson if t.startswith("WaterHeater:") for o in epjson[t].values()
        ),
    }
    return ["mean_humidity_ratio", *(n for n, there in has.items() if there)]


def _prove(draft: Draft, building: Building) -> dict[str, float]:
    """Simulate a winter and a summer day under the own schedule; note what looks wrong."""
    proof = {}
    names = [f"{z.name}_air_temperature" for z in building.zones]
    mean = {}
    for season, day in (("winter", "2018-01-15"), ("summer", "2018-07-16")):
        run = base_run(building, day, hours=24)
        frame = simulate(building, run).iloc[SPIN_UP_H:]
        occupied = frame[frame["occupancy_share"] > 0.05] if "occupancy_share" in frame else frame
        at = (occupied if len(occupied) else frame)[names]
        mean[season] = float(at.to_numpy().mean())
        for z, column in zip(building.zones, names, strict=True):
            low, high = float(at[column].min()), float(at[column].max())
            if low < float(frame["heating_setpoint"].max()) - 3 or high > float(frame["cooling_setpoint"].min()) + 4:
                draft.note(
                    "confirm", z.name, f"on a {season} day it is {low:.1f} .. {high:.1f} degC while occupied; is that right?"
                )
        proof[f"{season}_kwh"] = float(frame["facility_electricity"].sum() + frame["heating_gas"].sum()) / 1000
    draft.note(
        "found", "two days simulated", f"mean occupied zone {mean['winter']:.1f} degC in winter, {mean['summer']:.1f} in summer"
    )
    return proof
