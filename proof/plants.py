"""Hidden plants: buildings whose parameters and habits nobody told the service, and what their sensors say of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from building.description import Building
from building.plan import WeekProfile
from building.units import CO2, POWER, TEMPERATURE
from building.variables import Role
from simulation.energyplus import SPIN_UP_H, Run, simulate
from simulation.epw import find_weather, read_epw

MEASURED_H = 672
WEEK_H = 168
YEARS = (2021, 2022, 2023, 2025, 2026)

TEMPERATURE_NOISE_K = 0.2
CO2_NOISE_PPM = 30.0
POWER_NOISE = 0.02
GAP_SHARE = 0.02


@dataclass(frozen=True)
class Plant:
    """One hidden building over spin-up, four measured weeks and the week that will be planned.

    Attributes:
        number, seed: how it was drawn.
        building: the description everybody knows (site, zones, bounds).
        habits: its own schedule, which its operator knows.
        run: its secret: parameters and series, hourly, `SPIN_UP_H` + 672 + 168 hours.
        dead_sensor: the one that says nothing.
    """

    number: int
    seed: int
    building: Building
    habits: WeekProfile
    run: Run
    dead_sensor: str

    @property
    def planned_from(self) -> pd.Timestamp:
        """First hour of the week to be planned."""
        return pd.Timestamp(self.run.series.index[SPIN_UP_H + MEASURED_H])

    def live(self, plan: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return what really happens, from the first measured hour to the end of the planned week.

        Args:
            plan: settings of the planned week, hourly or 15 min; its own schedule when None.
        """
        series = self.run.series
        if plan is not None:
            step_min = int((plan.index[1] - plan.index[0]) / pd.Timedelta(minutes=1))
            end = series.index[-1] + pd.Timedelta(hours=1)
            index = pd.date_range(series.index[0], end, freq=f"{step_min}min", inclusive="left")
            series = series.reindex(index, method="ffill")
            series.loc[plan.index, plan.columns] = plan
        return simulate(self.building, replace(self.run, series=series)).iloc[SPIN_UP_H:]


def draw_plant(building: Building, number: int, seed: int) -> Plant:
    """Draw a hidden plant in the building's own climate: parameters anywhere in the inner 90 % of their ranges, its own schedule
    drawn around the building's, occupancy that varies from day to day, a start on any day of the year.
    """
    rng = np.random.default_rng([seed, number, 77])
    space = building.parameter_space
    values = space.from_unit(rng.uniform(0.05, 0.95, len(space)))
    offset_h = read_epw(find_weather(building.site.weather)).utc_offset_h
    n_h = SPIN_UP_H + MEASURED_H + WEEK_H
    index = _period(rng, n_h, offset_h)
    profile = _habits(rng, building)
    series = profile.unroll(index, building.site.time_zone)
    day = (
        index.tz_convert(building.site.time_zone).normalize() - index[0].normalize().tz_convert(building.site.time_zone)
    ).days.to_numpy()
    for name in building.facts.occupancy:
        of_day = np.clip(1 + 0.1 * rng.normal(size=day.max() - day.min() + 1), 0.5, 1.2)
        series[name] = np.clip(series[name] * of_day[day - day.min()], 0, 1)
    dead = str(rng.choice([v.name for v in building.outputs.having(Role.INDOOR) if v.zone]))
    run = Run(building.site.weather, dict(zip(space.names, (float(v) for v in values), strict=True)), series)
    return Plant(number, seed, building, profile, run, dead)


def _period(rng: np.random.Generator, n_h: int, offset_h: float) -> pd.DatetimeIndex:
    """Return hours from local standard midnight, touching no leap year (no weather file has a 29 February)."""
    while True:
        start = pd.Timestamp(int(rng.choice(YEARS)), 1, 1, tz="UTC") + pd.Timedelta(days=int(rng.integers(365)), hours=-offset_h)
        index = pd.date_range(start, periods=n_h, freq="60min")
        if not index.is_leap_year.any():
            return index


def _habits(rng: np.random.Generator, building: Building) -> WeekProfile:
    """Return the building's own schedule as another operator runs it: an hour earlier or later, warmer or cooler, more air."""
    own = building.own_schedule()
    values = own.values.copy()
    at = {name: i for i, name in enumerate(own.columns)}
    settings = [at[n] for n in building.settings.names]
    values[:, :, settings] = np.roll(values[:, :, settings], int(rng.integers(-1, 2)), axis=1)
    shift_k = rng.uniform(-0.5, 0.5)
    values[:, :, at["heating_setpoint"]] += shift_k
    values[:, :, at["cooling_setpoint"]] += shift_k + rng.uniform(0, 0.5)
    more_air, warmer_k = rng.uniform(0.85, 1.3), rng.uniform(-0.3, 1.0)  # drawn also where a building has no such setting
    if "outdoor_air_flow" in at:
        values[:, :, at["outdoor_air_flow"]] *= more_air
    if "supply_air_temperature" in at:
        values[:, :, at["supply_air_temperature"]] += warmer_k
    for v in building.settings:
        values[:, :, at[v.name]] = np.clip(values[:, :, at[v.name]], v.low, v.high)
    return WeekProfile(own.columns, values)


def measure(plant: Plant, truth: pd.DataFrame) -> pd.DataFrame:
    """Return what the sensors say of `truth`: noise, gaps, one dead sensor; settings and occupancy as the BMS logs them.

    Noise: temperature 0.2 K, CO2 30 ppm, power 2 % of the reading; 2 % of the hours of each sensor are missing.
    """
    rng = np.random.default_rng([plant.seed, plant.number, 78])
    building = plant.building
    sensors = [v for v in (*building.inputs.having(Role.WEATHER), *building.outputs) if not v.name.endswith("_beam_irradiance")]
    logged = [*building.settings.names, *building.facts.occupancy]
    out = truth[[v.name for v in sensors] + logged].copy()
    for v in sensors:
        values = out[v.name].to_numpy(copy=True)
        if v.quantity == TEMPERATURE:
            values += TEMPERATURE_NOISE_K * rng.normal(size=len(values))
        elif v.quantity == CO2:
            values += CO2_NOISE_PPM * rng.normal(size=len(values))
        elif v.quantity == POWER:
            values *= 1 + POWER_NOISE * rng.normal(size=len(values))
        values[rng.random(len(values)) < GAP_SHARE] = np.nan
        out[v.name] = values
    out[plant.dead_sensor] = np.nan
    return out
