"""Fresh runs without a simulator: the truth is a formula, and the answer is the formula with a known error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from building.description import Building, load_building
from building.predictor import GivenPast, Predictor
from building.scenario import Scenario
from building.units import CO2, TEMPERATURE
from building.variables import Role
from simulation.campaign import Outcome

Error = Callable[[np.ndarray], np.ndarray]


def truth(building: Building, x_btc: np.ndarray) -> np.ndarray:
    """Return what the building does: every output follows the outdoor temperature; powers are off while the system is."""
    outdoor, on = (x_btc[..., building.inputs.position(name)] for name in ("outdoor_air_temperature", "system_on"))
    y = np.empty((*x_btc.shape[:2], len(building.outputs)))
    for o, v in enumerate(building.outputs):
        if v.role is Role.CONSUMPTION:
            y[..., o] = on * (1e4 + 500 * outdoor)
        elif v.quantity.name in (TEMPERATURE.name, CO2.name):
            y[..., o] = 0.5 * outdoor + (20 if v.quantity.name == TEMPERATURE.name else 600)
        else:
            y[..., o] = 0.005
    return y


class Answering:
    """A Predictor that answers the truth with an error of its own, an array (batch, time, outputs) -> the same shape."""

    def __init__(self, building: Building, error: Error = lambda y: y) -> None:
        self.inputs, self.outputs = building.inputs, building.outputs
        self.building, self.error = building, error

    def predict(self, x_btc: np.ndarray) -> np.ndarray:
        return self.error(truth(self.building, x_btc))

    def given(self, past: Scenario) -> Predictor:
        return GivenPast(self, past)


def warmer(by_k: float) -> Error:
    """Return an error of every zone temperature (and of nothing else)."""
    office = load_building("medium_office")
    zones = office.outputs.positions(office.outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)

    def error(y: np.ndarray) -> np.ndarray:
        y[..., zones] += by_k
        return y

    return error


def outcome(
    building: Building, number: int, n_windows: int = 1, climate: str = "usa_il_chicago", kind: str = "schedule"
) -> Outcome:
    """Return a finished run that begins at midnight of local standard time, 2021-01-08 in Chicago."""
    rng = np.random.default_rng(number)
    n_h = 168 + 672 * n_windows
    x = np.array([rng.uniform(v.low, v.high, n_h) for v in building.inputs]).T
    hour = np.arange(n_h) % 24
    x[:, building.inputs.position("outdoor_air_temperature")] = 10 + 12 * np.sin(np.arange(n_h) / 24) + rng.normal(size=n_h)
    x[:, building.inputs.position("system_on")] = (hour >= 6) & (hour < 20)
    values = np.concatenate([x, truth(building, x[None])[0]], axis=1).astype(np.float32)
    start = pd.Timestamp("2021-01-08T06:00", tz="UTC")
    return Outcome(number, climate, (kind,) * n_windows, start, None, values, None, 2.0)


def failure(number: int, climate: str = "usa_co_denver") -> Outcome:
    reason = f"the simulation failed (run {number})"
    return Outcome(number, climate, ("odd",), pd.Timestamp("2021-01-01T07:00", tz="UTC"), None, None, {"reason": reason}, 1.0)
