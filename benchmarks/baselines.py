"""Ours against other architectures: same windows, same core-seconds of training on one thread, several seeds, one table.

    python -m benchmarks baselines runs/first/dataset --budget-s 240 --seeds 1,2,3

Learned from split ``train``, judged on split ``validation``. Where a rival leaves something to choose (learning rate, hours of
data), two values are tried with a sixth of the budget and the validation split picks: that flatters the rivals, ours has one
setting. Finished trainings are kept in `--out`, one JSON line each, so that a killed run goes on.

Error is both: the mean over outputs of RMSE over the truth's standard deviation (`nrmse`), and the zone temperature RMSE. A
rival is beaten when ours is at or below it in both and in CPU time per window; `beaten=true` when every rival is.
Networks answer through ONNX Runtime, in our session's chunks or in one call, whichever is faster for them; trees and linear
regression through their own predict.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.latency import WINDOW_H, cpu_ms, middle_scenarios
from benchmarks.rivals.cohen import Cohen, CohenPublished
from benchmarks.rivals.lagged import Array, lagged, of_the_hour
from benchmarks.rivals.learning import export, learn, one_cycle_rate
from benchmarks.rivals.linear import fit_linear
from benchmarks.rivals.recurrent import ConvGru, Gru
from building.variables import Signature
from models.batches import Crops
from models.evaluation import by_output, figures
from models.export import export_graph
from models.network import Scaling, n_weights
from models.pruning.shrink import shrink
from models.runtime.session import CHUNK_H, open_graph
from models.training import Loss, TrainingConfig, fit, optimisers_of
from simulation.dataset import Dataset, load_dataset

OURS = "ours"
BATCH = 8
CHOICE_SHARE = 1 / 6  # of the budget, for each value tried
CHOICE_SEED = 1000
GAP_LIMIT = 1e-4  # between torch and ONNX Runtime, of an output's scale
SHOWN = {
    "nrmse": "nRMSE",
    "zone_temperature_rmse_k": "temperature K",
    "co2_rmse_ppm": "CO2 ppm",
    "heating_r2": "heating R2",
    "cooling_r2": "cooling R2",
    "fan_r2": "fans R2",
    "electricity_r2": "electricity R2",
    "total_error_median": "totals",
    "last_over_first_week": "drift",
    "ms_per_window": "ms",
    "core_s": "core-s",
    "n_steps": "steps",
    "n_weights": "weights",
}
KEPT = tuple(SHOWN)[1:9]
JUDGED = ("nrmse", "zone_temperature_rmse_k", "ms_per_window")


@dataclass(frozen=True)
class Trained:
    """A rival after training.

    Attributes:
        ways: ways of answering, (b, t, inputs) -> (b, t, outputs), physical units, one thread; all give the same.
        n_weights: weights or leaves.
        n_steps: optimiser steps, boosting rounds per output, or 1.
        core_s: core-seconds of training.
        inputs: what the ways read.
        gap: largest difference between torch and ONNX Runtime, over each output's scale; 0 where there is no graph.
    """

    ways: tuple[Callable[[Array], Array], ...]
    n_weights: int
    n_steps: int
    core_s: float
    inputs: Signature
    gap: float = 0.0


Train = Callable[[Dataset, float, int, float, Callable[[str], None]], Trained]
"""(dataset, budget [core-s], seed, the value chosen, report) -> Trained."""


@dataclass(frozen=True)
class Rival:
    """How a rival is trained, and the values among which the validation split chooses."""

    train: Train
    choices: tuple[float, ...] = (0.0,)
    of: str = ""


def answering(network: nn.Module, n_steps: int, core_s: float, dataset: Dataset, write: Callable[[Path], None]) -> Trained:
    """Return a trained network behind ONNX Runtime."""
    inputs: Signature = network.inputs
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "graph.onnx")
        session = open_graph(Path(folder) / "graph.onnx")

    def at_once(x_btc: Array) -> Array:
        """Run in one call; whatever else the graph reads is the state before the first hour, zero."""
        x, *states = session.get_inputs()
        feed = {s.name: np.zeros((len(x_btc), s.shape[1]), dtype=np.float32) for s in states}
        return np.asarray(session.run(None, {x.name: np.ascontiguousarray(x_btc, dtype=np.float32), **feed})[0])

    def in_chunks(x_btc: Array) -> Array:
        size = max(1, CHUNK_H // x_btc.shape[1])
        return np.concatenate([at_once(x_btc[first : first + size]) for first in range(0, len(x_btc), size)])

    x_ntc = np.asarray(dataset.x_ntc[:2, :, dataset.inputs.positions(inputs.names)])
    with torch.no_grad():
        by_torch = network(torch.from_numpy(x_ntc)).numpy()
    gap = float((np.abs(at_once(x_ntc) - by_torch) / network.scaling.scale.numpy()).max())
    if not gap <= GAP_LIMIT:
        raise ArithmeticError(f"torch and ONNX Runtime differ by {gap:.1e} of an output's scale, more than {GAP_LIMIT:.0e}")
    return Trained((in_chunks, at_once), n_weights(network), n_steps, core_s, inputs, gap)


def train_ours(dataset: Dataset, budget_s: float, seed: int, _: float, report: Callable[[str], None]) -> Trained:
    """Train and prune in one cycle, as `setwise train` does, with the steps that fit the budget."""
    config = TrainingConfig()
    few, more = (fit(dataset, replace(config, n_steps=n), seed)[1] for n in (5, 45))
    n_steps = max(2, round(budget_s / max((more - few) / 40, 1e-6)))
    dense, core_s = fit(
        dataset,
        replace(config, n_steps=n_steps),
        seed,
        progress=lambda done, n, now: report(f"step {done} of {n}, loss {now['loss']:.4g}") if done % 500 == 0 else None,
    )
    network = shrink(dense).cpu().eval()
    return answering(network, n_steps, core_s, dataset, partial(export_graph, network))


def train_network(
    kind: Callable[[Signature, Signature], nn.Module],
    crops_share: float,
    dataset: Dataset,
    budget_s: float,
    seed: int,
    learning_rate: float,
    report: Callable[[str], None],
) -> Trained:
    """Train a rival network with our loss, scaling, crops and one cycle; Muon where it has matrices in `layers`, else AdamW.

    `crops_share`: crops per step over ours.
    """
    config = TrainingConfig()
    config = replace(config, learning_rate=learning_rate, n_crops=max(1, round(crops_share * config.n_crops)))
    torch.manual_seed(seed)
    crops = Crops(dataset, torch.device("cpu"))
    network = kind(dataset.inputs, dataset.outputs)
    scaling = _fitted(network.scaling, crops)
    loss = Loss(scaling, dataset.outputs, crops.y_nto, config)
    optimisers = optimisers_of(network, config)
    n_steps, core_s = learn(network, loss, optimisers, one_cycle_rate(config), crops, config, seed, budget_s, report)
    return answering(network, n_steps, core_s, dataset, partial(export, network, len(dataset.inputs)))


def train_as_published(dataset: Dataset, budget_s: float, seed: int, _: float, report: Callable[[str], None]) -> Trained:
    """Train Cohen et al. by their own recipe: sigmoid, their loss, Adam at 2e-4, batches of 8."""
    config = replace(TrainingConfig(), n_crops=8)
    torch.manual_seed(seed)
    crops = Crops(dataset, torch.device("cpu"))
    network = CohenPublished(dataset.inputs, dataset.outputs)
    _fitted(network.scaling, crops)
    network.fit_range(crops.y_nto)
    adam: list[torch.optim.Optimizer] = [torch.optim.Adam(network.parameters())]
    n_steps, core_s = learn(network, network.loss, adam, lambda share: 2e-4, crops, config, seed, budget_s, report)
    return answering(network, n_steps, core_s, dataset, partial(export, network, len(dataset.inputs)))


def train_linear(
    features: Callable[[Array, Signature], Array],
    dataset: Dataset,
    budget_s: float,
    seed: int,
    _: float,
    report: Callable[[str], None],
) -> Trained:
    """Solve a regression; it needs a part of the budget only."""
    crops = Crops(dataset, torch.device("cpu"))
    scaling = _fitted(Scaling(dataset.inputs, dataset.outputs), crops)
    loss = Loss(scaling, dataset.outputs, crops.y_nto, TrainingConfig())
    linear, core_s = fit_linear(dataset, scaling, loss, features, seed)
    return Trained((linear.predict,), linear.weights_fo.size, 1, core_s, dataset.inputs)


def train_trees(
    budgets: float, dataset: Dataset, budget_s: float, seed: int, n_hours: float, report: Callable[[str], None]
) -> Trained:
    """Boost trees for `budgets` times the budget."""
    from benchmarks.rivals.trees import fit_trees  # not everyone has lightgbm

    crops = Crops(dataset, torch.device("cpu"))
    scaling = _fitted(Scaling(dataset.inputs, dataset.outputs), crops)
    loss = Loss(scaling, dataset.outputs, crops.y_nto, TrainingConfig())
    trees, n_rounds, core_s = fit_trees(dataset, scaling, loss, budgets * budget_s, seed, int(n_hours))
    return Trained((trees.predict,), trees.n_leaves, n_rounds, core_s, dataset.inputs)


def _fitted(scaling: Scaling, crops: Crops) -> Scaling:
    every = max(1, len(crops.x_ntc) // 400)
    scaling.fit(crops.x_ntc[::every].numpy(), crops.y_nto[::every].numpy())
    return scaling


# A recurrent step of 48 crops costs half more than one of 16 on a CPU, so the recurrent rivals take six times our crops; Cohen
# et al. took 8, as we do.
RIVALS: dict[str, Rival] = {
    "linear": Rival(partial(train_linear, of_the_hour)),
    "linear_lagged": Rival(partial(train_linear, lagged)),
    "trees": Rival(partial(train_trees, 1.0), (60_000, 300_000), "hours of data"),
    "gru": Rival(partial(train_network, Gru, 6.0), (3e-3, 8e-3), "learning rate"),
    "convgru": Rival(partial(train_network, ConvGru, 6.0), (3e-3, 8e-3), "learning rate"),
    "cohen": Rival(partial(train_network, Cohen, 1.0), (1e-3, 3e-3), "learning rate"),
    "cohen_published": Rival(train_as_published),
    OURS: Rival(train_ours),
}


def judged(trained: Trained, held: Dataset, seed: int) -> dict[str, float]:
    """Return figures on the validation windows, and CPU milliseconds per window of `WINDOW_H` hours."""
    x_ntc = held.x_ntc[:, :, held.inputs.positions(trained.inputs.names)]
    y_nto = np.concatenate([trained.ways[0](x_ntc[i : i + BATCH]) for i in range(0, len(x_ntc), BATCH)])
    truth = held.y_ntc[:, held.warm_up_h :]
    spread = truth.std(axis=(0, 1), dtype=np.float64)
    errors = by_output(held.y_ntc, y_nto, held.outputs, held.warm_up_h)
    nrmse = {n: errors[n]["rmse"] / s for n, s in zip(held.outputs.names, spread, strict=True) if s > 0}
    x_btc = middle_scenarios(trained.inputs, BATCH, WINDOW_H, np.random.default_rng(seed)).astype(np.float32)
    found = figures(held.y_ntc, y_nto, held.outputs, held.warm_up_h)
    return {
        "nrmse": float(np.mean(list(nrmse.values()))),
        **{k: found[k] for k in KEPT if k in found},
        "ms_per_window": min(cpu_ms(partial(way, x_btc)) for way in trained.ways) / BATCH,
        "core_s": trained.core_s,
        "n_steps": trained.n_steps,
        "n_weights": trained.n_weights,
        "gap": trained.gap,
    }


def chosen_value(name: str, dataset: Dataset, held: Dataset, budget_s: float, say: Callable[[str], None]) -> float:
    """Return the rival's value with the least validation `nrmse` after a sixth of the budget."""
    rival = RIVALS[name]
    if len(rival.choices) == 1:
        return rival.choices[0]
    some = held.where(np.arange(len(held)) % max(1, len(held) // 100) == 0)
    found: dict[float, float] = {}
    for value in rival.choices:
        trained = rival.train(dataset, budget_s * CHOICE_SHARE, CHOICE_SEED, value, say)
        found[value] = judged(trained, some, CHOICE_SEED)["nrmse"]
        say(f"{rival.of} {value:g}: nRMSE {found[value]:.4g}")
    return min(found, key=lambda value: found[value])


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return per rival the mean over seeds of every figure, half the range over seeds of the judged ones (``nrmse_spread``,
    ...), and the least milliseconds (other work on the machine only ever adds).
    """
    table: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["rival"] for row in rows):
        own = [row for row in rows if row["rival"] == name]
        found = {k: float(np.mean([row[k] for row in own])) for k in SHOWN if all(k in row for row in own)}
        for k in JUDGED[:2]:
            if k in found:
                found[f"{k}_spread"] = float(np.ptp([row[k] for row in own])) / 2
        found["ms_per_window"] = min(row["ms_per_window"] for row in own)
        table[name] = found
    return table


def verdict(table: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Say whether ours is at or below every rival in error and CPU time.

    Returns:
        ``beaten``; ``not_beaten``: rival -> the figures in which it is better than ours; ``better_and_no_slower``: rivals at or
        below ours in all and below in one, the ones that would replace it.
    """
    ours = table[OURS]
    rivals = {name: row for name, row in table.items() if name != OURS}
    not_beaten = {name: [k for k in JUDGED if row.get(k, np.inf) < ours.get(k, np.inf)] for name, row in rivals.items()}
    not_beaten = {name: keys for name, keys in not_beaten.items() if keys}
    return {
        "beaten": not not_beaten,
        "not_beaten": not_beaten,
        "better_and_no_slower": [
            name for name in not_beaten if all(rivals[name].get(k, np.inf) <= ours.get(k, np.inf) for k in JUDGED)
        ],
    }


def line(found: dict[str, Any], table: dict[str, dict[str, float]]) -> str:
    """Return the verdict as one line of key=value pairs."""
    shown = {"nrmse": "nrmse", "zone_temperature_rmse_k": "temperature", "ms_per_window": "latency"}
    against = ",".join(f"{name}:{'+'.join(shown[k] for k in keys)}" for name, keys in found["not_beaten"].items())
    ours = " ".join(f"ours_{k}={table[OURS][k]:.4g}" for k in JUDGED if k in table[OURS])
    return (
        f"{ours} not_beaten={against or 'none'} better_and_no_slower={','.join(found['better_and_no_slower']) or 'none'} "
        f"beaten={str(found['beaten']).lower()}"
    )


def markdown(table: dict[str, dict[str, float]]) -> str:
    """Return the table, a row per rival."""

    def cell(row: dict[str, float], key: str) -> str:
        if key not in row:
            return ""
        if key in ("n_steps", "n_weights", "core_s"):
            return f"{row[key]:,.0f}"
        text = f"{row[key]:.3f}" if key.endswith(("_r2", "nrmse", "_k")) else f"{row[key]:.3g}"
        return f"{text} ± {row[f'{key}_spread']:.3f}" if f"{key}_spread" in row else text

    head = ["", *SHOWN.values()]
    lines = [head, ["---"] * len(head), *([name, *(cell(row, key) for key in SHOWN)] for name, row in table.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _read(path: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the finished lines of `path` that belong to the same data and budget; a kill may have cut the last one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows: list[dict[str, Any]] = [json.loads(text) for text in lines if text.endswith("}")]
    return [row for row in rows if all(row[key] == value for key, value in identity.items())]


def main(arguments: list[str]) -> None:
    """Train what is missing, print the table and one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks baselines", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, nargs="?", default=Path("runs/first/dataset"))
    parser.add_argument("--budget-s", type=float, default=240, help="core-seconds of each training (240)")
    parser.add_argument("--seeds", default="1,2,3", help="comma separated (1,2,3)")
    parser.add_argument("--only", default=",".join(RIVALS), help=f"comma separated, of {', '.join(RIVALS)}")
    parser.add_argument("--max-windows", type=int, default=0, help="use at most so many windows, evenly spread (all)")
    parser.add_argument("--out", type=Path, default=Path("runs/baselines.jsonl"), help="finished trainings, one line each")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    names = chosen.only.split(",")
    if unknown := [name for name in names if name not in RIVALS]:
        parser.error(f"no rival {', '.join(unknown)}; there are {', '.join(RIVALS)}")
    if "trees" in names:
        try:
            import benchmarks.rivals.trees  # noqa: F401  said now, not after an hour
        except ImportError as e:
            parser.error(str(e))
    torch.set_num_threads(1)
    dataset = load_dataset(chosen.dataset)
    if 0 < chosen.max_windows < len(dataset):
        keep = np.zeros(len(dataset), dtype=bool)
        keep[np.linspace(0, len(dataset) - 1, chosen.max_windows).round().astype(int)] = True
        dataset = dataset.where(keep)
    held = dataset.where((dataset.windows["split"] == "validation").to_numpy())
    identity = {"dataset": str(chosen.dataset), "n_windows": len(dataset), "budget_s": chosen.budget_s}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    for seed in seeds:  # all rivals of a seed before the next seed: an unfinished run is a whole table too
        for name in names:
            done = _read(chosen.out, identity)
            if any(row["rival"] == name and row["seed"] == seed for row in done):
                continue

            def say(text: str, who: str = f"{name} {seed}") -> None:
                print(f"{who}: {text}", file=sys.stderr, flush=True)

            values = [row["value"] for row in done if row["rival"] == name]
            value = values[0] if values else chosen_value(name, dataset, held, chosen.budget_s, say)
            row = judged(RIVALS[name].train(dataset, chosen.budget_s, seed, value, say), held, seed)
            say(" ".join(f"{k}={row[k]:.4g}" for k in (*JUDGED, "core_s", "n_steps") if k in row))
            with open(chosen.out, "a", encoding="utf-8") as f:
                f.write("\n" + json.dumps({**identity, "rival": name, "seed": seed, "value": value, **row}) + "\n")
    rows = [row for row in _read(chosen.out, identity) if row["seed"] in seeds and row["rival"] in names]
    table = summary(rows)
    found = verdict(table) if OURS in table else {}
    if chosen.json:
        print(json.dumps({**identity, "seeds": seeds, "rivals": table, **found}))
        return
    print(markdown(table))
    if found:
        print(line(found, table))
