"""Sites to test the service on: four weeks lived by the two-node building, as readings; the same dressed up as the office; and an
office whole: measured in EnergyPlus (examples/measured.csv), calibrated and planned by the shipped bundle."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from building.description import Building, load_building
from building.scenario import Scenario
from building.variables import Role
from service import operations
from service.config import Config, load_config
from service.store import Reading, Store
from simulation.rc import RcPredictor

if TYPE_CHECKING:
    from fastapi import FastAPI

    from calibration.search import Budget

NOW = pd.Timestamp("2026-02-02T15:10Z")  # Monday, 09:10 in Chicago
HISTORY_H = 672
OFFICE_NOW = pd.Timestamp("2026-03-03T16:10Z")  # Tuesday, 10:10 in Chicago; examples/measured.csv goes on for 14 hours
ROOT = Path(__file__).parent.parent.parent
QUICK: Budget | None = None
"""A calibration good enough to look at."""


def open_rc(_config: Config) -> RcPredictor:
    """Make the predictor of a job's child."""
    return RcPredictor(load_building("two_node"))


def hanging_rc(_config: Config) -> RcPredictor:
    """A predictor that never comes up."""
    import time

    time.sleep(600)
    raise AssertionError


def two_node_config(folder: Path, **environ: str) -> Config:
    """Return a configuration of the two-node building in `folder`; the broker's port is closed."""
    points = folder / "points.toml"
    building = load_building("two_node")
    lines = ['building = "two_node"', "[points]"]
    lines += [
        f'{v.name} = {{ topic = "site/{v.name}", value = "value", time = "time" }}'
        for v in (*building.inputs, *building.outputs)
        if v.role is not Role.PARAMETER
    ]
    lines += ["[commands]", *(f'{n} = {{ topic = "site/{n}/set" }}' for n in building.settings.names)]
    points.write_text("\n".join(lines))
    told = {
        "SETWISE_BUILDING__NAME": "two_node",
        "SETWISE_BUILDING__POINTS": str(points),
        "SETWISE_STORE__URL": f"sqlite:///{folder / 'setwise.db'}",
        "SETWISE_API__TOKEN_FILE": str(folder / "token"),
        "SETWISE_API__FAILED_ATTEMPTS": "100000",  # tests of access set their own
        "SETWISE_MQTT__PORT": "9",
        "SETWISE_JOBS__CALIBRATION": "never",
        "SETWISE_JOBS__PLAN": "never",
        "SETWISE_JOBS__COMPACTION": "never",
        "SETWISE_JOBS__BACKUP": "never",
        "SETWISE_JOBS__SAVINGS": "never",
        "SETWISE_JOBS__WEATHER": "never",
        "SETWISE_STORE__BACKUPS": str(folder / "backups"),
    }
    return load_config(None, told | {f"SETWISE_{k.upper()}": v for k, v in environ.items()})


def lived(now: pd.Timestamp = NOW, hours: int = HISTORY_H, seed: int = 1) -> pd.DataFrame:
    """Return hourly readings of a two-node building with leaky windows, run by its own schedule, up to `now`."""
    building = load_building("two_node")
    predictor = RcPredictor(building)
    rng = np.random.default_rng(seed)
    index = pd.date_range(now.floor("h") - pd.Timedelta(hours=hours), periods=hours, freq="h")
    h = np.arange(hours) + index[0].hour
    drift = np.cumsum(rng.normal(0, 0.35, hours))
    sun = np.clip(np.sin(2 * np.pi * (h - 12) / 24), 0, None) * np.repeat(rng.uniform(0.2, 1, hours // 24 + 1), 24)[:hours]
    outdoor = 1 + drift - drift.mean() + 4 * np.sin(2 * np.pi * (h - 15) / 24)
    weather = {
        "outdoor_air_temperature": outdoor,
        "outdoor_air_humidity_ratio": 0.003 + 0.0001 * np.clip(outdoor, -10, 20),
        "direct_normal_irradiance": 700 * sun,
        "diffuse_horizontal_irradiance": 130 * np.sqrt(sun),
    }
    own = building.own_schedule().unroll(index, building.site.time_zone)
    series = pd.concat([pd.DataFrame(weather, index=index), own], axis=1)
    truth = {**building.parameter_space.defaults(), "infiltration": 1.6, "window_u_factor": 3.9}
    y_to = predictor.predict(Scenario.from_frame(predictor.inputs, series, truth).values[None])[0]
    outputs = pd.DataFrame(y_to, index=index, columns=list(predictor.outputs.names))
    for v in predictor.outputs:
        noise = {"temperature": 0.1, "co2": 15.0}.get(v.quantity.name, 0.0) + 0.02 * (v.quantity.name == "power") * outputs[
            v.name
        ]
        outputs[v.name] = (outputs[v.name] + noise * rng.standard_normal(hours)).clip(v.low, v.high)
    return pd.concat([series, outputs], axis=1)


def as_office(frame: pd.DataFrame, office: Building, seed: int = 2) -> pd.DataFrame:
    """Return the frame with the two-node zone spread over the office's fifteen, powers scaled by floor area."""
    rng = np.random.default_rng(seed)
    hours = np.arange(len(frame))
    columns = {c: frame[c] for c in frame if not c.startswith("zone_")}
    for v in office.outputs.having(Role.CONSUMPTION):
        columns[v.name] = frame[v.name] * 5
    for zone in office.zones:
        offset, swing = rng.normal(0.2, 0.7), rng.uniform(0, 0.8)
        sun = np.clip(np.sin(2 * np.pi * (hours - rng.integers(8, 16)) / 24), 0, None)
        columns[f"{zone.name}_air_temperature"] = frame["zone_air_temperature"] + offset + swing * sun
        columns[f"{zone.name}_co2"] = 420 + (frame["zone_co2"] - 420) * rng.uniform(0.7, 1.4)
    columns["wind_speed"] = pd.Series(rng.uniform(1, 7, len(frame)), frame.index)
    columns["outdoor_air_pressure"] = pd.Series(98900.0, frame.index)
    return pd.DataFrame(columns)


def fill(store: Store, frame: pd.DataFrame) -> None:
    """Put a frame into a store as readings."""
    store.add_readings([Reading(str(c), t, float(v), t) for c in frame for t, v in frame[c].items() if np.isfinite(v)])


def office_config(folder: Path, **environ: str) -> Config:
    """Return a configuration of the medium office in `folder`, with the shipped bundle; the broker's port is closed."""
    never = {f"SETWISE_JOBS__{job}": "never" for job in ("CALIBRATION", "PLAN", "COMPACTION", "BACKUP")}
    told = {
        "SETWISE_BUILDING__BUNDLE": str(ROOT / "bundles" / "medium_office"),
        "SETWISE_STORE__URL": f"sqlite:///{folder / 'setwise.db'}",
        "SETWISE_STORE__BACKUPS": str(folder / "backups"),
        "SETWISE_API__TOKEN_FILE": str(folder / "token"),
        "SETWISE_API__PORT": "0",
        "SETWISE_MQTT__PORT": "9",
    }
    return load_config(None, told | never | {f"SETWISE_{k.upper()}": v for k, v in environ.items()})


def furnish(store: Store, config: Config, budget: Budget | None = QUICK, n_plans: int = 40, generations: int = 14) -> None:
    """Make an office of a store as it is after four weeks: readings, a forecast, a calibration, a plan."""
    from calibration.search import Budget  # here: a service under test reads this file too, and must stay without cma and scipy

    budget = budget or Budget(population=12, max_evaluations=240, max_restarts=0)
    building, predictor = load_building("medium_office"), operations.open_bundle(config)
    measured, week = (
        pd.read_csv(ROOT / "examples" / name, index_col="time", parse_dates=True) for name in ("measured.csv", "week.csv")
    )
    hours = pd.DatetimeIndex(measured.index)
    fill(store, measured[hours <= OFFICE_NOW])
    coming = pd.concat([measured.loc[hours > OFFICE_NOW, list(week)].interpolate(limit_direction="both"), week])
    store.add_forecast(coming, OFFICE_NOW - pd.Timedelta(hours=9))
    fitted = operations.recalibrate(store, building, predictor, config, OFFICE_NOW - pd.Timedelta(hours=8), budget)
    operations.enter_calibration(store, store.start_job("calibration", OFFICE_NOW), fitted, OFFICE_NOW)
    planned = operations.replan(store, building, predictor, config, OFFICE_NOW - pd.Timedelta(hours=7), n_plans, generations)
    operations.enter_plan(store, store.start_job("plan", OFFICE_NOW), planned, OFFICE_NOW)


@contextmanager
def web(api: FastAPI) -> Iterator[str]:
    """Serve an API on a free port of this process; yields its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(api, port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
