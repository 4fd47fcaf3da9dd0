"""Gradient-boosted trees (LightGBM) on lagged features: one model per output, each with its share of the core-seconds."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.rivals.lagged import Array, encoded, lagged, training_hours
from models.network import Scaling
from models.training import Loss
from simulation.dataset import Dataset

try:
    import lightgbm
except ImportError as e:
    raise ImportError("the rival 'trees' needs lightgbm, which this installation lacks: pip install 'setwise[rivals]'") from e

PARAMETERS = {
    "objective": "regression",
    "num_leaves": 63,
    "learning_rate": 0.15,
    "max_bin": 63,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.5,
    "num_threads": 1,
    "verbosity": -1,
}


class Trees:
    """One fitted booster per output, on the same square roots as ours."""

    def __init__(self, scaling: Scaling, dataset: Dataset, boosters: list[lightgbm.Booster]) -> None:
        self.scaling, self.inputs, self.boosters = scaling, dataset.inputs, boosters

    def predict(self, x_btc: Array) -> Array:
        """Predict, physical units: (b, t, inputs) -> (b, t, outputs)."""
        f_btf = lagged(encoded(self.scaling, x_btc), self.inputs)
        rows = f_btf.reshape(-1, f_btf.shape[-1])
        z_ro = np.stack([booster.predict(rows, num_threads=1) for booster in self.boosters], axis=-1)
        z_bto = torch.from_numpy(z_ro.reshape(*x_btc.shape[:2], -1).astype(np.float32))
        return np.asarray(self.scaling.decode(z_bto).numpy())

    @property
    def n_leaves(self) -> int:
        """Leaves of all trees."""
        return sum(PARAMETERS["num_leaves"] * booster.num_trees() for booster in self.boosters)


def fit_trees(
    dataset: Dataset, scaling: Scaling, loss: Loss, budget_s: float, seed: int, n_hours: int
) -> tuple[Trees, int, float]:
    """Boost every output on the same `n_hours` training hours until its share of the budget is spent.

    Returns:
        The trees, rounds per output (the fewest), and the core-seconds spent.
    """
    mark_s = time.process_time()
    chunks = list(training_hours(dataset, scaling, lagged, n_hours, np.random.default_rng(seed)))
    wanted = loss.wanted(torch.from_numpy(np.concatenate([y for _, y in chunks]))).numpy()
    hours = lightgbm.Dataset(
        np.concatenate([f for f, _ in chunks]), label=wanted[:, 0], params=PARAMETERS, free_raw_data=True
    ).construct()
    boosters: list[lightgbm.Booster] = []
    n_outputs = wanted.shape[1]
    for o in range(n_outputs):
        left_s = budget_s - (time.process_time() - mark_s)
        until_s = time.process_time() + left_s / (n_outputs - o)
        hours.set_label(wanted[:, o])
        booster = lightgbm.Booster({**PARAMETERS, "seed": seed}, hours)
        booster.update()
        while time.process_time() < until_s:
            booster.update()
        boosters.append(booster)
    spent_s = time.process_time() - mark_s
    return Trees(scaling, dataset, boosters), min(b.num_trees() for b in boosters), spent_s
