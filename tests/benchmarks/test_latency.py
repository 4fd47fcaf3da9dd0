"""The latency benchmark: its keys, what its roofline counts, and what it says where it cannot measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import latency
from building.units import CO2, POWER
from models.network import LOG_RATIO
from models.runtime.bundle import load_bundle

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "medium_office"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def once(call: Callable[[], object], at_least_s: float = 1.0) -> float:
        call()
        return 1.0

    monkeypatch.setattr(latency, "cpu_ms", once)
    monkeypatch.setattr(latency, "N_PLANS", 20)
    monkeypatch.setattr(latency, "GENERATION", 10)


def test_every_figure_has_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    latency.main([str(BUNDLE), "--batches", "1,2", "--energyplus-runs", "0", "--profile"])
    said = capsys.readouterr()
    facts = dict(pair.split("=") for pair in said.out.splitlines()[-1].split())
    wanted = {
        "ms_per_window_batch_1",
        "ms_per_window_batch_2",
        "thousand_plans_s",
        "shared_past_ratio",
        "peak_mb",
        "gflops_share",
    }
    assert wanted <= set(facts)
    assert 0.05 < float(facts["shared_past_ratio"]) < 1, "three quarters of a window are its past"
    assert 50 < float(facts["peak_mb"]) < 1000
    assert "speedup" not in facts and "speedup skipped: no runs asked for" in said.err
    assert "Gemm" in said.out and "RMSNormalization" in said.out


def test_without_energyplus_the_speedup_is_skipped_with_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> float:
        raise ImportError("pyenergyplus")

    monkeypatch.setattr(latency, "energyplus_speedup", absent)
    monkeypatch.setattr(latency, "peak_mb", lambda folder: 1.0)
    latency.main([str(BUNDLE), "--batches", "1"])
    said = capsys.readouterr()
    assert "speedup skipped: EnergyPlus is not installed" in said.err and "thousand_plans_s=" in said.out


def test_the_roofline_counts_every_product_of_hours_with_weights_once() -> None:
    bundle = load_bundle(BUNDLE)
    shape = bundle.facts["network"]
    d, p, e = shape["d_model"], shape["n_products"], shape["head_width"]
    g, r = shape["n_memories"], shape["n_memories"] * shape["memory_width"]
    logged = sum(v.low > 0 and v.high / v.low >= LOG_RATIO for v in bundle.inputs)  # these have a second column, see `Deployed`
    squared = sum(v.quantity.name in (POWER.name, CO2.name) for v in bundle.outputs)  # these have a head of their own
    weights = (len(bundle.inputs) + logged) * (d + 2 * p) + p * d + d * len(bundle.outputs) + squared * (d + len(bundle.outputs))
    for heads, units in zip(shape["n_heads"], shape["n_ffn"], strict=True):
        weights += d * (3 * heads * e + r + g) + (heads * e + r) * d + 2 * d * units
    hours = 3 * 2 * bundle.block_h
    x_btc = latency.middle_scenarios(bundle.inputs, 3, 2 * bundle.block_h, np.random.default_rng(0))
    found = latency.roofline(bundle, latency.profile(bundle.graph, x_btc, runs=1), x_btc)
    assert found["gflops"] * 1e6 == pytest.approx(2 * weights * hours)  # the graph is said to take one millisecond
