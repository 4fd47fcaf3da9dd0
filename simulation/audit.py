"""Does every knob act? Each is run low and high in a cold and a warm fortnight; one that moves no output fails the audit.

The engine ignores what it does not understand, so a table of knobs proves nothing until each has been seen to act. The same runs
check that efficiencies may act after the predictor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from building.description import Building
from building.errors import DeadKnobError, UnknownNameError, did_you_mean
from building.plan import DEADBAND_K
from building.variables import Role, Variable
from simulation.energyplus import SPIN_UP_H, Run, simulate
from simulation.epw import find_weather, read_epw

SEASONS = {"cold": "2018-01-15", "warm": "2018-07-09"}
AUDIT_H = 14 * 24
LEAST_SHARE = 1e-4
"""A knob acts when some output's mean absolute change exceeds this share of that output's mean magnitude."""

NOTHING_WH = 1e6
"""Shares of a base total below this are taken of this, or a few kilowatt-hours of summer heating would blow every knob up."""

SETTING_RANGES = {
    "heating_setpoint": (18.0, 23.0),
    "cooling_setpoint": (24.0, 28.0),
    "system_on": (0.0, 1.0),
    "outdoor_air_flow": (0.4, 5.0),
    "supply_air_temperature": (11.0, 18.0),
}
"""Low and high of each setting; occupancy shares go from 0.1 to 1."""

ADJUSTED = {
    "burner_efficiency": ("cold", "burner_efficiency", 0.95),
    "cooling_cop": ("warm", "cop_factor", 1.3),
    "fan_pressure": ("warm", "fan_pressure_factor", 1.3),
}
"""Efficiency -> season, adjustment of the engine's model, and its value."""


@dataclass(frozen=True)
class Effect:
    """What one end of one knob did in one season, against the base run.

    Attributes:
        knob, season, end: which; `value` is the knob's (None for series).
        heat, cooling, fans, electricity: change of the total, share of the base.
        temperature_k, co2_peak_ppm: change of the mean zone temperature and of the greatest zone CO2.
        greatest: the greatest mean absolute change over all outputs, as share of that output's mean magnitude.
    """

    knob: str
    season: str
    end: str
    value: float | None
    heat: float
    cooling: float
    fans: float
    electricity: float
    temperature_k: float
    co2_peak_ppm: float
    greatest: float


@dataclass(frozen=True)
class Audit:
    """All effects, and how exactly efficiencies act after the predictor (relative errors of the final energies)."""

    effects: tuple[Effect, ...]
    efficiency_errors: dict[str, float]

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        knobs = dict.fromkeys(e.knob for e in self.effects)
        return {"knobs": len(knobs), "dead": len(self.dead()), **{f"{k}_error": v for k, v in self.efficiency_errors.items()}}

    def tables(self) -> list[tuple[str, tuple[str, ...], Sequence[Sequence[object]]]]:
        """Return one row per knob and season, low end / high end."""
        rows = []
        for knob, season in dict.fromkeys((e.knob, e.season) for e in self.effects):
            low, high = (e for e in self.effects if (e.knob, e.season) == (knob, season))
            shares = [
                f"{100 * getattr(low, n):+.1f} / {100 * getattr(high, n):+.1f}"
                for n in ("heat", "cooling", "fans", "electricity")
            ]
            kelvin = f"{low.temperature_k:+.2f} / {high.temperature_k:+.2f}"
            ppm = f"{low.co2_peak_ppm:+.0f} / {high.co2_peak_ppm:+.0f}"
            value = "" if low.value is None or high.value is None else f"{low.value:g} / {high.value:g}"
            rows.append((knob, season, value, *shares, kelvin, ppm))
        columns = ("knob", "season", "low / high", "heat %", "cooling %", "fans %", "electricity %", "mean K", "CO2 peak ppm")
        return [("effects", columns, rows)] if rows else []

    def dead(self) -> list[str]:
        """Return the knobs that move no output."""
        names = dict.fromkeys(e.knob for e in self.effects)
        return [n for n in names if max(e.greatest for e in self.effects if e.knob == n) < LEAST_SHARE]


def audit(
    building: Building,
    n_workers: int | None = None,
    progress: Callable[..., None] = lambda *a: None,
    knobs: Collection[str] | None = None,
) -> Audit:
    """Run every knob low and high.

    Args:
        building: whose knobs.
        n_workers: engines at a time; all cores when None. Each is a child process of its own, so threads spread them.
        progress: called with (done, total) after each run.
        knobs: only these parameters, settings, occupancy shares and `ADJUSTED` efficiencies; all when None.

    Raises:
        UnknownNameError: a knob nobody has. DeadKnobError: some knob moves no output. FailedRunError: a run failed.
    """
    efficiencies = {name: how for name, how in ADJUSTED.items() if ACTS_ON[name] in building.outputs}
    known = [*building.parameter_space.names, *building.inputs.having(Role.SETTING, Role.OCCUPANCY).names, *efficiencies]
    wanted = known if knobs is None else list(knobs)
    for name in wanted:
        if name not in known:
            raise UnknownNameError(name=name, kind="knob", owner=f"'{building.name}'", hint=did_you_mean(name, known))
    cases: list[tuple[str, str, str, float | None, Run]] = []
    bases = {season: base_run(building, day) for season, day in SEASONS.items()}
    for season, base in bases.items():
        cases.append(("base", season, "", None, base))
        for p in building.parameter_space.parameters:
            for end, value in (("low", p.low), ("high", p.high)):
                cases.append((p.name, season, end, value, replace(base, parameters={**base.parameters, p.name: value})))
        for v in building.inputs.having(Role.SETTING, Role.OCCUPANCY):
            for end in ("low", "high"):
                cases.append((v.name, season, end, None, replace(base, series=_moved(base.series, v, end))))
    for name, (season, adjustment, value) in efficiencies.items():
        cases.append((name, season, "adjusted", None, replace(bases[season], adjust={adjustment: value})))
    cases = [c for c in cases if c[0] in ("base", *wanted)]
    frames = []
    with ThreadPoolExecutor(n_workers or os.cpu_count()) as pool:
        for frame in pool.map(lambda c: simulate(building, c[4]), cases):
            frames.append(frame.iloc[SPIN_UP_H:])
            progress(len(frames), len(cases))
    base_frames = {c[1]: f for c, f in zip(cases, frames, strict=True) if c[0] == "base"}
    effects = tuple(
        _effect(building, knob, season, end, value, base_frames[season], frame)
        for (knob, season, end, value, _), frame in zip(cases, frames, strict=True)
        if end in ("low", "high")
    )
    adjusted = {c[0]: f for c, f in zip(cases, frames, strict=True) if c[2] == "adjusted"}
    result = Audit(effects, _efficiency_errors(base_frames, adjusted))
    dead = result.dead()
    if dead:
        raise DeadKnobError(n_dead=len(dead), dead=", ".join(dead))
    return result


def base_run(building: Building, day: str, hours: int = AUDIT_H) -> Run:
    """Return the building with default parameters under its own schedule in its own climate, from `day` on, spin-up before it."""
    offset_h = read_epw(find_weather(building.site.weather)).utc_offset_h
    first = pd.Timestamp(day, tz="UTC") - pd.Timedelta(hours=offset_h + SPIN_UP_H)
    index = pd.date_range(first, periods=hours + SPIN_UP_H, freq="60min")
    series = building.own_schedule().unroll(index, building.site.time_zone)
    return Run(building.site.weather, building.parameter_space.defaults(), series)


def _moved(series: pd.DataFrame, v: Variable, end: str) -> pd.DataFrame:
    """Return the series with one setting or share at an end of its range, the setpoints kept apart."""
    low, high = SETTING_RANGES.get(v.name, (0.1, 1.0))
    out = series.copy()
    out[v.name] = min(max(low if end == "low" else high, v.low), v.high)
    out["cooling_setpoint"] = np.maximum(out["cooling_setpoint"], out["heating_setpoint"] + DEADBAND_K)
    return out


def _effect(
    building: Building, knob: str, season: str, end: str, value: float | None, base: pd.DataFrame, frame: pd.DataFrame
) -> Effect:
    outputs = list(building.outputs.names)
    change = (frame[outputs] - base[outputs]).abs().mean()
    scale = base[outputs].abs().mean().clip(lower=1e-9)
    temperatures = [c for c in outputs if c.endswith("_air_temperature")]
    co2 = [c for c in outputs if c.endswith("_co2")]

    def share(*columns: str) -> float:
        there = [c for c in columns if c in base]
        was = float(base[there].to_numpy().sum())
        return float(frame[there].to_numpy().sum() - was) / max(was, NOTHING_WH)

    return Effect(
        knob, season, end, value,
        share("gas_coil_heat", "electric_reheat_heat"), share("coil_cooling"), share("fan_electricity"),
        share("facility_electricity"),
        float((frame[temperatures] - base[temperatures]).to_numpy().mean()),
        float(frame[co2].to_numpy().max() - base[co2].to_numpy().max()),
        float((change / scale).max()),
    )  # fmt: skip


ACTS_ON = {"burner_efficiency": "gas_coil_heat", "cooling_cop": "cooling_electricity", "fan_pressure": "fan_electricity"}
"""Efficiency -> the output it acts after; a building without it does not have that efficiency."""


def _efficiency_errors(bases: dict[str, pd.DataFrame], adjusted: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Return the relative error of each final energy when the efficiency acts after the predictor instead of in the engine."""
    cold, warm = bases["cold"], bases["warm"]
    burner, cop, pressure = (value for _, _, value in ADJUSTED.values())
    promised = {  # efficiency -> figure, what acting after the predictor promises, what the engine reports
        "burner_efficiency": [("gas_from_burner_efficiency", cold["gas_coil_heat"] / burner, "heating_gas")],
        "cooling_cop": [("cooling_electricity_from_cop", warm["cooling_electricity"] / cop, "cooling_electricity")],
        "fan_pressure": [
            ("fan_electricity_from_pressure", warm["fan_electricity"] * pressure, "fan_electricity"),
            ("coil_cooling_left_out_by_fan_heat", warm["coil_cooling"], "coil_cooling"),
        ],
    }
    return {
        figure: float(expected.sum()) / float(frame[reported].sum()) - 1
        for name, frame in adjusted.items()
        for figure, expected, reported in promised[name]
    }
