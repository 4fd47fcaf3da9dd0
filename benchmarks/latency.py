"""Latency of a bundle: CPU milliseconds per window on one thread, by batch size, beside what the machine's matrix product allows.

    python -m benchmarks latency bundles/medium_office

The lower bound is the time of the matrix products with weights alone, at the speed a large float32 product reaches on this
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from building.variables import Signature
from models.runtime.bundle import load_bundle
from models.runtime.session import OnnxPredictor

WINDOW_H = 840


def middle_scenarios(inputs: Signature, batch: int, hours: int, rng: np.random.Generator) -> np.ndarray:
    """Return scenarios around the middle of every input's bounds, shape (batch, hours, inputs): what is in them does not
    change the time.
    """
    low, high = np.array([v.low for v in inputs]), np.array([v.high for v in inputs])
    return np.asarray(low + (high - low) * rng.uniform(0.4, 0.6, (batch, hours, len(inputs))))


def cpu_ms(call: Callable[[], object], at_least_s: float = 1.0) -> float:
    """Return CPU milliseconds (user + system, all threads) per call, the best of five rounds."""
    call()
    best, rounds = float("inf"), 5
    for _ in range(rounds):
        n, mark, start_s = 0, time.process_time(), time.monotonic()
        while time.monotonic() - start_s < at_least_s / rounds:
            call()
            n += 1
        best = min(best, (time.process_time() - mark) / n)
    return best * 1e3


def gemm_gflops(size: int = 512) -> float:
    """Return the GFLOP per CPU second of a float32 matrix product with numpy."""
    a = np.ones((size, size), dtype=np.float32)
    return 2 * size**3 / (cpu_ms(lambda: a @ a) * 1e6)


def measure(folder: Path, batches: list[int], seed: int = 0) -> dict[str, float]:
    """Return milliseconds per window of `WINDOW_H` hours by batch size, and the bound set by the matrix products."""
    bundle = load_bundle(folder)
    predictor = OnnxPredictor(bundle, n_threads=1)
    rng = np.random.default_rng(seed)
    figures: dict[str, float] = {}
    for batch in batches:
        x_btc = middle_scenarios(bundle.inputs, batch, WINDOW_H, rng)
        figures[f"ms_per_window_batch_{batch}"] = cpu_ms(partial(predictor.predict, x_btc)) / batch
    figures["gemm_gflops"] = gemm_gflops()
    figures["gemm_bound_ms"] = 2 * bundle.facts["n_weights"] * WINDOW_H / figures["gemm_gflops"] / 1e6
    return figures


def main(arguments: list[str]) -> None:
    """Measure and print one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batches", default="1,2,8,32,128", help="batch sizes, comma separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    figures = measure(chosen.bundle, [int(b) for b in chosen.batches.split(",")], chosen.seed)
    machine = f"{platform.machine()}-{os.cpu_count()}-cores"
    if chosen.json:
        print(json.dumps({"machine": machine, **figures}))
    else:
        print(f"machine={machine} " + " ".join(f"{k}={v:.4g}" for k, v in figures.items()))
