"""Pruning while training: gates follow the schedule from the first step to the last of the same run.

`Pruning(granularity=HEAD, criterion=movement, schedule=one_cycle, target=0.5)` says what, how ranked, when and how much;
independent axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from models.network import Network
from models.pruning.criteria import Criterion, Evidence, movement
from models.pruning.granularity import HEAD, Granularity, Group
from models.pruning.schedule import Schedule, one_cycle


@dataclass(frozen=True)
class Pruning:
    """A recipe for one granularity.

    Attributes:
        granularity: what is pruned.
        criterion: how units are ranked.
        schedule: when.
        target: share of the prunable units gone at the end.
        against: rank within each ``layer``, or over the whole ``network`` (scores divided by their layer's mean size).
    """

    granularity: Granularity = HEAD
    criterion: Criterion = movement
    schedule: Schedule = one_cycle
    target: float = 0.5
    against: Literal["layer", "network"] = "layer"


class Masks:
    """The gates of a network under some recipes, and the evidence gathered on them.

    The caller's loop: per step `update` before the forward pass and `collect` after the backward pass; `release` at the end.
    """

    def __init__(self, network: Network, prunings: tuple[Pruning, ...], memory: float = 0.99) -> None:
        self.memory = memory
        self.parts = [(p, p.granularity.groups(network)) for p in prunings]
        self.evidence = {
            group.name: Evidence(torch.zeros_like(group.gate), torch.zeros_like(group.gate))
            for _, groups in self.parts
            for group in groups
        }
        for _, groups in self.parts:
            for group in groups:
                group.gate.requires_grad_(True)

    def collect(self) -> None:
        """Take in the gates' gradients of one backward pass and clear them."""
        for _, groups in self.parts:
            for group in groups:
                if group.gate.grad is not None:
                    # A closed gate moves nothing: gate * gradient.
                    self.evidence[group.name].add(group.gate.grad * group.gate.detach(), self.memory)
                    group.gate.grad = None

    def update(self, t: float) -> None:
        """Close gates until the sparsity of share `t` of the training is reached. A closed gate stays closed."""
        for pruning, groups in self.parts:
            sparsity = pruning.schedule(t, 0.0, pruning.target)
            scored = [(group, pruning.criterion(group, self.evidence[group.name]).detach()) for group in groups]
            if pruning.against == "network":
                close([(group, score / score.abs().mean().clamp(min=1e-30)) for group, score in scored], sparsity)
            else:
                for pair in scored:
                    close([pair], sparsity)

    def sparsity(self) -> dict[str, float]:
        """Return the share of prunable units gone, by granularity."""
        return {
            p.granularity.name: sum(int((g.gate == 0).sum()) for g in groups)
            / max(1, sum(int((~g.is_protected).sum()) for g in groups))
            for p, groups in self.parts
        }

    def release(self) -> None:
        """Stop watching the gates; the network is ready to be shrunk."""
        for _, groups in self.parts:
            for group in groups:
                group.gate.requires_grad_(False)

    def state(self) -> dict[str, Any]:
        """Return the evidence for a checkpoint (the gates themselves are in the network's state)."""
        return {name: (e.movement, e.taylor) for name, e in self.evidence.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the evidence back from a checkpoint."""
        for name, (moved, taylored) in state.items():
            self.evidence[name].movement.copy_(moved)
            self.evidence[name].taylor.copy_(taylored)


def close(scored: list[tuple[Group, Tensor]], sparsity: float) -> None:
    """Close the gates with the lowest scores until round(sparsity * prunable units) are closed; floors and protected units stay.

    Rounded, not cut off: one_cycle comes within 1 % of its target at t = 0.7, and the last unit must not wait for t = 1.
    """
    n_prunable = sum(int((~group.is_protected).sum()) for group, _ in scored)
    n_closed = sum(int((group.gate == 0).sum()) for group, _ in scored)
    candidates = sorted(
        (float(score[u]), g, u)
        for g, (group, score) in enumerate(scored)
        for u in torch.nonzero((group.gate.detach() != 0) & ~group.is_protected).flatten().tolist()
    )
    with torch.no_grad():
        for _, g, u in candidates:
            if n_closed >= round(sparsity * n_prunable):
                return
            group = scored[g][0]
            if int((group.gate != 0).sum()) > group.floor:
                group.gate[u] = 0.0
                n_closed += 1
