"""Active sampling against plain Sobol at equal budget: does it pay to simulate where an ensemble disagrees?

    python -m benchmarks active runs/first --start 300 --add 300 --pool 1500 --seed 1

An ensemble trained on the first `start` windows looks at the inputs of the next `pool` windows and names the runs it disagrees
on most; both arms then train from scratch on the start and `add` windows more, the named runs or the next ones in Sobol order.
The campaign has simulated the whole pool already, so that simulating a run means reading it. Whole runs are chosen.
Judged on the validation split, and on fresh runs of unchanged weather where `--fresh` asks for some.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks._trained import first_runs, judged, train_runs, trained_on, validation
from models.network import NetworkConfig
from models.training import TrainingConfig
from simulation.active import choose, disagreement
from simulation.campaign import Campaign, export, local_map, run_campaign
from simulation.dataset import Dataset, load_dataset

N_MEMBERS = 3
MEMBER = NetworkConfig(d_model=40, n_heads=(2, 2), n_ffn=(64, 64), n_products=16)
"""The shape of a member of the ensemble: small, for it only says where it is unsure."""
CHECKED = 100


def chosen_runs(
    dataset: Dataset, start: np.ndarray, pool: np.ndarray, n: int, steps: int, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Return the `n` runs of the pool to simulate next, and what is known of the choice.

    ``score_chosen_over_pool`` is the mean disagreement on the chosen runs over that on all; ``score_error_correlation`` the rank
    correlation of disagreement with the error of the ensemble's mean, over at most `CHECKED` runs of the pool: without one,
    choosing by disagreement cannot pay. ``ensemble_core_s`` is the cost.
    """
    config = TrainingConfig(network=MEMBER, prunings=(), n_steps=steps)
    trained = [trained_on(dataset, start, config, 1000 * seed + i) for i in range(N_MEMBERS)]
    members = [member for member, _ in trained]
    run, warm_up_h = dataset.windows["run"].to_numpy(), dataset.warm_up_h
    spread = np.maximum(dataset.y_ntc[np.isin(run, start)][:, warm_up_h:].std(axis=(0, 1), dtype=float), 1e-9)
    rows = np.flatnonzero(np.isin(run, pool))
    scores = pd.Series(disagreement(members, dataset.x_ntc[rows], spread, warm_up_h)).groupby(run[rows]).mean()
    chosen = pool[choose(scores.loc[pool].to_numpy(), n, np.random.default_rng(seed))]

    checked = np.flatnonzero(np.isin(run, pool[:: -(-len(pool) // CHECKED)]))
    errors = []
    for i in checked:  # one by one: a window of every member fits any memory
        mean = np.mean([m.predict(dataset.x_ntc[i : i + 1])[0, warm_up_h:] for m in members], axis=0)
        errors.append(float((np.sqrt(np.mean((mean - dataset.y_ntc[i, warm_up_h:]) ** 2, axis=0)) / spread).mean()))
    error = pd.Series(errors).groupby(run[checked]).mean()
    return chosen, {
        "ensemble_core_s": sum(core_s for _, core_s in trained),
        "score_chosen_over_pool": float(scores.loc[chosen].mean() / scores.mean()),
        "score_error_correlation": float(scores.loc[error.index].corr(error, method="spearman")),
    }


def fresh_runs(folder: Path, building: str, n: int, seed: int) -> Dataset:
    """Simulate fresh runs as `setwise evaluate` draws them (not again where they lie in `folder` already)."""
    with local_map() as spread:
        run_campaign(Campaign(building, n, 1, seed=seed, held_out=True), folder, spread)
    return export(folder)


def main(arguments: list[str]) -> None:
    """Train both arms, print a row each and one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks active", description=__doc__.splitlines()[0])
    parser.add_argument("campaign", type=Path, help="folder of an exported campaign")
    parser.add_argument("--start", type=int, default=300, help="windows known before (%(default)s)")
    parser.add_argument("--add", type=int, default=300, help="windows that each arm adds (%(default)s)")
    parser.add_argument("--pool", type=int, default=1500, help="windows to choose from (%(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="steps of each arm (%(default)s)")
    parser.add_argument("--ensemble-steps", type=int, default=1000, help="steps of each member of the ensemble (%(default)s)")
    parser.add_argument("--repeats", type=int, default=2, help="trainings of each arm, with seeds that follow (%(default)s)")
    parser.add_argument("--fresh", type=int, default=0, help="fresh runs to judge on besides (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset = load_dataset(a.campaign / "dataset")
    runs = train_runs(dataset)
    start = first_runs(dataset, a.start)
    pool = np.setdiff1d(first_runs(dataset, a.start + a.pool), start)
    n_add = len(np.setdiff1d(first_runs(dataset, a.start + a.add), start))
    if not len(start) or not 0 < n_add < len(pool):
        parser.error(f"{len(runs)} training runs are too few for start {a.start}, add {a.add}, pool {a.pool} windows")
    splits = {"validation": validation(dataset)}
    if a.fresh:
        splits["fresh"] = fresh_runs(a.campaign / f"fresh-{900 + a.seed}", dataset.origin["building"], a.fresh, 900 + a.seed)
    active, known = chosen_runs(dataset, start, pool, n_add, a.ensemble_steps, a.seed)
    arms = {"sobol": pool[:n_add], "active": active}
    config = replace(TrainingConfig(), n_steps=a.steps)
    rows: list[dict[str, object]] = []
    for repeat in range(a.repeats):
        for arm, added in arms.items():
            predictor, core_s = trained_on(dataset, np.concatenate([start, added]), config, a.seed + repeat)
            for split, held in splits.items():
                rows.append({"arm": arm, "split": split, "seed": a.seed + repeat, "core_s": core_s, **judged(predictor, held)})
                if not a.json:
                    print(
                        "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()), flush=True
                    )
    facts = {
        "start_windows": int(dataset.windows["run"].isin(start).sum()),
        "added_windows": int(dataset.windows["run"].isin(active).sum()),
        "pool_windows": int(dataset.windows["run"].isin(pool).sum()),
        "windows_in_both": int(dataset.windows["run"].isin(np.intersect1d(active, arms["sobol"])).sum()),
        **known,
        **ratios(pd.DataFrame(rows)),
    }
    if a.json:
        print(json.dumps({**facts, "rows": rows}))
    else:
        print(" ".join(f"{k}={v:.4g}" for k, v in facts.items()))


def ratios(rows: pd.DataFrame) -> dict[str, float]:
    """Return the error of the active arm over that of the other, below 1 where active sampling pays; mean over seeds.

    ``active_over_sobol`` is of ``nrmse`` on the validation split, ``_k`` of zone temperature; other splits carry their name.
    """
    found = {}
    for split, of_split in rows.groupby("split", sort=False):
        suffix = "" if split == "validation" else f"_{split}"
        mean = of_split.groupby("arm")[["nrmse", "zone_temperature_rmse_k"]].mean()
        for key, column in (("", "nrmse"), ("_k", "zone_temperature_rmse_k")):
            found[f"active_over_sobol{key}{suffix}"] = float(mean.loc["active", column] / mean.loc["sobol", column])
    return found
