"""Drawing runs: parameters by scrambled Sobol points; settings and occupancy as plausible schedules or as odd hourly series.

The optimiser will ask for what no schedule ever did, so a third of the windows are odd: every setting changes at random hours
to random values. Everything follows from (seed, number of the run) alone, so a campaign can be resumed anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from building.description import Building, Strict, parse_strict, read_toml
from building.parameters import ParameterSpace
from building.plan import DEADBAND_K
from simulation.energyplus import SPIN_UP_H, Run
from simulation.epw import Morph, find_weather, read_epw

Array = NDArray[np.float64]
Range = tuple[float, float]

WINDOW_H = 672
HELD_OUT_DAYS = range(15, 22)
"""Days of the month on which no training window starts: the third week."""
YEARS = (2017, 2018, 2019, 2021, 2022, 2023)
"""Calendar years of the runs; no leap year, since no weather file has a 29 February."""
KINDS = ("schedule", "odd")
MORPH_SHARE = 0.5
"""Share of the training runs whose weather is morphed, within these ranges."""
MORPH_RANGES = {"shift_k": (-9.0, 4.0), "stretch": (0.8, 1.25), "radiation": (0.75, 1.1)}


class ScheduleRanges(Strict):
    """What plausible schedules are drawn from; see evaluation.toml."""

    heating_setpoint: Range
    deadband: Range
    setback: Range
    setup: Range
    start_hour: Range
    stop_hour: Range
    outdoor_air_flow: Range = (0.0, 0.0)  # drawn for every building, and dropped where there is no such setting
    outdoor_air_delay: Range = (0.0, 0.0)
    supply_air_temperature: Range = (13.0, 13.0)
    saturday_share: float
    sunday_share: float
    always_on_share: float


class OccupancyRanges(Strict):
    """What occupancy, lights and plugs are drawn from."""

    level: Range
    shift_hour: Range
    night: Range
    day: Range = (8.0, 17.5)  # hours a usual day begins and ends; an office's without it
    saturday: list[float] = [0.0, 0.3, 0.5]  # shares of a usual day, one of them drawn for the Saturdays of a window
    sunday: list[float] = [0.0, 0.0, 0.2]


class EvaluationFile(Strict):
    """evaluation.toml as it stands."""

    odd_share: float = Field(ge=0, le=1)
    climates: list[str]
    held_out_climates: list[str]
    parameters: dict[str, Range]
    schedules: ScheduleRanges
    occupancy: OccupancyRanges


@dataclass(frozen=True)
class Drawn:
    """One run to be simulated, with what the data card says of it."""

    run: Run
    climate: str
    kinds: tuple[str, ...]


def load_evaluation(building: Building) -> EvaluationFile:
    """Read evaluation.toml of a building. Raises BadDescriptionError, UnknownKeyError."""
    path = building.folder / "evaluation.toml"
    ranges = parse_strict(EvaluationFile, read_toml(path), path)
    places = {what: [building.file(c) for c in getattr(ranges, what)] for what in ("climates", "held_out_climates")}
    return ranges.model_copy(update=places)


def parameter_points(space: ParameterSpace, n: int, seed: int) -> Array:
    """Return n scrambled Sobol points as physical values, shape (n, parameters)."""
    from scipy.stats import qmc

    sobol = qmc.Sobol(len(space), scramble=True, seed=seed)
    return space.from_unit(sobol.random_base2(max(1, int(np.ceil(np.log2(n)))))[:n])


def draw_run(
    building: Building,
    ranges: EvaluationFile,
    values: Array,
    number: int,
    seed: int,
    *,
    n_windows: int,
    climates: list[str],
    held_out_week: bool,
    is_training: bool,
) -> Drawn:
    """Draw one run: `SPIN_UP_H` hours, then `n_windows` times 672 h, each with its own plan.

    Args:
        building, ranges: what to draw for.
        values: the parameters of this run, shape (parameters,), order of the building's space.
        number, seed: which run of which series of draws.
        n_windows: windows in the run.
        climates: weather files to choose from.
        held_out_week: start every window in the third week of a month (fresh runs) instead of never (training).
        is_training: favour cold climates and months, and morph half of the weather.
    """
    rng = np.random.default_rng([seed, number])
    climate = climates[number % len(climates)]
    if is_training:
        climate = climates[int(rng.choice(len(climates), p=_cold_weights(climates)))]
    offset_h = read_epw(find_weather(climate)).utc_offset_h
    start = _start_day(rng, n_windows, held_out_week, is_training)
    first = (start - pd.Timedelta(hours=SPIN_UP_H) - pd.Timedelta(hours=offset_h)).tz_localize("UTC")
    pieces, kinds = [], []
    for window in range(n_windows):
        n_h = WINDOW_H + (SPIN_UP_H if window == 0 else 0)
        index = pd.date_range(first, periods=n_h, freq="60min")
        kind = KINDS[int(rng.random() < ranges.odd_share)]
        local = index + pd.Timedelta(hours=offset_h)
        occupancy = draw_occupancy(rng, ranges.occupancy, local)
        settings = (
            draw_odd(rng, ranges.schedules, building, n_h)
            if kind == "odd"
            else draw_schedule(rng, ranges.schedules, building, local)
        )
        drawn = pd.DataFrame(settings | occupancy, index=index)
        pieces.append(drawn[[n for n in drawn if n in building.inputs]])
        kinds.append(kind)
        first = index[-1] + pd.Timedelta(hours=1)
    morph = _draw_morph(rng) if is_training and rng.random() < MORPH_SHARE else None
    parameters = dict(zip(building.parameter_space.names, (float(v) for v in values), strict=True))
    return Drawn(Run(climate, parameters, pd.concat(pieces), morph), climate, tuple(kinds))


COLD = ("boulder", "colorado_springs", "denver", "golden", "chicago", "uiw", "sterling", "san_francisco")


def _cold_weights(climates: list[str]) -> Array:
    weights = np.array([1.6 if c.endswith(COLD) else 1.0 for c in climates])
    return np.asarray(weights / weights.sum())


def _start_day(rng: np.random.Generator, n_windows: int, held_out_week: bool, is_training: bool) -> pd.Timestamp:
    """Draw the first judged day, so that every window starts inside, or never inside, the held-out week."""
    while True:
        year = int(rng.choice(YEARS))
        day = int(rng.integers(1, 366))
        start = pd.Timestamp(year, 1, 1) + pd.Timedelta(days=day - 1)
        # Heating is rare in these climates: in training three warm-season starts of ten are drawn again.
        if is_training and start.month in (5, 6, 7, 8, 9) and rng.random() < 0.3:
            continue
        starts = [start + pd.Timedelta(hours=WINDOW_H * w) for w in range(n_windows)]
        if all((s.day in HELD_OUT_DAYS) == held_out_week for s in starts) and not _meets_leap_day(start, n_windows):
            return start


def _meets_leap_day(start: pd.Timestamp, n_windows: int) -> bool:
    """Say whether the run holds a 29 February, or begins in a leap year: then the engine drops a day after New Year."""
    days = pd.date_range(start - pd.Timedelta(hours=SPIN_UP_H), periods=n_windows * 28 + 7, freq="D")
    return bool(days[0].is_leap_year or ((days.month == 2) & (days.day == 29)).any())


def _draw_morph(rng: np.random.Generator) -> Morph:
    return Morph(**{name: float(rng.uniform(low, high)) for name, (low, high) in MORPH_RANGES.items()})


def draw_schedule(rng: np.random.Generator, r: ScheduleRanges, building: Building, local: pd.DatetimeIndex) -> dict[str, Array]:
    """Draw a schedule of the kind buildings have: day types, start and stop, setback; sometimes changing from day to day."""
    day = (local.normalize() - local[0].normalize()).days.to_numpy()
    n_days = int(day.max()) + 1
    weekday = local[0].day_of_week + np.arange(n_days)
    # Half of the schedules are the same every day; in the others each day departs from it, as optimised plans do.
    wander = float(rng.choice([0.0, 0.25, 0.6], p=[0.5, 0.25, 0.25]))

    def daily(low_high: Range) -> Array:
        low, high = low_high
        return np.clip(rng.uniform(low, high) + wander * (high - low) * rng.normal(size=n_days), low, high)

    heating, deadband, setback, setup = (daily(x) for x in (r.heating_setpoint, r.deadband, r.setback, r.setup))
    start = np.rint(daily(r.start_hour) * 4) / 4
    stop = np.rint(daily(r.stop_hour) * 4) / 4
    air, supply = daily(r.outdoor_air_flow), daily(r.supply_air_temperature)
    delay = np.rint(daily(r.outdoor_air_delay)) * (rng.random() < 0.4)
    saturday, sunday = rng.random() < r.saturday_share, rng.random() < r.sunday_share
    runs = np.where(weekday % 7 == 5, saturday, np.where(weekday % 7 == 6, sunday, True))
    stop = np.where(weekday % 7 >= 5, np.minimum(stop, rng.uniform(12, 20)), stop)
    if rng.random() < r.always_on_share:
        start, stop, runs = np.zeros(n_days), np.full(n_days, 24.0), np.ones(n_days, dtype=bool)
    hour = local.hour.to_numpy().astype(float)
    on = np.clip(np.minimum(hour + 1, stop[day]) - np.maximum(hour, start[day]), 0, 1) * runs[day]
    is_on = on > 0
    heat = heating[day] - np.where(is_on, 0, setback[day])
    cool = heating[day] + deadband[day] + np.where(is_on, 0, setup[day])
    air_now = air[day] * (hour >= start[day] + delay[day])
    if rng.random() < 0.4:  # supply air reset over the day, outdoor air by the clock
        supply_now = np.clip(supply[day] + rng.uniform(-2, 2) * np.cos((hour - 15) * np.pi / 12), *r.supply_air_temperature)
        air_now = np.clip(air_now * (1 + rng.uniform(-0.6, 0.6) * np.cos((hour - 13) * np.pi / 8)), 0, r.outdoor_air_flow[1])
    else:
        supply_now = supply[day]
    return {
        "heating_setpoint": np.clip(heat, *_bounds(building, "heating_setpoint")),
        "cooling_setpoint": np.clip(cool, *_bounds(building, "cooling_setpoint")),
        "system_on": on,
        "outdoor_air_flow": air_now,
        "supply_air_temperature": supply_now,
    }


def draw_odd(rng: np.random.Generator, r: ScheduleRanges, building: Building, n_h: int) -> dict[str, Array]:
    """Draw every setting as a piecewise constant series with its own random pieces of 1 to 48 h."""

    def pieces(low: float, high: float, mean_h: float) -> Array:
        out = np.empty(n_h)
        t = 0
        while t < n_h:
            length = 1 + int(rng.exponential(mean_h))
            out[t : t + length] = rng.uniform(low, high)
            t += length
        return out

    (heat_low, heat_high), (cool_low, cool_high) = (_bounds(building, f"{n}_setpoint") for n in ("heating", "cooling"))
    heat = pieces(heat_low + 1, heat_high - 0.5, rng.uniform(3, 24))
    cool = np.maximum(pieces(cool_low, cool_high - 1, rng.uniform(3, 24)), heat + DEADBAND_K)
    share_on = rng.uniform(0.25, 0.9)
    on = (pieces(0, 1, rng.uniform(2, 12)) < share_on).astype(float)
    air = pieces(-0.15 * r.outdoor_air_flow[1], r.outdoor_air_flow[1], rng.uniform(2, 24))
    return {
        "heating_setpoint": heat,
        "cooling_setpoint": cool,
        "system_on": on,
        "outdoor_air_flow": np.maximum(air, 0),
        "supply_air_temperature": pieces(*r.supply_air_temperature, mean_h=rng.uniform(3, 24)),
    }


def _bounds(building: Building, setting: str) -> Range:
    return building.settings[setting].low, building.settings[setting].high


def draw_occupancy(rng: np.random.Generator, r: OccupancyRanges, local: pd.DatetimeIndex) -> dict[str, Array]:
    """Draw occupancy, lights and plugs: a usual day shifted, scaled, made noisy from day to day; sometimes a quiet week."""
    hour = local.hour.to_numpy().astype(float)
    day = (local.normalize() - local[0].normalize()).days.to_numpy()
    n_days = int(day.max()) + 1
    weekday = (local[0].day_of_week + np.arange(n_days)) % 7
    begin = r.day[0] + rng.uniform(*r.shift_hour) + 0.3 * rng.normal(size=n_days)
    end = r.day[1] + rng.uniform(*r.shift_hour) + 0.5 * rng.normal(size=n_days)
    softness = rng.uniform(0.2, 1.0)
    present = 1 / (1 + np.exp(-(hour + 0.5 - begin[day]) / softness)) - 1 / (1 + np.exp(-(hour + 0.5 - end[day]) / softness))
    lunch = 1 - rng.uniform(0, 0.5) * (np.abs(hour + 0.5 - 12.5) < 0.6)
    of_day = np.where(weekday == 5, rng.choice(r.saturday), np.where(weekday == 6, rng.choice(r.sunday), 1.0))
    of_day = of_day * np.clip(1 + 0.12 * rng.normal(size=n_days), 0, 1.2)
    of_day = np.where(rng.random(n_days) < 0.04, 0.0, of_day)  # closed days
    people = np.clip(rng.uniform(*r.level) * of_day[day] * present * lunch + 0.02 * rng.normal(size=len(hour)) * present, 0, 1)
    people = np.where(people < 0.01, 0.0, people)

    def follows(low: float, level: float) -> Array:
        awake = of_day[day] * np.clip(present * rng.uniform(1.0, 1.4), 0, 1)
        return np.asarray(np.clip(low + (level - low) * awake + 0.02 * rng.normal(size=len(hour)), 0, 1))

    return {
        "occupancy_share": people,
        "lighting_share": follows(rng.uniform(*r.night) * 0.5, rng.uniform(*r.level)),
        "plug_share": follows(rng.uniform(*r.night), rng.uniform(*r.level)),
    }
