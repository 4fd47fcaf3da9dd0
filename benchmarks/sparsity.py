"""Sparsity against error: what pruning in one cycle costs, beside the dense network and one trained at the pruned shape.

    python -m benchmarks sparsity runs/first/dataset --steps 4000 --seed 1

All are trained on the same windows, with the same crops, steps and seed, judged on the validation split, and timed side by side.
"small" is the honest rival: a dense network that had the pruned network's shape from the first step.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.latency import WINDOW_H, cpu_ms, middle_scenarios
from models.evaluation import figures
from models.export import export_graph
from models.network import Network, n_weights
from models.pruning.masks import Pruning
from models.pruning.schedule import Schedule, agp, one_cycle, one_shot
from models.pruning.shrink import shrink
from models.runtime.session import open_graph, run_graph
from models.training import ONE_CYCLE_RECIPE, TrainingConfig, fit
from simulation.dataset import Dataset, load_dataset

KEYS = ("zone_temperature_rmse_k", "co2_rmse_ppm", "heating_r2", "cooling_r2", "fan_r2", "electricity_r2", "total_error_median")


def scheduled(schedule: Schedule) -> tuple[Pruning, ...]:
    """Return the shipped recipe with another schedule."""
    return tuple(replace(p, schedule=schedule) for p in ONE_CYCLE_RECIPE)


def judged(network: Network, held: Dataset, rng: np.random.Generator) -> dict[str, float]:
    """Return weights, CPU milliseconds per window on one thread, and the figures on the validation windows."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.onnx"
        export_graph(network, graph)
        session = open_graph(graph)
        x_ntc = held.x_ntc[:, :, held.inputs.positions(network.inputs.names)]
        y_nto = run_graph(session, x_ntc, len(held.outputs))
        x_btc = middle_scenarios(network.inputs, 8, WINDOW_H, rng).astype(np.float32)
        ms = cpu_ms(lambda: run_graph(session, x_btc, len(held.outputs))) / len(x_btc)
    found = figures(held.y_ntc, y_nto, held.outputs, held.warm_up_h)
    return {"weights": n_weights(network), "ms_per_window": ms, **{k: found[k] for k in KEYS}}


def main(arguments: list[str]) -> None:
    """Train every variant, print a row for each and one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks sparsity", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variants", default="dense,one_cycle,agp,one_shot,small")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    recipes = {
        "dense": (),
        "one_cycle": scheduled(one_cycle),
        "agp": scheduled(agp),
        "one_shot": scheduled(one_shot),
        "small": (),
    }
    variants = chosen.variants.split(",")
    unknown = [name for name in variants if name not in recipes]
    if unknown:
        parser.error(f"no variant {', '.join(unknown)}; there are {', '.join(recipes)}")
    if "small" in variants and "one_cycle" not in variants[: variants.index("small")]:
        parser.error("small has the shape that one_cycle ends with: name one_cycle before it")
    torch.set_num_threads(1)
    dataset = load_dataset(chosen.dataset)
    held = dataset.where((dataset.windows["split"] == "validation").to_numpy())
    base = TrainingConfig(n_steps=chosen.steps)
    rows: dict[str, dict[str, float]] = {}
    pruned_shape = base.network
    for name in variants:
        network_config = pruned_shape if name == "small" else base.network
        network, _ = fit(dataset, replace(base, prunings=recipes[name], network=network_config), chosen.seed)
        small = shrink(network).cpu().eval()
        if name == "one_cycle":
            pruned_shape = small.config
        rows[name] = judged(small, held, np.random.default_rng(chosen.seed))
        if not chosen.json:
            print(f"{name:<10}" + "  ".join(f"{k} {v:.4g}" for k, v in rows[name].items()), flush=True)
    if chosen.json:
        print(json.dumps(rows))
    else:
        print(" ".join(f"{n}_rmse_k={r['zone_temperature_rmse_k']:.4g} {n}_ms={r['ms_per_window']:.3g}" for n, r in rows.items()))
