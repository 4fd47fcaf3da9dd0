"""Crops of windows for training. What step i sees depends on (seed, i) alone, so a resumed run sees what an unbroken one
would.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from building.errors import BadDatasetError
from simulation.dataset import Dataset


class Crops:
    """Random crops of training windows, on the device.

    Attributes:
        x_ntc, y_nto: all training windows, float32.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        rows = np.flatnonzero((dataset.windows["split"] == "train").to_numpy())
        if len(rows) == 0:
            raise BadDatasetError(path="the dataset", reason="no window has split 'train'.")
        # One copy in memory: fancy indexing of the memory map reads exactly the rows wanted.
        self.x_ntc = torch.from_numpy(dataset.x_ntc[rows]).to(device)
        self.y_nto = torch.from_numpy(dataset.y_ntc[rows]).to(device)

    def at(self, step: int, seed: int, n_crops: int, crop_h: int) -> tuple[Tensor, Tensor]:
        """Return the crops of one step, shapes (n_crops, crop_h, inputs) and (n_crops, crop_h, outputs)."""
        rng = np.random.default_rng([seed, step])
        n, t = self.x_ntc.shape[:2]
        crop_h = min(crop_h, t)
        rows = rng.choice(n, size=n_crops, replace=n < n_crops)
        starts = rng.integers(0, t - crop_h + 1, size=n_crops)
        hours: NDArray[np.int64] = starts[:, None] + np.arange(crop_h)
        index = (torch.from_numpy(rows)[:, None], torch.from_numpy(hours))
        return self.x_ntc[index], self.y_nto[index]
