"""Is each part right, since when, and what comes next: for /v1/status, /readyz and the log, which speaks when a part changes.

`examine` looks; `Watch` remembers since when a part is as it is and says each change once.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import sqlalchemy as sa

from building.errors import SetwiseError
from service.config import Config
from service.points import Points
from service.retention import backups
from service.store import Store

log = logging.getLogger(__name__)

State = Literal["ok", "waiting", "degraded", "fault"]
LEAST_FREE_MB = 500
"""With less free disk a person should look: a store that cannot grow loses nothing, but learns nothing."""


@dataclass(frozen=True)
class Part:
    """One part of the service.

    Attributes:
        name: what.
        state: ``ok``; ``waiting`` for what will come by itself; ``degraded``: works with less; ``fault``: does not work.
        since: when it was first seen so (UTC); None before anybody looked twice.
        fact: what was found.
        next: what happens next, or what to do.
    """

    name: str
    state: State
    fact: str
    next: str
    since: pd.Timestamp | None = None


class Watch:
    """Remembers the state of each part; a change is one line in the log."""

    def __init__(self) -> None:
        self._known: dict[str, Part] = {}

    def look(self, parts: list[Part], now: pd.Timestamp) -> list[Part]:
        """Return the parts with `since`, and log what changed."""
        seen = []
        for part in parts:
            former = self._known.get(part.name)
            is_same = former is not None and former.state == part.state
            one = Part(part.name, part.state, part.fact, part.next, former.since if former is not None and is_same else now)
            if former is not None and not is_same:
                level = logging.INFO if part.state in ("ok", "waiting") else logging.WARNING
                log.log(level, "%s: %s, was %s. %s %s", part.name, part.state, former.state, part.fact, part.next)
            self._known[part.name] = one
            seen.append(one)
        return seen


def state_folder(config: Config) -> Path:
    """Return the nearest folder that exists on the way to the store's file, or to the token when the store is elsewhere."""
    url = sa.make_url(config.store.url.get_secret_value())
    path = Path(url.database or ".") if url.get_backend_name() == "sqlite" else config.api.token_file
    return next(p for p in path.absolute().parents if p.exists())


def examine(
    config: Config,
    points: Points,
    store: Store,
    now: pd.Timestamp,
    broker: tuple[bool, str],
    origin: str,
    due: Mapping[str, pd.Timestamp | None],
) -> list[Part]:
    """Look at every part; a fault in one does not hide the next.

    Args:
        config: limits.
        points: what should be heard.
        store: asked for what is newest.
        now: UTC.
        broker: whether it is connected, and its address.
        origin: of the settings in force: ``optimised`` or ``own``.
        due: by kind of job, when it runs next; None for never.
    """

    def coming(kind: str) -> str:
        return (
            f"the next {kind} is due {_short(when)}."
            if (when := due.get(kind)) is not None
            else f"ask for one: {kind} has no cadence."
        )

    looks: dict[str, Callable[[], Part]] = {
        "store": lambda: _store(store),
        "disk": lambda: _disk(config),
        "broker": lambda: Part("broker", "ok" if broker[0] else "fault", f"{broker[1]} {'connected' if broker[0] else 'away'}.",
                               "" if broker[0] else "The service connects again by itself; look at the broker and the network."),
        "readings": lambda: _readings(config, points, store, now),
        "calibration": lambda: _calibration(config, store, now, coming("calibration")),
        "plan": lambda: _plan(config, store, now, origin, coming("plan")),
        "jobs": lambda: _jobs(store, due),
        **({"weather": lambda: _weather(store, coming("weather"))} if config.weather.url.get_secret_value() else {}),
        "backup": lambda: _backup(config, coming("backup")),
    }  # fmt: skip
    parts = []
    for name, look in looks.items():
        try:
            parts.append(look())
        except (SetwiseError, OSError) as e:
            parts.append(Part(name, "fault", str(e), "Look at the disk and the database; the service goes on by itself."))
    return parts


def _store(store: Store) -> Part:
    store.get("schema_version")
    return Part("store", "ok", "it answers.", "")


def _disk(config: Config) -> Part:
    folder = state_folder(config)
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb >= LEAST_FREE_MB:
        return Part("disk", "ok", f"{free_mb} MB free in {folder}.", "")
    return Part("disk", "degraded", f"{free_mb} MB free in {folder}, at least {LEAST_FREE_MB} MB are wanted.", "Free some space.")


def _readings(config: Config, points: Points, store: Store, now: pd.Timestamp) -> Part:
    names = points.measured.names
    newest = store.last(names)
    if not newest:
        return Part(
            "readings",
            "waiting",
            "nothing was heard yet.",
            "They come with the first messages; 'setwise commission' lists the points.",
        )
    limit = now - pd.Timedelta(hours=config.guard.max_data_age_h)
    silent = [n for n in names if n not in newest or newest[n].stamp < limit]
    last = _short(max(r.stamp for r in newest.values()))
    limit_h = f"{config.guard.max_data_age_h:g} h"
    fact = f"{len(names) - len(silent)} of {len(names)} points heard within {limit_h}, the last {last}."
    if not silent:
        return Part("readings", "ok", fact, "")
    state: State = "fault" if len(silent) == len(names) else "degraded"
    shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
    return Part("readings", state, fact, f"Silent: {shown}. 'setwise commission' lists every point.")


def _calibration(config: Config, store: Store, now: pd.Timestamp, coming: str) -> Part:
    accepted, last = store.last_calibration(is_accepted=True), store.last_calibration()
    if accepted is None:
        told = "none was accepted yet" if last is not None else "none was made yet"
        return Part(
            "calibration",
            "waiting",
            f"{told}; it needs about {config.jobs.history_h} h of readings.",
            f"Until then the own schedule; {coming}",
        )
    age_h = (now - accepted.made) / pd.Timedelta(hours=1)
    fact = f"accepted {_short(accepted.made)}, {age_h:.0f} h ago."
    if age_h > config.guard.max_calibration_age_h:
        return Part(
            "calibration",
            "fault",
            f"{fact} At most {config.guard.max_calibration_age_h:g} h are trusted.",
            f"The own schedule rules; {coming}",
        )
    if last is not None and last.state == "refused":
        return Part(
            "calibration",
            "degraded",
            f"{fact} The one of {_short(last.made)} was refused.",
            f"See /v1/calibration for why; {coming}",
        )
    return Part("calibration", "ok", fact, _begun(coming))


def _plan(config: Config, store: Store, now: pd.Timestamp, origin: str, coming: str) -> Part:
    plan = store.plan_in_force(now)
    if plan is None:
        return Part("plan", "waiting", "none covers this hour.", f"Until then the own schedule; {coming}")
    fact = f"issued {_short(plan.issued)}, until {_short(plan.plan.end)}."
    if origin != "optimised":
        return Part("plan", "degraded", f"{fact} It is not followed: see guard_notes.", _begun(coming))
    return Part("plan", "ok", fact, _begun(coming))


def _jobs(store: Store, due: Mapping[str, pd.Timestamp | None]) -> Part:
    failed = []
    for kind in due:
        last = next((j for j in store.jobs(kind, limit=2) if j.outcome != "running"), None)
        if last is not None and last.outcome in ("failed", "timed_out"):
            failed.append(f"{kind} {last.id} {last.outcome.replace('_', ' ')}: {(last.log.strip().splitlines() or [''])[-1]}")
    coming = sorted((when, kind) for kind, when in due.items() if when is not None)
    then = f"Next: {coming[0][1]} {_short(coming[0][0])}." if coming else "No job has a cadence."
    return Part("jobs", "degraded" if failed else "ok", " ".join(failed) or "the last of each kind did not fail.", then)


def _weather(store: Store, coming: str) -> Part:
    last = next((j for j in store.jobs("weather", limit=2) if j.outcome != "running"), None)
    if last is None:
        return Part("weather", "waiting", "the service was not asked yet.", _begun(coming))
    return Part("weather", "ok" if last.outcome == "done" else "degraded", last.log or last.outcome, _begun(coming))


def _backup(config: Config, coming: str) -> Part:
    found = backups(config.store.backups)
    if not found:
        return Part("backup", "waiting", f"none in {config.store.backups}.", _begun(coming))
    made = pd.Timestamp(found[-1].stat().st_mtime, unit="s", tz="UTC")
    return Part("backup", "ok", f"{found[-1]}, written {_short(made)}.", _begun(coming))


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _short(instant: pd.Timestamp) -> str:
    return f"{instant:%Y-%m-%d %H:%M}Z"
