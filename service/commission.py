"""The commissioning report: every point, one line, with its last value and whether it does what a point must.

It reads the store, so it runs beside the service: touch a sensor, look at its line; turn a setpoint, look for its echo.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from building.description import Building
from service.config import Config
from service.points import Points
from service.quality import UNUSABLE, may_stick
from service.store import Store

MOVES_WITHIN = pd.Timedelta(days=1)
"""A sensor that showed one single value for so long is worth a look."""


@dataclass(frozen=True)
class PointReport:
    """One point. `verdict`: ``pass``, ``look`` (a person should) or ``fail``; `finding` says why."""

    point: str
    topic: str
    value: float | None
    unit: str
    age_s: float | None
    flag: str
    verdict: str
    finding: str


def commission(config: Config, building: Building, points: Points, store: Store, now: pd.Timestamp) -> list[PointReport]:
    """Return a line for every measured point and every command.

    A measured point passes when it was heard within `guard.max_data_age_h`, its last reading has no fault, and it moved within a
    day. A command passes when its last setpoint was acknowledged by the BMS (or sent, where no echo is configured).
    """
    return [*_measured(config, points, store, now), *_commands(building, points, store, now)]


def _measured(config: Config, points: Points, store: Store, now: pd.Timestamp) -> list[PointReport]:
    newest = store.last(points.measured.names, is_usable=False)
    lately = store.series(points.measured.names, now - MOVES_WITHIN, now + pd.Timedelta(hours=1), is_usable=False)
    reports = []
    for v in points.measured:
        topic, unit = points.facts.points[v.name].topic, v.quantity.unit
        r = newest.get(v.name)
        if r is None:
            reports.append(PointReport(v.name, topic, None, unit, None, "", "fail", "never heard: topic, sender, subscription"))
            continue
        age = now - r.stamp
        seen = lately[v.name].dropna()
        verdict, finding = "pass", ""
        if age > pd.Timedelta(hours=config.guard.max_data_age_h):
            verdict, finding = "fail", f"silent for {age / pd.Timedelta(hours=1):.0f} h"
        elif r.flag in UNUSABLE:
            verdict, finding = "fail", r.flag.replace("_", " ")
        elif not v.low <= r.value <= v.high:
            verdict, finding = "fail", f"outside {v.low:g} .. {v.high:g} {unit}"
        elif len(seen) > 1 and seen.nunique() == 1 and may_stick(v) and r.value != 0:
            verdict, finding = "look", f"one value in {len(seen)} readings of a day"
        elif r.flag != "good":
            verdict, finding = "look", r.flag
        reports.append(PointReport(v.name, topic, r.value, unit, age.total_seconds(), r.flag, verdict, finding))
    return reports


def _commands(building: Building, points: Points, store: Store, now: pd.Timestamp) -> list[PointReport]:
    sent = store.last_publications()
    reports = []
    for name, command in points.commands.items():
        unit, one = building.settings[name].quantity.unit, sent.get(name)
        if one is None:
            reports.append(PointReport(name, command.topic, None, unit, None, "", "look", "never sent (mode watch or advise?)"))
            continue
        is_enough = one.state in ("sent", "replaced") and command.echo is None
        verdict, finding = ("pass", "") if one.state == "acknowledged" else ("look", str(one.state))
        if is_enough:
            verdict, finding = "pass", "sent; no echo topic to confirm it"
        if one.state == "unconfirmed":
            verdict, finding = "fail", "the BMS did not echo it"
        age_s = (now - one.made).total_seconds()
        reports.append(PointReport(name, command.topic, one.value, unit, age_s, one.state, verdict, finding))
    return reports
