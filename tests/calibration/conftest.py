"""A hidden two-node plant, as issue 2 describes hidden plants: drawn parameters, sensor noise, gaps, a dead sensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from building.description import Building, load_building
from building.scenario import Scenario
from building.variables import Role
from calibration.search import Budget
from simulation.rc import RcPredictor

NOISE = {"temperature": 0.2, "co2": 30.0, "humidity_ratio": 3e-4}


@dataclass(frozen=True)
class Plant:
    truth: dict[str, float]
    measured: pd.DataFrame  # with noise and gaps
    exact: pd.DataFrame


@pytest.fixture(scope="session")
def building() -> Building:
    return load_building("two_node")


@pytest.fixture(scope="session")
def predictor(building: Building) -> RcPredictor:
    return RcPredictor(building)


@pytest.fixture(scope="session")
def quick() -> Budget:
    """Enough for eight parameters on the two-node building."""
    return Budget(population=16, max_evaluations=1200, max_restarts=0)


@pytest.fixture(scope="session")
def make_plant(building: Building, predictor: RcPredictor) -> Callable[..., Plant]:
    def make(seed: int = 0, n_hours: int = 672, gaps: float = 0.02, truth: dict[str, float] | None = None) -> Plant:
        rng = np.random.default_rng(seed)
        index = pd.date_range("2026-01-05", periods=n_hours, freq="h", tz="UTC")
        f = building.own_schedule().unroll(index, building.site.time_zone)
        hour = np.arange(n_hours)
        walk = np.cumsum(rng.normal(0, 0.6, n_hours))
        cloud = np.repeat(rng.random(n_hours // 24 + 1), 24)[:n_hours]
        sun = np.clip(np.sin(2 * np.pi * (hour - 12) / 24), 0, None)
        f["outdoor_air_temperature"] = 2 + 5 * np.sin(2 * np.pi * (hour - 15) / 24) + walk - np.linspace(0, walk[-1], n_hours)
        f["outdoor_air_humidity_ratio"] = 0.003 + 0.001 * rng.random(n_hours)
        f["direct_normal_irradiance"] = 700 * sun * cloud
        f["diffuse_horizontal_irradiance"] = (60 + 150 * (1 - cloud)) * (sun > 0)
        for name in ("occupancy_share", "lighting_share", "plug_share"):
            f[name] = np.clip(f[name] * rng.uniform(0.8, 1.2, n_hours), 0, 1)
        space = building.parameter_space
        drawn = space.from_unit(rng.uniform(0.15, 0.85, len(space)))
        parameters = {n: float(x) for n, x in zip(space.names, drawn, strict=True)} | (truth or {})
        y = predictor.predict(Scenario.from_frame(predictor.inputs, f, parameters).values[None])[0]
        exact = pd.DataFrame(y, index=index, columns=list(predictor.outputs.names))
        noisy = exact.copy()
        for v in predictor.outputs:
            sigma = 0.02 * exact[v.name] if v.role is Role.CONSUMPTION else NOISE[v.quantity.name]
            noisy[v.name] += sigma * rng.standard_normal(n_hours)
            noisy.loc[rng.random(n_hours) < gaps, v.name] = np.nan
        return Plant(parameters, pd.concat([f, noisy], axis=1), exact)

    return make


@pytest.fixture(scope="session")
def plant(make_plant: Callable[..., Plant]) -> Plant:
    return make_plant(seed=1)
