"""Latency of a bundle: CPU time of windows and of a thousand plans, beside EnergyPlus and beside matrix products.

    python -m benchmarks latency [bundles/medium_office] [--profile]

One thread, CPU time (user + system), best of some rounds, since other work on a machine only ever adds. What is printed:

ms_per_window_batch_N   milliseconds per window of 840 h in batches of N.
thousand_plans_s        seconds for 1,000 plans of 168 h after a shared past of 504 h, as a search asks: the past given once, then
                        ten generations of 100 plans.
shared_past_ratio       that over predicting the same 1,000 plans as whole windows of 672 h.
speedup                 EnergyPlus seconds per window of 840 h over ours, assembly of scenarios from frames counted.
peak_mb                 most memory ever resident [1e6 bytes] in a fresh process that opens the bundle and answers those plans.
gflops, gflops_share    a roofline: operations of the products of hours with weights (the Gemm nodes of the optimised graph; the
                        small products inside attention and memory are left out) over the CPU time of the whole graph; and that
                        as a share of what numpy reaches on float32 products of the same sizes, one after the other. 1 would be
                        a graph that does nothing but those, as fast as numpy.
gemm_gflops, gemm_bound_ms   what a large float32 product reaches, and the least time of a window's weights at that speed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd

from building.errors import BadDatasetError
from building.scenario import Scenario
from building.variables import Signature
from models.runtime.bundle import Bundle, load_bundle
from models.runtime.session import INPUTS, OUTPUTS, OnnxPredictor, no_past, open_graph

WINDOW_H = 840
PAST_H, FUTURE_H = 504, 168
N_PLANS, GENERATION = 1000, 100


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
        while time.monotonic() - start_s < at_least_s / rounds or n == 0:
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


def past_and_plans(inputs: Signature, rng: np.random.Generator) -> tuple[Scenario, np.ndarray]:
    """Return a past of `PAST_H` hours and one generation of plans, shape (`GENERATION`, `FUTURE_H`, inputs)."""
    index = pd.date_range("2021-01-04", periods=PAST_H, freq="h", tz="UTC")
    past = Scenario(inputs, index, middle_scenarios(inputs, 1, PAST_H, rng)[0])
    return past, middle_scenarios(inputs, GENERATION, FUTURE_H, rng)


def answer_plans(predictor: OnnxPredictor, past: Scenario, plans_btc: np.ndarray) -> None:
    """Answer `N_PLANS` plans as a search does: the past given once, then generation after generation."""
    given = predictor.given(past)
    for _ in range(N_PLANS // GENERATION):
        given.predict(plans_btc)


def shared_past(predictor: OnnxPredictor, seed: int = 0, rounds: int = 5) -> dict[str, float]:
    """Return `thousand_plans_s` and `shared_past_ratio`; rounds of both in turn, so that other work troubles both alike."""
    past, plans = past_and_plans(predictor.inputs, np.random.default_rng(seed))
    windows = np.concatenate([np.broadcast_to(past.values, (GENERATION, *past.values.shape)), plans], axis=1)
    given_s = whole_s = float("inf")
    for _ in range(rounds):
        mark = time.process_time()
        answer_plans(predictor, past, plans)
        middle = time.process_time()
        for _ in range(N_PLANS // GENERATION):
            predictor.predict(windows)
        given_s, whole_s = min(given_s, middle - mark), min(whole_s, time.process_time() - middle)
    return {"thousand_plans_s": given_s, "shared_past_ratio": given_s / whole_s}


def peak_mb(folder: Path) -> float:
    """Return the most memory ever resident [MB] in a fresh process that opens the bundle and answers `N_PLANS` plans."""
    child = [sys.executable, "-c", "import sys; from benchmarks.latency import _say_peak; _say_peak(sys.argv[1])", str(folder)]
    root = Path(__file__).resolve().parents[1]
    return float(subprocess.run(child, cwd=root, check=True, capture_output=True, text=True).stdout)


def _say_peak(folder: str) -> None:
    predictor = OnnxPredictor(load_bundle(folder))
    answer_plans(predictor, *past_and_plans(predictor.inputs, np.random.default_rng(0)))
    # Not ru_maxrss, which a child inherits from the process that started it.
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    print(int(line.split()[1]) * 1024 / 1e6)


def energyplus_speedup(folder: Path, runs: int, seed: int = 0) -> float:
    """Return EnergyPlus CPU seconds per window of `WINDOW_H` h over ours, over fresh runs as `setwise evaluate` draws them.

    Raises:
        ImportError: no EnergyPlus on this machine. BadDatasetError: no run succeeded.
    """
    import pyenergyplus  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    from building.description import load_building
    from proof.fresh import _cpu_s_of, simulate_all
    from simulation.campaign import Campaign

    bundle = load_bundle(folder)
    building = load_building(bundle.building)
    campaign = Campaign(bundle.building, runs, 1, seed=20_000 + seed, held_out=True)
    found = simulate_all({"fresh": campaign}, building, None, lambda *_: None)["fresh"]
    if not len(found.x_nti):
        raise BadDatasetError(path=folder, reason=f"no fresh run succeeded. The first failure: {found.failures[0][1]}")
    return sum(found.cpu_s) / _cpu_s_of(OnnxPredictor(bundle), building.inputs.names, found.x_nti)


Node = tuple[str, float, tuple[int, ...], tuple[int, ...]]
"""Of one node of a graph: operator, microseconds, shape of its first input and of its first output."""


def profile(graph: Path, x_btc: np.ndarray, runs: int = 20) -> list[Node]:
    """Return the nodes of the graph as ONNX Runtime runs it, each with its median time over some runs of one chunk."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = open_graph(graph, options)
        feed = _feed(session, x_btc)
        for _ in range(runs):
            session.run(OUTPUTS[:1], feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            nodes.setdefault(event["name"], []).append(event)
    return [
        (
            found[0]["args"]["op_name"],
            float(np.median([e["dur"] for e in found])),
            *(_first_shape(found[0]["args"][f"{side}_type_shape"]) for side in ("input", "output")),
        )
        for found in nodes.values()
    ]


def _first_shape(told: list[dict[str, list[int]]]) -> tuple[int, ...]:
    return tuple(shape) if told and (shape := next(iter(told[0].values()), None)) is not None else ()


def _feed(session: ort.InferenceSession, x_btc: np.ndarray) -> dict[str, np.ndarray]:
    state_bs = np.repeat(no_past(session)[None], len(x_btc), axis=0)
    return dict(zip(INPUTS, (x_btc.astype(np.float32), state_bs), strict=True))


def roofline(bundle: Bundle, nodes: list[Node], x_btc: np.ndarray) -> dict[str, float]:
    """Return `gflops` and `gflops_share` of a chunk of scenarios; `nodes` is what `profile` says of the same chunk."""
    session = open_graph(bundle.graph)
    feed = _feed(session, x_btc)
    graph_ms = cpu_ms(lambda: session.run(OUTPUTS[:1], feed))
    operations, alone_ms = 0.0, 0.0
    for (m, k), (_, n) in ((x, y) for operator, _, x, y in nodes if operator in ("Gemm", "FusedGemm")):
        one, other = np.ones((m, k), dtype=np.float32), np.ones((k, n), dtype=np.float32)
        operations += 2.0 * m * k * n
        alone_ms += cpu_ms(partial(np.matmul, one, other), at_least_s=0.2)
    return {"gflops": operations / graph_ms / 1e6, "gflops_share": alone_ms / graph_ms}


def profile_table(nodes: list[Node]) -> str:
    """Return where the time goes by type of operator, the largest first."""
    time_us: Counter[str] = Counter()
    for operator, us, _, _ in nodes:
        time_us[operator] += us
    total, count = sum(time_us.values()), Counter(operator for operator, *_ in nodes)
    rows = [f"{o:<22} {count[o]:>3} nodes {us:>8.0f} us {us / total:>6.1%}" for o, us in time_us.most_common()]
    return "\n".join([*rows, f"{'all':<22} {len(nodes):>3} nodes {total:>8.0f} us"])


def main(arguments: list[str]) -> None:
    """Measure and print one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks latency", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/medium_office"))
    parser.add_argument("--batches", default="1,2,8,32,128", help="batch sizes, comma separated")
    parser.add_argument("--energyplus-runs", type=int, default=6, help="windows simulated for `speedup`; 0 for none")
    parser.add_argument("--profile", action="store_true", help="a table of the time by type of operator, for one chunk of plans")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    bundle = load_bundle(chosen.bundle)
    figures = measure(chosen.bundle, [int(b) for b in chosen.batches.split(",")], chosen.seed)
    figures |= shared_past(OnnxPredictor(bundle), chosen.seed)
    chunk = middle_scenarios(bundle.inputs, 10, FUTURE_H, np.random.default_rng(chosen.seed))
    nodes = profile(bundle.graph, chunk)
    figures |= roofline(bundle, nodes, chunk)
    figures["peak_mb"] = peak_mb(chosen.bundle)
    skipped = "no runs asked for" if chosen.energyplus_runs < 1 else ""
    if not skipped:
        try:
            figures["speedup"] = energyplus_speedup(chosen.bundle, chosen.energyplus_runs, chosen.seed)
        except ImportError:
            skipped = "EnergyPlus is not installed (extra 'simulate')"
    machine = f"{platform.machine()}-{os.cpu_count()}-cores"
    if chosen.profile:
        print(profile_table(nodes), file=sys.stderr if chosen.json else sys.stdout)
    if skipped:
        print(f"speedup skipped: {skipped}", file=sys.stderr)
    if chosen.json:
        print(json.dumps({"machine": machine, **figures}))
    else:
        print(f"machine={machine} " + " ".join(f"{k}={v:.4g}" for k, v in figures.items()))
