"""Linear regression hour by hour, by the normal equations with a small ridge; outputs through the same square root as ours."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.rivals.lagged import Array, Features, encoded, training_hours
from models.network import Scaling
from models.training import Loss
from simulation.dataset import Dataset

N_HOURS = 1_000_000
RIDGE = 1e-4  # of the mean square of a standardised feature


class Linear:
    """A fitted regression."""

    def __init__(self, scaling: Scaling, dataset: Dataset, features: Features, weights_fo: Array) -> None:
        self.scaling, self.inputs, self.features, self.weights_fo = scaling, dataset.inputs, features, weights_fo

    def predict(self, x_btc: Array) -> Array:
        """Predict, physical units: (b, t, inputs) -> (b, t, outputs)."""
        f_btf = self.features(encoded(self.scaling, x_btc), self.inputs)
        z_bto = f_btf @ self.weights_fo[:-1] + self.weights_fo[-1]
        return np.asarray(self.scaling.decode(torch.from_numpy(z_bto)).numpy())


def fit_linear(
    dataset: Dataset, scaling: Scaling, loss: Loss, features: Features, seed: int, n_hours: int = N_HOURS
) -> tuple[Linear, float]:
    """Return the regression on about `n_hours` training hours, and the core-seconds spent."""
    mark_s = time.process_time()
    gram: Array | float = 0.0
    moment: Array | float = 0.0
    for f_rf, y_ro in training_hours(dataset, scaling, features, n_hours, np.random.default_rng(seed)):
        f = np.concatenate([f_rf, np.ones_like(f_rf[:, :1])], axis=1, dtype=np.float64)
        gram = gram + f.T @ f
        moment = moment + f.T @ loss.wanted(torch.from_numpy(y_ro)).numpy()
    gram = np.asarray(gram)
    ridge = RIDGE * gram[-1, -1] * np.eye(len(gram))
    weights_fo = np.linalg.solve(gram + ridge, np.asarray(moment)).astype(np.float32)
    return Linear(scaling, dataset, features, weights_fo), time.process_time() - mark_s
