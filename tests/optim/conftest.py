"""What the tests of optim share: a week on the analytic building, and fronts made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from building.description import Building, load_building
from building.plan import Plan
from building.scenario import Scenario
from optim.front import Front, Reference

Array = NDArray[np.float64]
START = pd.Timestamp("2026-01-12T06:00Z")


def week_of(
    building: Building,
    monday: str = "2026-01-12",
    mean_c: float = -3.0,
    occupancy: Array | None = None,
    now: Mapping[str, float] | None = None,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Scenario, Scenario]:
    """Return a week of past and the week to plan, both under the own schedule, with made-up weather around `mean_c`.

    The planned week begins at local midnight of `monday`; `occupancy` replaces its people, `now` the settings of the hour before.
    """
    zone = building.site.time_zone
    begin = pd.Timestamp(monday, tz=zone).tz_convert("UTC")
    index = pd.date_range(begin - pd.Timedelta(hours=168), periods=336, freq="60min")
    frame = building.own_schedule().unroll(index, zone)
    hour = index.tz_convert(zone).hour.to_numpy()
    day = np.arange(len(index)) / 24
    sun = np.maximum(0, np.sin((hour - 6) / 12 * np.pi))
    weather = {
        "outdoor_air_temperature": mean_c + 5 * np.sin((hour - 9) / 24 * 2 * np.pi) + 3 * np.sin(day / 3),
        "outdoor_air_humidity_ratio": np.full(len(index), 0.003 if mean_c < 8 else 0.009),
        "outdoor_air_pressure": np.full(len(index), 99000.0),
        "wind_speed": np.full(len(index), 3.0),
        "direct_normal_irradiance": 400 * sun,
        "diffuse_horizontal_irradiance": 100 * sun,
    }
    for name, series in weather.items():
        if name in building.inputs:
            frame[name] = series
    if "roof_beam_irradiance" in building.inputs:
        frame = building.with_sun(frame)
    if occupancy is not None:
        frame.iloc[168:, frame.columns.get_loc("occupancy_share")] = occupancy
    for name, value in (now or {}).items():
        frame.iloc[167, frame.columns.get_loc(name)] = value
    whole = Scenario.from_frame(building.inputs, frame, {**building.parameter_space.defaults(), **(parameters or {})})
    return whole.between(index[0], begin), whole.between(begin, index[-1] + pd.Timedelta(hours=1))


def hand_made_front(values: Any, baseline: Any = None, violation: Any = None, guarded: Any = None, **more: Any) -> Front:
    """Return a front of two settings over a day with these objective values."""
    values = np.asarray(values, dtype=float)
    n, k = values.shape
    names = ("energy", "discomfort", "co2_excess", "moisture_risk")[:k]
    baseline = values.max(axis=0) if baseline is None else np.asarray(baseline, dtype=float)
    plans = np.full((n, 24, 2), 21.0) + np.arange(n)[:, None, None] * 0.001
    plans[:, :, 1] += 3
    index = pd.date_range(START, periods=24, freq="60min")
    own = Plan(pd.DataFrame({"heating_setpoint": 21.0, "cooling_setpoint": 24.0}, index=index))
    fields: dict[str, Any] = {
        "objectives": names,
        "values_nk": values,
        "guarded_nk": values if guarded is None else np.asarray(guarded, dtype=float),
        "violation_n": np.zeros(n) if violation is None else np.asarray(violation, dtype=float),
        "decisions": ("setback_k",),
        "vectors_nd": np.linspace(0, 9, n)[:, None],
        "settings": ("heating_setpoint", "cooling_setpoint"),
        "plans_nts": plans,
        "start": START,
        "step_min": 60,
        "references": {"own": Reference(own, dict(zip(names, baseline.tolist(), strict=True)))},
        "baseline": "own",
        "tolerance": {"discomfort": 0.5},
    }
    return Front(**(fields | more))


@pytest.fixture(scope="session")
def two_node() -> Building:
    return load_building("two_node")


@pytest.fixture(scope="session")
def office() -> Building:
    return load_building("medium_office")


@pytest.fixture(scope="session")
def week() -> Callable[..., tuple[Scenario, Scenario]]:
    return week_of


@pytest.fixture(scope="session")
def front_of() -> Callable[..., Front]:
    return hand_made_front
