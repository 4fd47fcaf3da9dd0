"""Candidates: what a point of the unit cube means to the predictor: parameters of the building, and settings nobody measured.

A measured setting is never fitted. A setting (or occupancy series) without readings becomes a week profile with few numbers:
for each day type when it starts and how long it lasts, and for each series its value while running and while not.

Legend of shapes: b batch, t time, n coordinate of the cube, d day type, h hour of the day, c column.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from building.parameters import Parameter, ParameterSpace
from building.plan import DEADBAND_K, WeekProfile, week_places
from building.scenario import Scenario
from building.timeline import DAY_TYPES
from building.variables import Role, Signature, Variable

Array = NDArray[np.float64]

HOURS_OF_ROLE = {Role.SETTING: "system", Role.OCCUPANCY: "people"}
"""Settings share one set of running hours, people another: plant starts before people come."""

ON_OFF = frozenset({"system_on"})
"""One while running, zero while not: nothing to fit but the hours."""
ZERO_WHEN_OFF = frozenset({"outdoor_air_flow", "occupancy_share"})
CONSTANT = frozenset({"supply_air_temperature"})


def hours_parameters(who: str) -> list[Parameter]:
    """Return start and length of the running hours of each day type [h, local clock]."""
    parameters = []
    for day in DAY_TYPES:
        least = 4.0 if day == "weekday" else 0.0
        parameters.append(Parameter(f"{who}_{day}_start", 3.0, 12.0, default=7.0))
        parameters.append(Parameter(f"{who}_{day}_hours", least, 21.0, default=12.0 if day == "weekday" else 4.0))
    return parameters


def value_parameters(v: Variable) -> list[Parameter]:
    """Return the values of one series that are searched."""
    if v.name in ON_OFF:
        return []
    if v.name in CONSTANT:
        return [Parameter(v.name, v.low, v.high)]
    running = Parameter(f"{v.name}_running", v.low, v.high)
    return [running] if v.name in ZERO_WHEN_OFF else [running, Parameter(f"{v.name}_resting", v.low, v.high)]


@dataclass(frozen=True)
class ProfileSpace:
    """Week profiles as a parameter space.

    Attributes:
        columns: the unmeasured series.
    """

    columns: Signature

    @cached_property
    def space(self) -> ParameterSpace:
        """The coordinates: running hours, then values."""
        roles = [r for r in HOURS_OF_ROLE if len(self.columns.having(r))]
        hours = [p for r in roles for p in hours_parameters(HOURS_OF_ROLE[r])]
        return ParameterSpace(*hours, *(p for v in self.columns for p in value_parameters(v)))

    def profiles(self, values_bn: Array) -> Array:
        """Return the week profiles of a batch of physical coordinates.

        Start and end may fall inside an hour; that hour then carries the mean, so the misfit is a smooth function of both.

        Args:
            values_bn: physical values in the order of `space`, shape (batch, coordinates).

        Returns:
            Shape (batch, 3 day types, 24, columns).
        """
        named = self.space.named(values_bn)
        hour = np.arange(24.0)
        out = np.empty((len(values_bn), len(DAY_TYPES), 24, len(self.columns)))
        for c, v in enumerate(self.columns):
            who = HOURS_OF_ROLE[v.role]
            start = np.stack([named[f"{who}_{day}_start"] for day in DAY_TYPES], axis=1)[..., None]
            length = np.stack([named[f"{who}_{day}_hours"] for day in DAY_TYPES], axis=1)[..., None]
            stop = np.minimum(start + length, 24.0)
            share = np.clip(np.minimum(stop, hour + 1) - np.maximum(start, hour), 0.0, 1.0)
            running, resting = self._values(v, named, len(values_bn))
            out[..., c] = resting[:, None, None] + share * (running - resting)[:, None, None]
        if {"heating_setpoint", "cooling_setpoint"} <= set(self.columns.names):
            heating, cooling = self.columns.positions(("heating_setpoint", "cooling_setpoint"))
            out[..., cooling] = np.maximum(out[..., cooling], out[..., heating] + DEADBAND_K)
        return out

    @staticmethod
    def _values(v: Variable, named: dict[str, Array], n: int) -> tuple[Array, Array]:
        if v.name in ON_OFF:
            return np.ones(n), np.zeros(n)
        if v.name in CONSTANT:
            return named[v.name], named[v.name]
        running = named[f"{v.name}_running"]
        return running, np.zeros(n) if v.name in ZERO_WHEN_OFF else named[f"{v.name}_resting"]


@dataclass(frozen=True)
class Candidates:
    """The search space of one calibration.

    Attributes:
        scenario: the measured boundary conditions.
        parameters: parameters of the building to be fitted.
        unmeasured: series nobody measured, fitted as week profiles.
        time_zone: IANA name; profiles follow the local clock.
        holidays: dates that run as Sundays.
    """

    scenario: Scenario
    parameters: ParameterSpace
    unmeasured: Signature
    time_zone: str
    holidays: Collection[date] = ()

    @cached_property
    def profile(self) -> ProfileSpace:
        """The week profiles; without coordinates when every series was measured."""
        return ProfileSpace(self.unmeasured)

    @cached_property
    def space(self) -> ParameterSpace:
        """All coordinates: parameters, then profiles."""
        return ParameterSpace(*self.parameters.parameters, *self.profile.space.parameters)

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return week_places(self.scenario.index, self.time_zone, 24, self.holidays)

    def batch(self, u_bn: ArrayLike) -> Array:
        """Return the scenarios of points of the unit cube, shape (batch, coordinates) -> (batch, time, inputs)."""
        values = self.space.from_unit(u_bn)
        n_parameters = len(self.parameters)
        x_btc = np.repeat(self.scenario.values[None], len(values), axis=0)
        inputs = self.scenario.inputs
        for i, name in enumerate(self.parameters.names):
            x_btc[:, :, inputs.position(name)] = values[:, i, None]
        if len(self.unmeasured):
            day, hour = self._places
            x_btc[:, :, inputs.positions(self.unmeasured.names)] = self.profile.profiles(values[:, n_parameters:])[:, day, hour]
            self._part_setpoints(x_btc)
        return x_btc

    def _part_setpoints(self, x_btc: Array) -> None:
        """Keep a fitted setpoint clear of a measured one."""
        inputs = self.scenario.inputs
        if "heating_setpoint" not in inputs or "cooling_setpoint" not in inputs:
            return
        heating, cooling = inputs.positions(("heating_setpoint", "cooling_setpoint"))
        if "cooling_setpoint" in self.unmeasured:
            x_btc[:, :, cooling] = np.maximum(x_btc[:, :, cooling], x_btc[:, :, heating] + DEADBAND_K)
        elif "heating_setpoint" in self.unmeasured:
            x_btc[:, :, heating] = np.minimum(x_btc[:, :, heating], x_btc[:, :, cooling] - DEADBAND_K)

    def named(self, u_n: Array) -> dict[str, float]:
        """Return the parameters at a point of the cube."""
        values = self.space.from_unit(u_n)
        return {name: float(values[i]) for i, name in enumerate(self.parameters.names)}

    def week_profile(self, u_n: Array) -> WeekProfile | None:
        """Return the fitted profile at a point of the cube, None when every series was measured."""
        if not len(self.unmeasured):
            return None
        values = self.space.from_unit(u_n)[None, len(self.parameters) :]
        return WeekProfile(self.unmeasured.names, self.profile.profiles(values)[0])

    def default_point(self) -> Array:
        """Return the best guess before any measurement, in the unit cube."""
        defaults = self.space.defaults()
        return np.clip(self.space.to_unit([defaults[n] for n in self.space.names]), 0.0, 1.0)
