"""A toy office for the metamodel's tests: seven inputs, four outputs, solved hour by hour in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from building.units import CO2, FACTOR, FLOW_PER_AREA, POWER, SHARE, TEMPERATURE, WIND_SPEED
from building.variables import Role, Signature, Variable
from models.export import export_graph, write_bundle
from models.network import Network, NetworkConfig
from models.runtime.bundle import Bundle
from simulation.dataset import Dataset

torch.set_num_threads(1)  # tensors this small only lose time between threads

INPUTS = Signature(
    Variable("outdoor_air_temperature", TEMPERATURE, Role.WEATHER, -30, 50),
    Variable("wind_speed", WIND_SPEED, Role.WEATHER, 0, 25),
    Variable("occupancy_share", SHARE, Role.OCCUPANCY, 0, 1),
    Variable("infiltration", FACTOR, Role.PARAMETER, 0.2, 3),
    Variable("heating_setpoint", TEMPERATURE, Role.SETTING, 14, 24),
    Variable("system_on", SHARE, Role.SETTING, 0, 1),
    Variable("outdoor_air_flow", FLOW_PER_AREA, Role.SETTING, 0, 5),
)
OUTPUTS = Signature(
    Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="core"),
    Variable("core_co2", CO2, Role.INDOOR, 300, 20000, zone="core"),
    Variable("gas_coil_heat", POWER, Role.CONSUMPTION, 0, 1e5),
    Variable("fan_electricity", POWER, Role.CONSUMPTION, 0, 1e5),
)
SMALL = NetworkConfig(d_model=16, n_heads=(2, 3), n_ffn=(24, 20), head_width=4, n_memories=2, memory_width=3, n_products=4)


def toy_windows(n: int, hours: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return scenarios and responses of the toy office, shapes (n, hours, 7) and (n, hours, 4)."""
    hour = np.arange(hours)
    x = np.empty((n, hours, 7))
    x[..., 0] = rng.uniform(-5, 15, (n, 1)) + 5 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, 0.5, (n, hours))
    x[..., 1] = rng.uniform(0, 10, (n, hours))  # no effect on anything
    x[..., 2] = (hour % 24 >= 8) & (hour % 24 < 18)
    x[..., 3] = rng.uniform(0.2, 3, (n, 1))
    x[..., 4] = rng.uniform(18, 22, (n, 1))
    x[..., 5] = (hour % 24 >= 6) & (hour % 24 < 19)
    x[..., 6] = rng.uniform(1, 4, (n, 1))
    y = np.empty((n, hours, 4))
    temperature, co2 = x[:, 0, 4].copy(), np.full(n, 420.0)
    for t in range(hours):
        loss = 100 * (0.5 + x[:, t, 3]) * (temperature - x[:, t, 0])
        wanted = loss + 2000 * (x[:, t, 4] - temperature)
        heat = np.where(x[:, t, 5] > 0, np.clip(wanted, 0, 8000), 0.0)
        temperature = temperature + (heat - loss + 300 * x[:, t, 2]) / 4000
        co2 = co2 + 200 * x[:, t, 2] - (0.1 * x[:, t, 3] + 0.15 * x[:, t, 6] * x[:, t, 5]) * (co2 - 420)
        y[:, t] = np.stack([temperature, co2, heat, 500 * x[:, t, 5]], axis=1)
    return x.astype(np.float32), y.astype(np.float32)


@pytest.fixture(scope="session")
def toy_dataset() -> Dataset:
    """40 windows of 24 + 120 h, 8 of them for validation."""
    x, y = toy_windows(40, 144, np.random.default_rng(5))
    windows = pd.DataFrame(
        {
            "run": range(40),
            "climate": "toy",
            "start": pd.date_range("2021-01-04", periods=40, freq="7D", tz="UTC"),
            "kind": "schedule",
            "split": ["train"] * 32 + ["validation"] * 8,
        }
    )
    return Dataset(INPUTS, OUTPUTS, x, y, windows, 24, {"building": "toy_office", "core_hours": 0.01, "engine": "closed form"})


def random_network(config: NetworkConfig = SMALL, seed: int = 0) -> Network:
    """Return a network whose every weight matters: scaling of the toy office, weights far from their small start."""
    torch.manual_seed(seed)
    network = Network(INPUTS, OUTPUTS, config)
    network.scaling.fit(*toy_windows(8, 96, np.random.default_rng(1)))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return network.eval()


@pytest.fixture
def network() -> Network:
    """A small random network."""
    return random_network()


@pytest.fixture
def x_btc() -> np.ndarray:
    """Five scenarios of 100 h: not a whole number of blocks."""
    return toy_windows(5, 100, np.random.default_rng(2))[0]


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Bundle]:
    """A random network and the bundle exported from it (exporting takes seconds: once per session)."""
    folder: Path = tmp_path_factory.mktemp("bundle")
    network = random_network()
    export_graph(network, folder / "graph.onnx")
    bundle = write_bundle(
        network,
        folder,
        building="toy_office",
        warm_up_h=24,
        origin={"engine": "closed form"},
        accuracy={"zone_temperature_rmse_k": 1.0, "unjudged": float("nan")},
        by_output={name: {"rmse": 1.0, "r2": 0.5, "total_error_median": 0.1, "total_error_worst": 0.2} for name in OUTPUTS.names},
        core_hours={"training": 0.0},
        graph_gap=0.0,
        training={"n_weights_dense": 1},
    )
    return network, bundle
