"""The last word before a setpoint leaves: what is planned or held by a person, made safe, with a reason for every change.

`guard` is a pure function of a `Moment`; `observe` gathers the moment from the store. Three steps. First, which plan: the one in
force, unless a switchback trial gives the day to the own schedule, data, plan or calibration are too old, the building does not
do what was predicted, or the plan is broken; then the building's own schedule. Second, what people hold: an override takes the
place of what was planned. Third, which values, in this order: numbers, bounds, heating or cooling changeover, rate of change,
least time on and off, minimum air renewal while people are there, frost, heating under cooling. Later rules win over earlier
ones: air and frost are not held back by the rate. Whatever comes in, what goes out is finite and within bounds.

This is the only place where PRECEDENCE is decided; `Guarded.sources` says for each setting who won.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd

from building.description import Building
from building.errors import SetwiseError
from building.indices.air import minimum_outdoor_air_en16798, outdoor_air_shortfall
from building.indices.comfort import is_occupied
from building.plan import DEADBAND_K, WeekProfile
from building.units import TEMPERATURE
from building.variables import Role
from service.config import GuardSection
from service.store import PlanRecord, Store
from service.store.acts import Override

_LATE = pd.Timedelta(hours=2)  # an older reading, of a zone or of people, says nothing about now
_FRESH = pd.Timedelta(minutes=30)  # a younger count of people is of now
_SWITCHES_H = 4  # so far back switches of the system are looked for
_JUDGED_H, _LEAST_JUDGED_H = 72, 6  # hours that are compared with their prediction, and how many of them it takes
_RELEVANT = 0.01  # a shortfall of less than this share of the need is rounding


PRECEDENCE = {
    "plant": "the plant's own safety hardware (frost stat, fire dampers, limits in the BMS): never passed by setwise",
    "safety": "safety limits: bounds, changeover, rate of change, time on and off, air renewal, frost, heating under cooling",
    "override": "a person holds the setting, until the override ends",
    "plan": "the plan in force",
    "own": "the building's own schedule",
}
"""Who decides a setpoint, strongest first."""


@dataclass(frozen=True)
class Moment:
    """What the guard knows.

    Attributes:
        now: the instant (UTC).
        plan: the stored plan in force, or None.
        last_reading: stamp of the newest reading, or None.
        calibrated: when the last accepted calibration was made, or None.
        recent: by setting, values published in the past hour, oldest first.
        switched: whether the system was switched on or off last, and when; None when it was not in the last hours.
        disagreement: how far zones are from what was predicted of them [K], see `disagreement`; None when nobody knows.
        occupancy_share: people present, of the design number; None when nobody knows.
        occupant_density: design number per floor area [1/m2].
        coldest_zone: least measured zone air temperature [degC], or None.
        own: settings of the building's own schedule now.
        frost_setpoint: heating setpoint while frost threatens [degC]; the warmest of the own schedule.
        overrides: by setting, what people hold it at now.
        is_cooling_season: by the calendar of the site; asked only where the changeover follows it.
        own_day: why the own schedule rules today whatever is planned (a switchback trial); empty where it does not.
        unusable: why nothing else is known; empty where it is.
    """

    now: pd.Timestamp
    own: Mapping[str, float]
    plan: PlanRecord | None = None
    last_reading: pd.Timestamp | None = None
    calibrated: pd.Timestamp | None = None
    recent: Mapping[str, Sequence[float]] = field(default_factory=dict)
    switched: tuple[bool, pd.Timestamp] | None = None
    disagreement: float | None = None
    occupancy_share: float | None = None
    occupant_density: float = 0.05
    coldest_zone: float | None = None
    frost_setpoint: float = 20.0
    overrides: Mapping[str, Override] = field(default_factory=dict)
    is_cooling_season: bool = False
    own_day: str = ""
    unusable: str = ""


@dataclass(frozen=True)
class Action:
    """One thing the guard did. `setting` is None where it concerns the whole plan."""

    rule: str
    setting: str | None
    wanted: float | None
    given: float | None
    why: str

    def __str__(self) -> str:
        if self.setting is None:
            return self.why
        wanted = "nothing" if self.wanted is None else f"{self.wanted:g}"
        return f"{self.setting}: {wanted} became {self.given:g}: {self.why}"


@dataclass(frozen=True)
class Guarded:
    """Settings that may leave.

    Attributes:
        settings: every setting of the building, finite, within bounds.
        origin: origin of the plan followed (``optimised``, ...), or ``own``.
        plan_id: of that plan; None for the own schedule.
        issued: when it was made, or None.
        actions: what the guard did and why.
        sources: by setting who decided it: a key of PRECEDENCE.
    """

    settings: dict[str, float]
    origin: str
    plan_id: int | None
    issued: pd.Timestamp | None
    actions: tuple[Action, ...]
    sources: dict[str, str] = field(default_factory=dict)

    def reasons(self) -> dict[str, str]:
        """Return what was done to each setting, as text."""
        return {
            name: "; ".join(a.why for a in self.actions if a.setting == name)
            for name in self.settings
            if any(a.setting == name for a in self.actions)
        }


def guard(moment: Moment, building: Building, limits: GuardSection) -> Guarded:
    """Return the settings that may leave at `moment.now`, and what was done to get them.

    Args:
        moment: what is known.
        building: bounds, ramps and limits.
        limits: ages and frost temperature.
    """
    refusal = _why_not(moment, building, limits)
    planned = None if moment.plan is None else moment.plan.plan.at(moment.now)
    record = moment.plan if refusal is None else None
    actions: list[Action] = [] if refusal is None else [Action("own_schedule", None, None, None, refusal)]
    wanted = dict(planned) if record is not None and planned is not None else dict(moment.own)
    held = {name: o.value for name, o in moment.overrides.items() if name in building.settings}
    wanted |= held

    given = {
        v.name: _number(v.name, wanted.get(v.name), moment.own.get(v.name), v.low, v.high, actions) for v in building.settings
    }
    _limit_changeover(given, moment, building, limits, actions)
    _limit_rate(given, moment, building, actions)
    _limit_switching(given, moment, limits, actions)
    _limit_renewal(given, moment, building, actions)
    _limit_frost(given, moment, limits, actions)
    _limit_crossing(given, held, building, actions)
    base = "own" if record is None else "plan"
    sources = {v.name: "override" if v.name in held else base for v in building.settings}
    for action in actions:
        if action.setting is not None:
            sources[action.setting] = "own" if action.rule == "number" and action.setting in moment.own else "safety"
    return Guarded(
        {v.name: min(max(given[v.name], v.low), v.high) for v in building.settings},
        "own" if record is None else record.plan.origin,
        None if record is None else record.id,
        None if record is None else record.issued,
        tuple(actions),
        sources,
    )


def observe(store: Store, building: Building, now: pd.Timestamp, own: WeekProfile | None = None) -> Moment:
    """Gather what the guard must know from the store.

    Args:
        store: readings, plans, calibrations, publications.
        building: whose.
        now: the instant (UTC).
        own: the own schedule; None for the building's baseline.toml.

    Raises:
        StoreError: the store cannot be read.
    """
    hour = pd.DatetimeIndex([now.floor("h")])
    zones = building.outputs.having(Role.INDOOR, quantity=TEMPERATURE).names
    profile = own or building.own_schedule()
    scheduled = profile.unroll(hour, building.site.time_zone).iloc[0]
    # Series inputs only: a constant parameter is not measured.
    names = [v.name for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER]
    newest = store.last(names)
    fresh_zones = [newest[z].value for z in zones if z in newest and abs(now - newest[z].stamp) <= _LATE]
    calibration = store.last_calibration(is_accepted=True)
    density = building.facts.parameters["occupant_density"].default if "occupant_density" in building.facts.parameters else None
    if calibration is not None:
        density = calibration.data.get("parameters", {}).get("occupant_density", density)
    recent: dict[str, list[float]] = {}
    system: list[tuple[bool, pd.Timestamp]] = []
    for p in store.publications(now - pd.Timedelta(hours=_SWITCHES_H), now + pd.Timedelta(milliseconds=1)):
        if p.made >= now - pd.Timedelta(hours=1):
            recent.setdefault(p.setting, []).append(p.value)
        if p.setting == "system_on":
            system.append((p.value > 0, p.made))
    switches = [after for before, after in pairwise(system) if before[0] != after[0]]
    return Moment(
        now=now,
        own={name: float(scheduled[name]) for name in building.settings.names if name in scheduled},
        plan=store.plan_in_force(now),
        last_reading=max((r.stamp for r in newest.values()), default=None),
        calibrated=None if calibration is None else calibration.made,
        recent=recent,
        switched=switches[-1] if switches else None,
        occupancy_share=_occupancy(store, newest.get("occupancy_share"), scheduled.get("occupancy_share"), now),
        occupant_density=0.05 if density is None else float(density),
        coldest_zone=min(fresh_zones, default=None),
        frost_setpoint=float(profile.values[:, :, profile.columns.index("heating_setpoint")].max()),
    )


def disagreement(store: Store, building: Building, now: pd.Timestamp) -> float | None:
    """Return how far the zones are from what was predicted of them [K]: mean over zones and hours of |measured - predicted|.

    Compared are the whole hours of the last three days under a plan, nobody holding a setting, since the calibration in force:
    other settings than those predicted say nothing of the metamodel, and a new calibration is a new start. None with fewer than
    six such hours. Asks for thousands of readings: once an hour is enough.
    """
    calibration = store.last_calibration(is_accepted=True)
    start = now.floor("h") - pd.Timedelta(hours=_JUDGED_H)
    if calibration is not None:
        start = max(start, calibration.made.ceil("h"))
    if start >= now.floor("h"):
        return None
    hours = pd.date_range(start, now.floor("h"), freq="h", inclusive="left")
    planned = np.zeros(len(hours), dtype=bool)
    for r in store.regimes(start, now):
        if r.run == "plan" and not r.held:
            planned |= (hours >= r.since) & (hours + pd.Timedelta(hours=1) <= r.until)
    if planned.sum() < _LEAST_JUDGED_H:
        return None
    zones = list(building.outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)
    end = now.floor("h")
    away = (store.hourly(zones, start, end) - store.forecast(zones, start, end, at=now)).abs()[planned]
    judged = away.notna().any(axis=1)
    return float(np.nanmean(away[judged].to_numpy())) if judged.sum() >= _LEAST_JUDGED_H else None


def _occupancy(store: Store, newest: object, scheduled: float | None, now: pd.Timestamp) -> float | None:
    """Return the share of people present now.

    A counter that speaks now is believed. One that lags (hourly means of the hour before) only adds people where nobody was
    expected; else the forecast, or the own schedule, knows the present hour better.
    """
    told = store.forecast(["occupancy_share"], now.floor("h"), now.floor("h") + pd.Timedelta(hours=1), at=now)[
        "occupancy_share"
    ].iloc[0]
    expected = float(told) if np.isfinite(told) else None if scheduled is None else float(scheduled)
    stamp, value = getattr(newest, "stamp", None), getattr(newest, "value", None)
    if stamp is None or value is None:
        return expected
    age = abs(now - stamp)  # a stamp far ahead of a clock that was set back says nothing about now
    if age <= _FRESH:
        return float(value)
    if age <= _LATE and (expected is None or not is_occupied(expected)):
        return float(value)
    return expected


def _why_not(moment: Moment, building: Building, limits: GuardSection) -> str | None:
    """Return why the plan in force is not followed, or None."""
    now, plan = moment.now, moment.plan
    if moment.unusable:
        return f"{moment.unusable.rstrip('.')}: the own schedule"
    if moment.own_day:
        return f"own schedule today: {moment.own_day}"
    if plan is None:
        return "there is no plan for this hour: the own schedule"
    if _hours(now, plan.issued) > limits.max_plan_age_h:
        age, most = _hours(now, plan.issued), limits.max_plan_age_h
        return f"plan {plan.id} is {age:.0f} h old, at most {most:g} h are followed: the own schedule"
    if plan.issued > now:
        return f"plan {plan.id} was issued in the future: the own schedule"
    if plan.plan.at(now) is None:
        return f"plan {plan.id} does not cover this hour: the own schedule"
    if moment.last_reading is None or abs(_hours(now, moment.last_reading)) > limits.max_data_age_h:
        since = "ever" if moment.last_reading is None else f"for {abs(_hours(now, moment.last_reading)):.0f} h"
        return f"no reading {since}, at most {limits.max_data_age_h:g} h are bridged: the own schedule"
    if limits.is_calibration_needed:
        if moment.calibrated is None:
            return "no calibration was ever accepted: the own schedule"
        if _hours(now, moment.calibrated) > limits.max_calibration_age_h:
            return f"the calibration is {_hours(now, moment.calibrated) / 24:.0f} days old: the own schedule"
    if moment.disagreement is not None and moment.disagreement > limits.max_disagreement_k:
        away, most = moment.disagreement, limits.max_disagreement_k
        return f"zones are {away:.1f} K from what was predicted, at most {most:g} K are trusted: the own schedule"
    try:
        plan.plan.check(building.settings)
    except SetwiseError as e:
        return f"plan {plan.id} is broken ({e}): the own schedule"
    return None


def _number(name: str, wanted: float | None, own: float | None, low: float, high: float, actions: list[Action]) -> float:
    """Return `wanted` if it is a number, else the own schedule's value, else the middle of the range; within bounds."""
    value = wanted
    if value is None or not math.isfinite(value):
        value = own if own is not None and math.isfinite(own) else (low + high) / 2
        actions.append(Action("number", name, wanted, value, "no number was planned"))
    clipped = min(max(value, low), high)
    if clipped != value:
        actions.append(Action("bounds", name, value, clipped, f"outside {low:g} .. {high:g}"))
    return clipped


def _limit_changeover(
    given: dict[str, float], moment: Moment, building: Building, limits: GuardSection, actions: list[Action]
) -> None:
    """A plant that is changed over to heating cannot cool, and must not be asked to; and the other way round."""
    state = limits.changeover
    if state == "calendar":
        state = "cooling" if moment.is_cooling_season else "heating"
    idle = {"heating": "cooling_setpoint", "cooling": "heating_setpoint"}.get(state)
    if idle is None or idle not in given:
        return
    v = building.settings[idle]
    rest = v.high if state == "heating" else v.low
    if given[idle] != rest:
        why = f"the plant is changed over to {state}"
        actions.append(Action("changeover", idle, given[idle], rest, why))
        given[idle] = rest


def is_cooling_season(now: pd.Timestamp, time_zone: str, limits: GuardSection) -> bool:
    """Say whether a day lies between `cooling_from` and `cooling_until`, both included; over New Year as well."""
    day, first, last = f"{now.tz_convert(time_zone):%m-%d}", limits.cooling_from, limits.cooling_until
    return first <= day <= last if first <= last else day >= first or day <= last


def _limit_rate(given: dict[str, float], moment: Moment, building: Building, actions: list[Action]) -> None:
    for name, ramp in building.ramps().items():
        recent = [v for v in moment.recent.get(name, ()) if math.isfinite(v)]
        if not recent:
            continue
        low, high = max(recent) - ramp, min(recent) + ramp
        # Values of the past hour that already span more than the ramp leave only the last one.
        allowed = min(max(given[name], low), high) if low <= high else recent[-1]
        if abs(allowed - given[name]) > 1e-9:
            actions.append(Action("rate", name, given[name], allowed, f"at most {ramp:g} per hour"))
            given[name] = allowed


def _limit_switching(given: dict[str, float], moment: Moment, limits: GuardSection, actions: list[Action]) -> None:
    """A compressor that was just switched wants its time; air renewal and frost protection come after, and win."""
    if moment.switched is None or "system_on" not in given:
        return
    is_on, since = moment.switched
    least = limits.least_on_min if is_on else limits.least_off_min
    minutes = (moment.now - since) / pd.Timedelta(minutes=1)
    if (given["system_on"] > 0) == is_on or not 0 <= minutes < least:
        return
    why = f"switched {'on' if is_on else 'off'} {minutes:.0f} min ago, it stays so for {least:g} min"
    actions.append(Action("switching", "system_on", given["system_on"], float(is_on), why))
    given["system_on"] = float(is_on)


def _limit_renewal(given: dict[str, float], moment: Moment, building: Building, actions: list[Action]) -> None:
    if moment.occupancy_share is None or not {"outdoor_air_flow", "system_on"} <= given.keys():
        return
    need = float(minimum_outdoor_air_en16798(moment.occupancy_share, moment.occupant_density, limits=building.limits))
    if _shortfall(given, need) <= _RELEVANT * need:
        return
    people = f"{moment.occupancy_share:.2f} of the people are there, EN 16798-1 asks {need:.2f} m3/h.m2"
    if given["system_on"] < 1:
        actions.append(Action("renewal", "system_on", given["system_on"], 1.0, people))
        given["system_on"] = 1.0
    if _shortfall(given, need) > _RELEVANT * need:
        flow = min(need, building.settings["outdoor_air_flow"].high)
        actions.append(Action("renewal", "outdoor_air_flow", given["outdoor_air_flow"], flow, people))
        given["outdoor_air_flow"] = flow


def _shortfall(given: Mapping[str, float], need: float) -> float:
    return float(outdoor_air_shortfall(given["outdoor_air_flow"], given["system_on"], need))


def _limit_frost(given: dict[str, float], moment: Moment, limits: GuardSection, actions: list[Action]) -> None:
    if moment.coldest_zone is None or moment.coldest_zone >= limits.frost_temperature:
        return
    why = f"a zone is at {moment.coldest_zone:.1f} degC, frost protection starts at {limits.frost_temperature:g}"
    for name, least in (("system_on", 1.0), ("heating_setpoint", moment.frost_setpoint)):
        if name in given and given[name] < least:
            actions.append(Action("frost", name, given[name], least, why))
            given[name] = least


def _limit_crossing(given: dict[str, float], held: Mapping[str, float], building: Building, actions: list[Action]) -> None:
    if not {"heating_setpoint", "cooling_setpoint"} <= given.keys():
        return
    if given["cooling_setpoint"] - given["heating_setpoint"] >= DEADBAND_K - 1e-6:
        return
    why = f"heating stays {DEADBAND_K:g} K under cooling"
    if "cooling_setpoint" in held and "heating_setpoint" not in held:  # a person chose the cooling setpoint: heating gives way
        heating = max(given["cooling_setpoint"] - DEADBAND_K, building.settings["heating_setpoint"].low)
        actions.append(Action("crossing", "heating_setpoint", given["heating_setpoint"], heating, why))
        given["heating_setpoint"] = heating
        if given["cooling_setpoint"] - heating >= DEADBAND_K - 1e-6:
            return
    cooling = min(given["heating_setpoint"] + DEADBAND_K, building.settings["cooling_setpoint"].high)
    if cooling != given["cooling_setpoint"]:
        actions.append(Action("crossing", "cooling_setpoint", given["cooling_setpoint"], cooling, why))
        given["cooling_setpoint"] = cooling
    heating = cooling - DEADBAND_K
    if heating < given["heating_setpoint"] - 1e-9:
        actions.append(Action("crossing", "heating_setpoint", given["heating_setpoint"], heating, why))
        given["heating_setpoint"] = heating


def _hours(later: pd.Timestamp, earlier: pd.Timestamp) -> float:
    return (later - earlier) / pd.Timedelta(hours=1)
