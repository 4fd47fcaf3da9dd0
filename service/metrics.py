"""Prometheus metrics: base units in the names, one collector that asks the store when it is scraped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.guard import Guarded
from service.savings import KEY, own_day

if TYPE_CHECKING:
    from service.api import Sources

UNITS = {
    "degC": "celsius",
    "K": "kelvin",
    "W": "watts",
    "kWh": "kilowatt_hours",
    "Pa": "pascals",
    "m/s": "metres_per_second",
    "m3/h": "cubic_metres_per_hour",
    "m3/h.m2": "cubic_metres_per_hour_per_square_metre",
    "W/m2": "watts_per_square_metre",
    "ppm": "ppm",
    "kg/kg": "ratio",
    "1": "ratio",
    "": "ratio",
}
"""Names of inside units in metrics; an unknown one is spelt as it is."""


class _Service(Collector):
    """Everything of one scrape."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics, from what the store and the process know now."""
        s, store, now = self._sources, self._sources.store, self._sources.clock.now()
        live = s.live()
        info = InfoMetricFamily("setwise", "What runs here.")
        info.add_metric([], {"building": s.building.name, "bundle": str(s.config.building.bundle)})
        yield info
        yield _gauge("mqtt_connected", "1 while the broker is connected.", float(live.is_connected))
        for name, value in sorted(live.counters.items()):
            meaning = f"Counted by the running process: {name.removesuffix('_total').replace('_', ' ')}."
            if name.endswith("_total"):
                yield CounterMetricFamily(f"setwise_{name.removesuffix('_total')}", meaning, value=value)
            else:
                yield _gauge(name, meaning, value)
        refused = CounterMetricFamily("setwise_refused_messages", "Messages refused, by reason.", labels=["reason"])
        for r in store.refusals():
            refused.add_metric([r.reason], r.n)
        yield refused
        yield from self._readings(now)
        plan, calibration = store.plan_in_force(now), store.last_calibration(is_accepted=True)
        yield _gauge("plan_age_seconds", "Age of the plan in force.", None if plan is None else _seconds(now - plan.issued))
        age = None if calibration is None else _seconds(now - calibration.made)
        yield _gauge("calibration_age_seconds", "Age of the accepted calibration.", age)
        decided = s.decide()
        yield from self._setpoints(decided)
        yield from self._jobs()
        state = GaugeMetricFamily("setwise_part_ok", "1 while a part of /v1/status is ok.", labels=["part"])
        for part in s.parts(decided):
            state.add_metric([part.name], float(part.state == "ok"))
        yield state
        yield from self._savings()
        rows = GaugeMetricFamily("setwise_rows", "Rows of each table of the store.", labels=["table"])
        for table, n in s.rows().items():
            rows.add_metric([table], n)
        yield rows

    def _readings(self, now: pd.Timestamp) -> Iterable[Metric]:
        newest = self._sources.store.last(self._sources.points.measured.names, is_usable=False)
        age = GaugeMetricFamily("setwise_reading_age_seconds", "Age of the last reading of each variable.", labels=["variable"])
        good = GaugeMetricFamily("setwise_reading_ok", "1 while the last reading has no fault.", labels=["variable", "flag"])
        values: dict[str, GaugeMetricFamily] = {}
        for v in self._sources.points.measured:
            if (r := newest.get(v.name)) is None:
                continue
            age.add_metric([v.name], _seconds(now - r.stamp))
            good.add_metric([v.name, r.flag], float(r.flag == "good"))
            _by_unit(values, "reading", "Last reading of each variable", v.quantity.unit).add_metric([v.name], r.value)
        yield age
        yield good
        yield from values.values()

    def _setpoints(self, decided: Guarded) -> Iterable[Metric]:
        values: dict[str, GaugeMetricFamily] = {}
        for name, value in decided.settings.items():
            unit = self._sources.building.settings[name].quantity.unit
            _by_unit(values, "setpoint", "Settings in force after the guard", unit).add_metric([name], value)
        yield from values.values()

    def _savings(self) -> Iterable[Metric]:
        kept = self._sources.store.get(KEY) or {}
        saved = GaugeMetricFamily("setwise_savings_kilowatt_hours", "Of the last report, and its interval.", labels=["end"])
        share = GaugeMetricFamily("setwise_savings_ratio", "The same as a share of the baseline.", labels=["end"])
        for end, in_kwh, in_shares in (("saved", "saved_kwh", "saving"), *((e, f"saved_{e}_kwh", e) for e in ("low", "high"))):
            if kept.get(in_kwh) is not None:
                saved.add_metric([end], kept[in_kwh])
                share.add_metric([end], kept[in_shares])
        days = GaugeMetricFamily("setwise_savings_days", "Days that count, by side.", labels=["side"])
        for side in ("own", "plan") if kept else ():
            days.add_metric([side], kept[f"n_{side}"])
        s = self._sources
        is_own = bool(own_day(s.config.savings, s.building, s.clock.now()))
        yield from (
            saved,
            share,
            days,
            _gauge("switchback_own_day", "1 while a trial gives the day to the own schedule.", is_own),
        )

    def _jobs(self) -> Iterable[Metric]:
        duration = GaugeMetricFamily("setwise_job_duration_seconds", "Of the last job of each kind.", labels=["kind", "outcome"])
        peak = GaugeMetricFamily("setwise_job_peak_memory_bytes", "Of the last job of each kind.", labels=["kind"])
        seen: set[str] = set()
        for job in self._sources.store.jobs(limit=100):
            if job.kind in seen or job.ended is None:
                continue
            seen.add(job.kind)
            duration.add_metric([job.kind, job.outcome], _seconds(job.ended - job.started))
            if job.peak_mb is not None:
                peak.add_metric([job.kind], 1e6 * job.peak_mb)
        yield duration
        yield peak


def metrics_text(sources: Sources) -> str:
    """Return metrics in the Prometheus text format, those of the process (memory, processor time, open files) included."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Service(sources))
    with sources.store.moment():
        return generate_latest(registry).decode()


def _gauge(name: str, meaning: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"setwise_{name}", meaning, value=value)


def _by_unit(made: dict[str, GaugeMetricFamily], name: str, meaning: str, unit: str) -> GaugeMetricFamily:
    word = UNITS.get(unit) or "".join(c if c.isalnum() else "_" for c in unit)
    return made.setdefault(word, GaugeMetricFamily(f"setwise_{name}_{word}", f"{meaning} [{word}].", labels=["variable"]))


def _seconds(span: pd.Timedelta) -> float:
    return float(span.total_seconds())
