"""The variants of a graph: each has its time beside the shipped one, and what it costs in error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import latency, variants

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "medium_office"


def test_every_variant_has_its_time_and_its_error_and_the_shipped_graph_has_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(variants, "ROUNDS", 1)
    monkeypatch.setattr(latency, "GENERATION", 10)
    variants.main([str(BUNDLE), "--json"])
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["variants"]  # NaN is no JSON
    assert {"float32", "int8", "float16", "threads_2", "chunk_1700_h"} <= set(found)
    assert found["float32"]["largest_gap"] == 0.0 and found["float32"]["over_float32"] == 1.0
    assert found["int8"]["mean_gap"] > 1e-4  # eight bits are not the same numbers
    assert (found["float16"]["largest_gap"] is None) == (found["float16"]["not_finite"] > 0)  # what overflows has no error
    assert found["int8"]["mb"] < found["float32"]["mb"]
