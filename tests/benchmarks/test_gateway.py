from __future__ import annotations

import json
import os

import pytest

from benchmarks.gateway import figures_line, measure
from proof.broker import find_mosquitto


@pytest.mark.slow
@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the service has a core of its own")
def test_gateway_benchmark_counts_every_reading_and_reads_every_route() -> None:
    cores = os.sched_getaffinity(0)
    try:
        found = measure(rate=300, seconds=6, total=0, quiet_s=2)
    finally:
        os.sched_setaffinity(0, cores)
    assert found["readings"] == 1800 and found["lost"] == 0
    assert found["commits_per_s"] < 2 and found["mb_written_per_million_quiet"] > found["mb_written_per_million"] > 0
    assert {f"p99_{route}_ms" for route in ("status", "zones", "points", "setpoints", "series", "healthz")} <= set(found)
    assert max(found[key] for key in found if key.startswith("p99_")) <= found["api_max_ms"]


def test_figures_are_told_as_pairs_or_as_one_object() -> None:
    assert figures_line({"lost": 0, "readings": 1_000_000.0}, is_json=False) == "lost=0 readings=1000000"
    assert json.loads(figures_line({"lost": 0}, is_json=True)) == {"lost": 0}
