"""What the store keeps, for how long and how fine; and copies of it. Two kinds of job, run in a child like the others.

Compaction takes steps that are whole each (a variable and a month in one transaction): a kill in the middle leaves every reading
once, raw or in its summary. A backup is complete under its name or not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from building.errors import StoreError
from service.config import Config, StoreSection
from service.store import SqlStore, Store

STEADY = pd.Timedelta(days=1)
"""Compaction by cadence waits until the clock went on without a jump for so long: one that jumped ahead must delete nothing."""
_KEPT_EVERY, _KEY = pd.Timedelta(hours=1), "steady"
_PREFIX, _SUFFIX = "setwise-", ".backup"


class Steadiness:
    """Whether our clock has gone on for `STEADY` without a jump of that length or a step back.

    Kept in the store, so that a service that is started anew each day compacts all the same; a stop counts as time gone by.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._since: pd.Timestamp | None = None
        self._until: pd.Timestamp | None = None
        self._kept: pd.Timestamp | None = None

    def look(self, now: pd.Timestamp) -> bool:
        """Return whether it has; call it again and again."""
        if self._since is None or self._until is None:
            self._since, self._until = self._read() or (now, now)
        if not pd.Timedelta(0) <= now - self._until < STEADY:
            self._since, self._kept = now, None
        self._until = now
        if self._kept is None or now - self._kept >= _KEPT_EVERY:
            self._write()
        return now - self._since >= STEADY

    def _read(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        try:
            since, until = (pd.Timestamp(text) for text in self._store.get(_KEY) or ())
        except (StoreError, ValueError, TypeError):
            return None
        return None if since.tzinfo is None or until.tzinfo is None else (since, until)

    def _write(self) -> None:
        if self._since is not None and self._until is not None:
            with contextlib.suppress(StoreError):  # it is tried again
                self._store.put(_KEY, [self._since.isoformat(), self._until.isoformat()])
                self._kept = self._until


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
