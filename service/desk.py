"""The service's planning on files instead of MQTT: what it would plan, had it measured this. For people at a desk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from building.description import Building
from building.predictor import Predictor
from building.timeline import check_steps
from building.variables import Role
from service import operations
from service.config import Config, JobsSection
from service.store import Reading, SqlStore


def replan(
    predictor: Predictor,
    building: Building,
    measured: pd.DataFrame,
    calibration: Mapping[str, Any] | None = None,
    forecast: pd.DataFrame | None = None,
    *,
    hours: int = 168,
    seed: int = 0,
) -> dict[str, Any]:
    """Plan the hours after a measured frame, exactly as the service does.

    Args:
        predictor: what answers.
        building: names, site, limits.
        measured: hourly, UTC, inside units; what is no variable of the building is ignored, NaN is a silent sensor.
        calibration: `Calibration.to_dict`; None plans with default parameters.
        forecast: hourly weather and occupancy from the end of `measured` on; what it lacks follows the stated rules.
        hours: how far to plan.
        seed: of the search.

    Returns:
        ``plan``, ``front`` and ``predicted``, see `operations.replan`.

    Raises:
        IrregularTimeError: a frame that is not hourly UTC. TooFewDataError: see `operations.replan`.
    """
    for what, frame in (("the measured frame", measured), ("the forecast", forecast)):
        if frame is not None:
            check_steps(frame.index, 60, what)
    now = pd.Timestamp(str(measured.index[-1])) + pd.Timedelta(hours=1)
    known = {v.name for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER}
    readings = [
        Reading(str(name), stamp, float(value), now)
        for name in measured.columns.intersection(list(known))
        for stamp, value in zip(pd.DatetimeIndex(measured.index), measured[name], strict=True)
        if math.isfinite(value)
    ]
    history_h = max(len(measured), JobsSection().history_h)
    config = Config(jobs=JobsSection(seed=seed, horizon_h=hours, history_h=history_h))
    with TemporaryDirectory(prefix="setwise-") as folder:
        store = SqlStore(f"sqlite:///{Path(folder) / 'desk.db'}")
        try:
            store.add_readings(readings)
            if forecast is not None:
                store.add_forecast(forecast[[n for n in forecast.columns if n in known]], now)
            if calibration is not None:
                store.add_calibration(calibration, now, is_accepted=True)
            return operations.replan(store, building, predictor, config, now)
        finally:
            store.close()
