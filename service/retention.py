"""What the store keeps, for how long and how fine; and copies of it. Two kinds of job, run in a child like the others.

Compaction takes steps that are whole each (a variable and a month in one transaction): a kill in the middle leaves every reading
once, raw or in its summary. A backup is complete under its name or not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from service.config import Config, StoreSection
from service.store import SqlStore, Store

STEADY = pd.Timedelta(days=1)
"""Compaction by cadence waits until the clock went on without a jump for so long: one that jumped ahead must delete nothing."""
_PREFIX, _SUFFIX = "setwise-", ".backup"


def compact(store: Store, config: StoreSection, now: pd.Timestamp) -> dict[str, int]:
    """Compact and forget by age; return how many rows became summaries of 15 min, hourly ones, and went for good."""

    def ago(days: float) -> pd.Timestamp:
        return now - pd.Timedelta(days=days)

    forgotten = store.forget(ago(config.keep_days), ago(config.forecast_days))  # first: what goes need not be summed up
    return {
        "forgotten": forgotten,
        "quarters": store.compact(ago(config.raw_days), 15),
        "hours": store.compact(ago(config.quarter_days), 60),
    }


def backup(store: Store, folder: Path, kept: int, now: pd.Timestamp) -> Path:
    """Make a backup named after `now` and delete the oldest beyond `kept`; return its file.

    Raises:
        StoreError: see `SqlStore.backup`; the older backups stay.
    """
    file = folder / f"{_PREFIX}{now:%Y%m%dT%H%M%SZ}{_SUFFIX}"
    store.backup(file)
    for old in backups(folder)[:-kept]:
        old.unlink(missing_ok=True)
    return file


def backups(folder: Path) -> list[Path]:
    """Return the backups in a folder, oldest first."""
    return sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"))


def compaction_job(config: Config, now: pd.Timestamp, _open_predictor: object = None) -> Mapping[str, Any]:
    """Body of a compaction."""
    store = SqlStore(config.store.url.get_secret_value())
    try:
        n = compact(store, config.store, now)
    finally:
        store.close()
    return {"said": f"{n['quarters']} readings became 15 min, {n['hours']} rows hourly, {n['forgotten']} were forgotten."}


def backup_job(config: Config, now: pd.Timestamp, _open_predictor: object = None) -> Mapping[str, Any]:
    """Body of a backup."""
    store = SqlStore(config.store.url.get_secret_value())
    try:
        file = backup(store, config.store.backups, config.store.backups_kept, now)
    finally:
        store.close()
    return {"said": f"{file}, {file.stat().st_size / 1e6:.1f} MB."}
