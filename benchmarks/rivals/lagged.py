"""Features for rivals without a memory of their own: the hour, some hours before it, and means over days.

Legend of shapes: b batch, t time [h], c inputs, f features, o outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from building.variables import Role, Signature
from models.network import Scaling
from simulation.dataset import Dataset

Array = NDArray[np.floating[Any]]
Features = Callable[[Array, Signature], Array]

LAGS_H = (1, 2, 3, 6, 12, 24)
MEANS_H = (24, 72, 168)
CHUNK = 16  # windows whose features are in memory at the same time


def of_the_hour(z_btc: Array, inputs: Signature) -> Array:
    """Return the inputs of the hour alone, same array."""
    return z_btc


def lagged(z_btc: Array, inputs: Signature) -> Array:
    """Return the hour's inputs and, of those that change (all but parameters), lags of `LAGS_H` and means over the last
    `MEANS_H` hours, shape (b, t, f). Before the first hour stands the first hour; means run over the hours there are.
    """
    moving = z_btc[..., inputs.positions(v.name for v in inputs if v.role is not Role.PARAMETER)]
    t = np.arange(moving.shape[1])
    parts = [z_btc, *(moving[:, np.maximum(t - lag, 0)] for lag in LAGS_H)]
    total = np.concatenate([np.zeros_like(moving[:, :1]), moving], axis=1).cumsum(axis=1, dtype=np.float64)
    for span in MEANS_H:
        first = np.maximum(t + 1 - span, 0)
        parts.append((total[:, 1:] - total[:, first]) / (t + 1 - first)[:, None])
    return np.concatenate(parts, axis=-1, dtype=np.float32)


def encoded(scaling: Scaling, x_btc: Array) -> Array:
    """Return standardised inputs."""
    return np.asarray(scaling.encode(torch.from_numpy(np.asarray(x_btc, dtype=np.float32))).numpy())


def training_hours(
    dataset: Dataset, scaling: Scaling, features: Features, n_hours: int, rng: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """Draw about `n_hours` judged hours (no warm-up) of the training windows, evenly over windows: features (rows, f) and
    outputs (rows, o) in physical units, chunk by chunk.
    """
    windows = rng.permutation(np.flatnonzero((dataset.windows["split"] == "train").to_numpy()))[: max(1, n_hours)]
    judged = np.arange(dataset.warm_up_h, dataset.x_ntc.shape[1])
    each = min(len(judged), -(-n_hours // len(windows)))
    for first in range(0, len(windows), CHUNK):
        rows = np.sort(windows[first : first + CHUNK])
        hours = np.stack([rng.choice(judged, size=each, replace=False) for _ in rows])
        f_btf = features(encoded(scaling, dataset.x_ntc[rows]), dataset.inputs)
        at = (np.arange(len(rows))[:, None], hours)
        yield f_btf[at].reshape(-1, f_btf.shape[-1]), dataset.y_ntc[rows][at].reshape(-1, len(dataset.outputs))
