"""Training and pruning in one cycle: from a dataset folder to a bundle. `fit` is the loop, read top to bottom; `train` is the
whole walk.

The learning rate rises and falls once (1cycle, Smith & Topin, arXiv 1708.07120) while sparsity rises along `one_cycle`; there
is no pre-training and no fine-tuning. A GPU is used when there is one, all cores when there is none. A killed run continues
from its last checkpoint with the same steps an unbroken run would have taken.

Legend of shapes: b batch, t time [h], c inputs, o outputs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from building.errors import BadCheckpointError, BadDatasetError
from building.units import CO2, TEMPERATURE
from building.variables import Role, Signature
from models.batches import Crops
from models.evaluation import by_output, coverage, figures, restart_hours
from models.export import export_graph, graph_gap, write_bundle, write_manifest
from models.network import Network, NetworkConfig, Scaling, n_weights
from models.pruning.criteria import magnitude, taylor
from models.pruning.granularity import FFN_UNIT, HEAD, INPUT
from models.pruning.masks import Masks, Pruning
from models.pruning.schedule import one_cycle
from models.pruning.shrink import shrink
from models.runtime.bundle import GRAPH, MANIFEST, Bundle, load_bundle
from models.runtime.intervals import Intervals
from models.runtime.session import open_graph, run_graph
from simulation.dataset import Dataset, load_dataset

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with (steps done, steps in all, figures of the moment)."""

LEAST_PLAIN_RUNS = 20
"""Validation runs with weather as measured that the intervals want; with fewer, morphed ones count as well."""

ONE_CYCLE_RECIPE = (
    Pruning(granularity=HEAD, criterion=taylor, schedule=one_cycle, target=1 / 3),
    Pruning(granularity=FFN_UNIT, criterion=taylor, schedule=one_cycle, target=1 / 3),
    Pruning(granularity=INPUT, criterion=magnitude, schedule=one_cycle, target=0.1),
)


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        network: the shape before pruning.
        prunings: what is pruned on the way; empty for a dense network.
        n_steps: optimiser steps.
        n_crops, crop_h: crops per step and their length [h].
        burn_in_h: leading hours of a crop that are not judged, so that the memory fills first.
        learning_rate: the greatest of the cycle.
        rise_share: share of the steps in which the learning rate rises.
        weight_decay: on matrices only.
        use_muon: see `optimisers_of`.
        temperature_weight, co2_weight, humidity_weight, power_weight: weight of each kind of output in the loss; shared by its
            channels.
        linear_share: of the loss of powers and CO2, the share taken in physical units; the rest is taken on square roots.
        prune_every: steps between two updates of the gates.
        checkpoint_every: steps between two checkpoints.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    prunings: tuple[Pruning, ...] = ONE_CYCLE_RECIPE
    n_steps: int = 200000
    n_crops: int = 8
    crop_h: int = 240
    burn_in_h: int = 48
    learning_rate: float = 8e-3
    rise_share: float = 0.2
    weight_decay: float = 0.01
    use_muon: bool = True
    temperature_weight: float = 16.0
    co2_weight: float = 2.0
    humidity_weight: float = 0.3
    power_weight: float = 4.0
    linear_share: float = 0.5
    prune_every: int = 20
    checkpoint_every: int = 500

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; recipes by the names of their values."""
        data = asdict(replace(self, prunings=()))
        data["prunings"] = [
            {
                "granularity": p.granularity.name,
                "criterion": getattr(p.criterion, "__name__", repr(p.criterion)),
                "schedule": getattr(p.schedule, "__name__", repr(p.schedule)),
                "target": p.target,
                "against": p.against,
            }
            for p in self.prunings
        ]
        return data


@dataclass(frozen=True)
class Training:
    """What came out of `train`.

    Attributes:
        bundle: the exported bundle.
        accuracy: figures on the validation split, by name (models/evaluation.py).
        outputs: figures of every output.
        n_weights_dense, n_weights: before pruning and after shrinking.
        core_hours: core-hours of this training.
        graph_gap: largest difference between torch and onnxruntime, over each output's scale.
    """

    bundle: Bundle
    accuracy: dict[str, float]
    outputs: dict[str, dict[str, float]]
    n_weights_dense: int
    n_weights: int
    core_hours: float
    graph_gap: float


class Loss:
    """Mean square errors in units of each output's own spread, so that 1 is as good as knowing the mean."""

    def __init__(self, scaling: Scaling, outputs: Signature, y_nto: Tensor, config: TrainingConfig) -> None:
        self.scaling = scaling
        self.linear_share = config.linear_share
        some = y_nto[:: max(1, len(y_nto) // 200)].reshape(-1, len(outputs))
        self.spread = some.std(dim=0).clamp(min=1e-9)
        self.latent_spread = self.wanted(some).std(dim=0).clamp(min=1e-3)
        self.weight = _channel_weights(outputs, config).to(y_nto.device)

    def wanted(self, y: Tensor) -> Tensor:
        """Return what the head should have said."""
        s = self.scaling
        z = (y - s.offset) / s.scale
        return torch.where(s.is_squared, torch.sqrt(z.clamp(min=0)), z)

    def __call__(self, z_bto: Tensor, y_bto: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        s = self.scaling
        wanted = self.wanted(y_bto)
        # Where the truth is exactly the offset every z <= 0 says so: no error. Elsewhere a negative z still has a gradient.
        z = torch.where(s.is_squared & (wanted == 0), F.relu(z_bto), z_bto)
        latent = torch.square((z - wanted) / self.latent_spread)
        physical = torch.square((s.decode(z_bto) - y_bto) / self.spread)
        share = self.linear_share * s.is_squared
        return torch.as_tensor(((latent * (1 - share) + physical * share) * self.weight).sum(dim=-1).mean())


def _channel_weights(outputs: Signature, config: TrainingConfig) -> Tensor:
    """Return the weight of each output: its kind's weight, shared by the channels of that kind."""
    kinds = {TEMPERATURE.name: config.temperature_weight, CO2.name: config.co2_weight}
    own = [
        ("power", config.power_weight)
        if v.role is Role.CONSUMPTION
        else (v.quantity.name, kinds.get(v.quantity.name, config.humidity_weight))
        for v in outputs
    ]
    names = [name for name, _ in own]
    return torch.tensor([weight / names.count(name) for name, weight in own])


def learning_rate_at(t: float, config: TrainingConfig) -> float:
    """Return the learning rate at share t of the training: cosine up from 1/25 of the greatest, cosine down to 1/1000."""
    rise = config.rise_share
    if t < rise:
        low, x = config.learning_rate / 25, t / rise
    else:
        low, x = config.learning_rate / 1000, (1 - t) / (1 - rise)
    return low + (config.learning_rate - low) * 0.5 * (1 - math.cos(math.pi * x))


def optimisers_of(network: Network, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Return AdamW for all weights, or Muon for the matrices of the layers and AdamW for the rest.

    Muon is momentum made orthogonal (Jordan et al. 2024), here scaled to the step size of AdamW, so that one learning rate
    serves both.
    """
    is_muon = {
        name: config.use_muon and name.startswith("layers.") and name.endswith("wards.weight")
        for name, _ in network.named_parameters()
    }
    muon = [p for name, p in network.named_parameters() if is_muon[name]]
    rest = [p for name, p in network.named_parameters() if not is_muon[name]]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
    ]
    if muon:
        found.append(torch.optim.Muon(muon, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"))
    return found


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Count denormals as zero, as fading memories end in them and they are slow; afterwards the processor is as it was."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@denormals_flushed()
def fit(
    dataset: Dataset, config: TrainingConfig, seed: int, checkpoint: Path | None = None, progress: Progress | None = None
) -> tuple[Network, float]:
    """Train and prune a network on the windows of split ``train``.

    Args:
        dataset: windows, physical units.
        config: how.
        seed: of the weights and the crops.
        checkpoint: file to continue from and to write to; None for neither.
        progress: see `Progress`.

    Returns:
        The network with its gates settled, not yet shrunk, and the core-seconds spent on it.

    Raises:
        BadCheckpointError: the checkpoint belongs to another training.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    crops = Crops(dataset, device)
    network = Network(dataset.inputs, dataset.outputs, config.network)
    network.scaling.fit(_some(crops.x_ntc), _some(crops.y_nto))
    network.to(device).train()
    loss_of = Loss(network.scaling, dataset.outputs, crops.y_nto, config)
    optimisers = optimisers_of(network, config)
    masks = Masks(network, config.prunings)
    identity = {"config": config.to_dict(), "seed": seed, "n_windows": len(crops.x_ntc)}
    first, core_s = 0, 0.0
    if checkpoint is not None and checkpoint.exists():
        first, core_s = _restore(checkpoint, identity, network, optimisers, masks, device)
    mark_s = time.process_time()

    for step in range(first, config.n_steps):
        t = step / max(1, config.n_steps - 1)
        if step % config.prune_every == 0 or step == config.n_steps - 1:
            masks.update(t)
        x_btc, y_bto = crops.at(step, seed, config.n_crops, config.crop_h)
        burn_in = min(config.burn_in_h, x_btc.shape[1] // 2)
        loss = loss_of(network.latent(x_btc)[:, burn_in:], y_bto[:, burn_in:])
        loss.backward()  # type: ignore[no-untyped-call]
        masks.collect()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate_at(t, config)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        done = step + 1
        if checkpoint is not None and (done % config.checkpoint_every == 0 or done == config.n_steps):
            spent = core_s + time.process_time() - mark_s
            _save(checkpoint, identity, done, spent, network, optimisers, masks)
        if progress is not None and (done % 50 == 0 or done == config.n_steps):
            progress(done, config.n_steps, {"loss": float(loss.detach()), **masks.sparsity()})

    masks.release()
    return network.eval(), core_s + time.process_time() - mark_s


def train(
    dataset_folder: Path,
    out_folder: Path,
    config: TrainingConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    building: str = "",
) -> Training:
    """Train, prune, shrink, export, judge on the validation split and write the bundle.

    Args:
        dataset_folder: see simulation/dataset.py.
        out_folder: becomes the bundle; the checkpoint ``<out_folder>.ckpt`` lies beside it until the bundle is written.
        config: how to train; which bundle ships and how it was trained is in its own bundle.json.
        seed: of the weights and the crops.
        progress: see `Progress`.
        building: name in the bundle; the dataset's origin says it when empty.

    Raises:
        BadDatasetError: no window of split ``train`` or ``validation``.
        BadCheckpointError: ``<out_folder>.ckpt`` belongs to another training; delete it to start anew.
    """
    config = config or TrainingConfig()
    dataset = load_dataset(Path(dataset_folder))
    held = dataset.where((dataset.windows["split"] == "validation").to_numpy())
    if len(held) == 0:
        raise BadDatasetError(path=dataset_folder, reason="no window has split 'validation'.")
    checkpoint = Path(f"{out_folder}.ckpt")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    dense, core_s = fit(dataset, config, seed, checkpoint, progress)
    network = shrink(dense).cpu().eval()

    out_folder = Path(out_folder)
    out_folder.mkdir(parents=True, exist_ok=True)
    (out_folder / MANIFEST).unlink(missing_ok=True)  # an older bundle there stops vouching for the files that change now
    graph = out_folder / GRAPH
    export_graph(network, graph)
    x_ntc = held.x_ntc[:, :, held.inputs.positions(network.inputs.names)]
    gap = graph_gap(network, graph, x_ntc[:4])
    y_nto = run_graph(open_graph(graph), x_ntc, len(held.outputs), n_threads=os.cpu_count() or 1)
    accuracy = figures(held.y_ntc, y_nto, held.outputs, held.warm_up_h, restart_hours(held.x_ntc, held.inputs))
    outputs = by_output(held.y_ntc, y_nto, held.outputs, held.warm_up_h)
    core_hours = {"training": core_s / 3600, "campaign": float(dataset.origin.get("core_hours", 0.0))}
    bundle = write_bundle(
        network,
        out_folder,
        intervals=intervals_of(held, network.inputs, y_nto),
        building=building or str(dataset.origin.get("building", "unnamed")),
        warm_up_h=dataset.warm_up_h,
        origin={**dataset.origin, "n_windows": len(dataset), "n_validation_windows": len(held)},
        accuracy=accuracy,
        by_output=outputs,
        core_hours=core_hours,
        graph_gap=gap,
        training={**config.to_dict(), "seed": seed, "n_weights_dense": n_weights(dense), "pruned_inputs": _pruned(dense)},
    )
    checkpoint.unlink(missing_ok=True)
    return Training(bundle, accuracy, outputs, n_weights(dense), n_weights(network), core_hours["training"], gap)


def intervals_of(held: Dataset, inputs: Signature, y_nto: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return the prediction intervals of a bundle as bundle.json holds them, with how they cover runs left out of their fit.

    Fitted on the windows with weather as measured, which fresh runs have, where these come from `LEAST_PLAIN_RUNS` runs or more.

    Args:
        held: windows that trained nothing.
        inputs: of the bundle.
        y_nto: its answers to these windows.
    """
    windows = held.windows
    plain = ~windows["is_morphed"].to_numpy(dtype=bool) if "is_morphed" in windows else np.ones(len(held), dtype=bool)
    if windows["run"][plain].nunique() < LEAST_PLAIN_RUNS:
        plain = np.ones(len(held), dtype=bool)
    judged = slice(held.warm_up_h, None)
    true, pred = held.y_ntc[plain, judged], y_nto[plain, judged]
    x_nti = held.x_ntc[plain, judged][:, :, held.inputs.positions(inputs.names)]
    run_n = windows["run"][plain].to_numpy()
    found, low, high = Intervals.fit_across(true, pred, x_nti, run_n, inputs, held.outputs)
    covered = coverage(true, low, high, held.outputs)
    return {
        "runs": len(np.unique(run_n)),
        "is_weather_as_measured": bool("is_morphed" in windows and not windows["is_morphed"][plain].any()),
        "cross_fit_coverage": {n: round(c["coverage"], 3) for n, c in covered.items() if np.isfinite(c["coverage"])},
        **found.to_dict(),
    }


def add_intervals(bundle_folder: Path, dataset_folder: Path) -> Bundle:
    """Fit the intervals of a bundle that is there already, and write them into it.

    To all windows of a dataset of fresh runs, which are drawn as the runs that judge a bundle are (so that the promise of
    `models.runtime.intervals` holds for these); else to the validation split of the bundle's own dataset.

    Raises:
        BadBundleError and its kin, BadDatasetError: see `load_bundle` and `load_dataset`.
    """
    bundle, dataset = load_bundle(bundle_folder), load_dataset(Path(dataset_folder))
    is_fresh = bool(dataset.origin.get("campaign", {}).get("held_out", False))
    held = dataset if is_fresh else dataset.where((dataset.windows["split"] == "validation").to_numpy())
    if len(held) == 0:
        raise BadDatasetError(path=dataset_folder, reason="no window has split 'validation'.")
    x_ntc = held.x_ntc[:, :, held.inputs.positions(bundle.inputs.names)]
    y_nto = run_graph(open_graph(bundle.graph), x_ntc, len(bundle.outputs), n_threads=os.cpu_count() or 1)
    write_manifest(bundle.folder, {**bundle.facts, "intervals": intervals_of(held, bundle.inputs, y_nto)})
    return load_bundle(bundle_folder)


def _pruned(network: Network) -> list[str]:
    return [v.name for v, gate in zip(network.inputs, network.gate.tolist(), strict=True) if gate == 0]


def _some(windows: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return 400 to 800 windows, evenly spread (all where there are fewer): enough to fit a scaling."""
    return np.asarray(windows[:: max(1, len(windows) // 400)].cpu().numpy())


def _save(
    path: Path,
    identity: dict[str, Any],
    step: int,
    core_s: float,
    network: Network,
    optimisers: list[torch.optim.Optimizer],
    masks: Masks,
) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never half of one."""
    part = path.with_suffix(".part")
    torch.save(
        {
            "identity": identity,
            "step": step,
            "core_s": core_s,
            "network": network.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            "masks": masks.state(),
        },
        part,
    )
    os.replace(part, path)


def _restore(
    path: Path,
    identity: dict[str, Any],
    network: Network,
    optimisers: list[torch.optim.Optimizer],
    masks: Masks,
    device: torch.device,
) -> tuple[int, float]:
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except Exception as e:  # torch raises many kinds for a damaged file
        raise BadCheckpointError(path=path, reason=f"cannot be read ({type(e).__name__}).") from e
    if saved["identity"] != identity:
        raise BadCheckpointError(path=path, reason="belongs to a training with another config, seed or dataset.")
    network.load_state_dict(saved["network"])
    for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
        optimiser.load_state_dict(state)
    masks.restore(saved["masks"])
    return int(saved["step"]), float(saved["core_s"])
