"""How a rival network learns: for a number of core-seconds, on our crops, along our learning rate; and its ONNX graph."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from models.batches import Crops
from models.training import TrainingConfig, denormals_flushed, learning_rate_at


@denormals_flushed()
def learn(
    network: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    optimisers: list[torch.optim.Optimizer],
    rate_at: Callable[[float], float],
    crops: Crops,
    config: TrainingConfig,
    seed: int,
    budget_s: float,
    report: Callable[[str], None],
) -> tuple[int, float]:
    """Train until the budget is spent; the learning rate follows the share of the budget that is. One core.

    Args:
        network: has `latent`; changed in place.
        loss_of: (what the head says, truth) -> scalar.
        optimisers: of its weights.
        rate_at: learning rate at share 0..1 of the training.
        crops: training windows.
        config: crops per step, their length and burn-in.
        seed: of the crops.
        budget_s: core-seconds; at least two steps are taken.
        report: told now and then how it goes.

    Returns:
        Steps taken and core-seconds spent.
    """
    network.train()
    mark_s, step, share = time.process_time(), 0, 0.0
    while share < 1 or step < 2:
        x_btc, y_bto = crops.at(step, seed, config.n_crops, config.crop_h)
        burn_in = min(config.burn_in_h, x_btc.shape[1] // 2)
        loss = loss_of(network.latent(x_btc)[:, burn_in:], y_bto[:, burn_in:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate_at(min(share, 1.0))
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        share = (time.process_time() - mark_s) / budget_s
        if step % 100 == 0:
            report(f"step {step}, {share:.0%} of the budget, loss {float(loss.detach()):.4g}")
    network.eval()
    return step, time.process_time() - mark_s


def one_cycle_rate(config: TrainingConfig) -> Callable[[float], float]:
    """Return our learning rate as a function of the share of the training."""
    return lambda share: learning_rate_at(share, config)


def export(network: nn.Module, n_inputs: int, path: Path) -> None:
    """Write (batch, time, inputs) -> (batch, time, outputs) as ONNX, any batch and time.

    By TorchScript: torch's newer exporter takes the length of a recurrence for a constant.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.cpu().eval(),
            (torch.zeros(3, 53, n_inputs),),
            str(path),
            dynamo=False,
            opset_version=17,
            dynamic_axes={name: {0: "b", 1: "t"} for name in ("x_btc", "y_bto")},
            input_names=["x_btc"],
            output_names=["y_bto"],
        )
