"""What the benchmarks on a dataset share: a subset of its runs to train on, and a trained network as a Predictor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation import figures, rmse
from models.network import Network
from models.pruning.shrink import shrink
from models.training import TrainingConfig, fit
from simulation.dataset import Dataset

KEYS = ("zone_temperature_rmse_k", "co2_rmse_ppm", "heating_r2", "cooling_r2", "fan_r2", "electricity_r2", "total_error_median")
CHUNK = 8


class TorchPredictor:
    """A trained network answering as a Predictor does, without the export (which takes longer than a small training)."""

    def __init__(self, network: Network) -> None:
        self.network = shrink(network).cpu().eval()
        self.all_inputs, self.outputs = network.inputs, network.outputs
        self.inputs = network.inputs

    @torch.no_grad()
    def predict(self, x_btc: NDArray[np.floating]) -> NDArray[np.float64]:
        """Predict windows of the dataset, all inputs in its order; pruned ones are left out here."""
        x_btc = np.asarray(x_btc[:, :, self.all_inputs.positions(self.network.inputs.names)], dtype=np.float32)
        parts = [self.network(torch.from_numpy(x_btc[i : i + CHUNK])).numpy() for i in range(0, len(x_btc), CHUNK)]
        return np.concatenate(parts).astype(float)


def train_runs(dataset: Dataset) -> NDArray[np.int64]:
    """Return the numbers of the runs of split ``train``, rising."""
    return np.unique(dataset.windows["run"][dataset.windows["split"] == "train"])


def first_runs(dataset: Dataset, n_windows: int) -> NDArray[np.int64]:
    """Return the first runs of split ``train`` that hold `n_windows` windows together, or the last whole run before."""
    runs = train_runs(dataset)
    held = dataset.windows["run"].value_counts().reindex(runs).cumsum().to_numpy()
    return runs[held <= n_windows]


def trained_on(dataset: Dataset, runs: NDArray[np.int64], config: TrainingConfig, seed: int) -> tuple[TorchPredictor, float]:
    """Train on some runs of split ``train``; return the predictor and the core-seconds it took."""
    is_ours = dataset.windows["run"].isin(runs) & (dataset.windows["split"] == "train")
    windows = dataset.windows.assign(split=np.where(is_ours, "train", "unused"))
    network, core_s = fit(replace(dataset, windows=windows), config, seed)
    return TorchPredictor(network), core_s


def judged(predictor: TorchPredictor, held: Dataset) -> dict[str, float]:
    """Return the figures on some windows, and ``nrmse``: each output's RMSE over its spread there, mean over outputs."""
    y_nto = predictor.predict(held.x_ntc)
    found = figures(held.y_ntc, y_nto, held.outputs, held.warm_up_h)
    true, said = held.y_ntc[:, held.warm_up_h :], y_nto[:, held.warm_up_h :]
    shares = [rmse(true[..., o], said[..., o]) / max(float(true[..., o].std(dtype=float)), 1e-12) for o in range(true.shape[-1])]
    return {"nrmse": float(np.mean(shares)), **{k: found[k] for k in KEYS if k in found}}


def validation(dataset: Dataset) -> Dataset:
    """Return the windows of split ``validation``."""
    return dataset.where((dataset.windows["split"] == "validation").to_numpy())
