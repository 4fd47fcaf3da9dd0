"""Training: learns, prunes in the same cycle, survives a kill, and ends in a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from building.errors import BadCheckpointError, BadDatasetError
from models.batches import Crops
from models.evaluation import figures
from models.network import Network, NetworkConfig
from models.pruning.criteria import magnitude, taylor
from models.pruning.granularity import FFN_UNIT, HEAD, INPUT
from models.pruning.masks import Pruning
from models.training import Loss, TrainingConfig, fit, learning_rate_at, train
from simulation.dataset import Dataset, save_dataset

SMALL = TrainingConfig(
    network=NetworkConfig(d_model=16, n_heads=(2, 2), n_ffn=(24, 24), head_width=4, n_memories=2, memory_width=4, n_products=8),
    prunings=(Pruning(HEAD, taylor, target=0.5), Pruning(FFN_UNIT, taylor, target=0.5), Pruning(INPUT, magnitude, target=0.34)),
    n_steps=40,
    n_crops=4,
    crop_h=96,
    burn_in_h=24,
    prune_every=5,
    checkpoint_every=10,
)


class Killed(Exception):
    """What the test throws where a kill would strike."""


def _answers(network: Network, dataset: Dataset) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(torch.from_numpy(np.asarray(dataset.x_ntc)[:4])).numpy())


def test_crops_depend_on_seed_and_step_alone(toy_dataset: Dataset) -> None:
    crops = Crops(toy_dataset, torch.device("cpu"))
    x, y = crops.at(7, seed=1, n_crops=4, crop_h=50)
    again, _ = Crops(toy_dataset, torch.device("cpu")).at(7, seed=1, n_crops=4, crop_h=50)
    other, _ = crops.at(8, seed=1, n_crops=4, crop_h=50)
    assert x.shape == (4, 50, 7) and y.shape == (4, 50, 4)
    assert torch.equal(x, again) and not torch.equal(x, other)
    # x and y are cut at the same place: heat flows only while the system is on.
    assert not ((x[..., 5] == 0) & (y[..., 2] > 0)).any()


def test_crops_come_from_the_training_split_only(toy_dataset: Dataset) -> None:
    crops = Crops(toy_dataset, torch.device("cpu"))
    assert len(crops.x_ntc) == 32
    nothing = toy_dataset.windows.assign(split="validation")
    with pytest.raises(BadDatasetError, match="train"):
        Crops(replace(toy_dataset, windows=nothing), torch.device("cpu"))


def test_learning_rate_rises_and_falls_once() -> None:
    rates = [learning_rate_at(t, TrainingConfig()) for t in np.linspace(0, 1, 101)]
    peak = int(np.argmax(rates))
    greatest = TrainingConfig().learning_rate
    assert peak == 20 and rates[peak] == pytest.approx(greatest)
    assert rates[0] == pytest.approx(greatest / 25) and rates[-1] == pytest.approx(greatest / 1000)
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak:]) < 0).all()


def test_loss_of_knowing_the_mean_is_about_one_and_of_the_truth_is_zero(toy_dataset: Dataset) -> None:
    network = Network(toy_dataset.inputs, toy_dataset.outputs, SMALL.network)
    network.scaling.fit(toy_dataset.x_ntc, toy_dataset.y_ntc)
    y = torch.from_numpy(toy_dataset.y_ntc)
    loss = Loss(network.scaling, toy_dataset.outputs, y, SMALL)
    assert float(loss(loss.wanted(y), y)) < 1e-6
    total = SMALL.temperature_weight + SMALL.co2_weight + SMALL.power_weight
    mean = loss.wanted(y.mean(dim=(0, 1), keepdim=True)).expand_as(y)
    assert 0.8 * total < float(loss(mean, y)) < 1.5 * total


def test_an_off_load_may_be_said_with_any_negative_number(toy_dataset: Dataset) -> None:
    network = Network(toy_dataset.inputs, toy_dataset.outputs, SMALL.network)
    network.scaling.fit(toy_dataset.x_ntc, toy_dataset.y_ntc)
    y = torch.from_numpy(toy_dataset.y_ntc)
    loss = Loss(network.scaling, toy_dataset.outputs, y, SMALL)
    z = loss.wanted(y).clone()
    off = y[..., 2] == 0
    assert off.any()
    z[..., 2][off] = -3.0
    assert float(loss(z, y)) < 1e-6
    wrong = torch.full_like(y, -1.0).requires_grad_(True)
    loss(wrong, y).backward()
    assert (wrong.grad[..., 2][~off] != 0).all()  # type: ignore[index]  # a dead load still learns


def test_a_killed_training_continues_as_if_nothing_had_happened(toy_dataset: Dataset, tmp_path: Path) -> None:
    whole, _ = fit(toy_dataset, SMALL, seed=3, checkpoint=tmp_path / "whole.ckpt")
    # The 20th step's checkpoint is written; then the process dies in the 25th.
    checkpoint = tmp_path / "killed.ckpt"
    calls = {"n": 0}
    original = Crops.at

    def dying(self: Crops, *args: int, **kwargs: int) -> tuple[torch.Tensor, torch.Tensor]:
        calls["n"] += 1
        if calls["n"] == 25:
            raise Killed
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Crops, "at", dying)
        fit(toy_dataset, SMALL, seed=3, checkpoint=checkpoint)
    steps = []
    resumed, _ = fit(toy_dataset, SMALL, seed=3, checkpoint=checkpoint, progress=lambda done, n, f: steps.append(done))
    assert checkpoint.exists() and steps == [40]
    np.testing.assert_array_equal(_answers(resumed, toy_dataset), _answers(whole, toy_dataset))
    assert torch.equal(resumed.layers[0].ffn.gate, whole.layers[0].ffn.gate)  # type: ignore[union-attr, arg-type]


def test_a_checkpoint_of_another_training_is_refused(toy_dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.ckpt"
    config = replace(SMALL, n_steps=10)
    fit(toy_dataset, config, seed=3, checkpoint=checkpoint)
    with pytest.raises(BadCheckpointError, match="another"):
        fit(toy_dataset, config, seed=4, checkpoint=checkpoint)
    checkpoint.write_bytes(b"half a file")
    with pytest.raises(BadCheckpointError, match="cannot be read"):
        fit(toy_dataset, config, seed=3, checkpoint=checkpoint)


def test_same_seed_same_network(toy_dataset: Dataset) -> None:
    config = replace(SMALL, n_steps=10)
    one, again, other = (_answers(fit(toy_dataset, config, seed)[0], toy_dataset) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_trained_pruned_and_shipped_in_one_cycle(toy_dataset: Dataset, tmp_path: Path) -> None:
    """The whole walk on the toy office: better than knowing the mean by far, half the heads and units gone, useless input
    found.
    """
    save_dataset(toy_dataset, tmp_path / "dataset")
    seen: list[dict[str, float]] = []
    config = replace(SMALL, n_steps=300, n_crops=6, learning_rate=1e-2)
    result = train(tmp_path / "dataset", tmp_path / "bundle", config, seed=0, progress=lambda done, n, facts: seen.append(facts))
    assert seen[0]["head"] == 0 and seen[-1]["head"] == seen[-1]["ffn_unit"] == 0.5
    assert result.n_weights < 0.8 * result.n_weights_dense
    assert "wind_speed" not in result.bundle.inputs and "infiltration" in result.bundle.inputs
    assert result.graph_gap < 1e-4
    held = toy_dataset.where((toy_dataset.windows["split"] == "validation").to_numpy())
    blind = figures(held.y_ntc, np.broadcast_to(held.y_ntc.mean(axis=(0, 1)), held.y_ntc.shape), held.outputs, 24)
    assert result.accuracy["zone_temperature_rmse_k"] < 0.5 * blind["zone_temperature_rmse_k"]
    assert result.accuracy["fan_r2"] > 0.9
    assert result.bundle.accuracy["fan_r2"] == pytest.approx(result.accuracy["fan_r2"], abs=1e-5)
    assert result.bundle.core_hours["training"] > 0 and result.bundle.core_hours["campaign"] == 0.01
    assert not (tmp_path / "bundle.ckpt").exists()


def test_training_gives_the_processor_back_its_small_numbers(toy_dataset: Dataset) -> None:
    fit(toy_dataset, replace(SMALL, n_steps=1), seed=1)
    assert np.float64(5e-324) * 1.0 > 0
