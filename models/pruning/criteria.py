"""How units are ranked: the lower its score, the sooner a unit goes. A criterion is a function (group, evidence) -> scores.

Legend: u units of a group, w weights of a unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.pruning.granularity import Group
from models.pruning.projection import BALLS


@dataclass
class Evidence:
    """What training has shown of the gates of one group; a gate's gradient is that of all weights of its unit along themselves.

    Attributes:
        movement: running sum of -gate * d loss / d gate, shape (u,): positive when training makes the unit larger
            (Sanh et al., arXiv 2005.07683, summed over the unit).
        taylor: running mean of (gate * d loss / d gate)**2, shape (u,) (Molchanov et al., arXiv 1906.10771).
    """

    movement: Tensor
    taylor: Tensor

    def add(self, gradient: Tensor, memory: float) -> None:
        """Take in one step's gradient of the gates; `memory` in [0, 1) is how much of the past stays."""
        self.movement.mul_(memory).sub_(gradient)
        self.taylor.mul_(memory).add_(gradient.square(), alpha=1 - memory)


class Criterion(Protocol):
    """Scores of the units of a group, shape (u,)."""

    def __call__(self, group: Group, evidence: Evidence) -> Tensor:
        """Return the scores."""


def magnitude(group: Group, evidence: Evidence) -> Tensor:
    """Mean absolute weight of the unit; for an input, arXiv 2303.10999: mean_o |W[o, i]| on standardised inputs."""
    return group.vectors().detach().abs().mean(dim=1)


def movement(group: Group, evidence: Evidence) -> Tensor:
    """Units that training shrinks go first."""
    return evidence.movement


def taylor(group: Group, evidence: Evidence) -> Tensor:
    """Units whose removal would change the loss least, to first order, go first."""
    return evidence.taylor


def varied(criterion: Criterion) -> Criterion:
    """Filter variety as an add-on (idea: arXiv 2203.05807; formalisation: ours): prune among redundant units, keep rare ones.

    rho_ij = |cos(u_i, u_j)| of the units' weights. Repeatedly take the pair with the largest rho among those kept and drop the
    one with the lower score of `criterion`; the order of dropping is the score.
    """

    def score(group: Group, evidence: Evidence) -> Tensor:
        own = criterion(group, evidence)
        units = group.vectors().detach()
        units = units / units.norm(dim=1, keepdim=True).clamp(min=1e-12)
        rho = (units @ units.T).abs()
        rho.fill_diagonal_(-1.0)
        # What already went, or may never go, makes no pair.
        apart = (group.gate.detach() == 0) | group.is_protected
        rho[apart] = -1.0
        rho[:, apart] = -1.0
        order = torch.where(group.gate.detach() == 0, -1.0, float(len(own)))
        for rank in range(int((~apart).sum()) - 1):
            i, j = divmod(int(rho.argmax()), len(own))
            gone = i if own[i] < own[j] else j
            order[gone] = rank
            rho[gone] = -1.0
            rho[:, gone] = -1.0
        return order

    return score


def constrained(project: Callable[[Tensor, float], Tensor], share: float = 0.7) -> Criterion:
    """Rank by what a projection leaves of each unit when its ball has `share` of the radius the weights need now (methods:
    projection).

    Args:
        project: (matrix with units as columns, radius) -> matrix; one of `projection.BALLS`.
        share: radius over the current norm.
    """

    def score(group: Group, evidence: Evidence) -> Tensor:
        columns = group.vectors().detach().T
        norm = BALLS[project](columns)
        left = project(columns, share * norm).norm(dim=0)
        # Units projected to nothing still need an order: their own size, below all that survive.
        return torch.where(left > 0, 1.0 + left, columns.norm(dim=0) / (1.0 + columns.norm(dim=0)))

    return score
