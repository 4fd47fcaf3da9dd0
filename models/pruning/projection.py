"""Projections of a weight matrix onto a ball: ||W|| <= radius. Columns are the structures to remove.

After Guyard & Barlaud (hal-02556382). `l1`, `l21` and `nuclear` are Euclidean projections; the two bi-level ones are feasible and
remove whole columns, but are not the nearest points of their balls (tests show by how much).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def l1(y: Tensor, radius: float) -> Tensor:
    """Nearest point of the l1 ball, any shape, taken as one vector.

    x = sign(y) max(|y| - theta, 0), theta = max(0, max_k ((sum of the k largest |y|) - radius) / k).
    """
    size = y.abs().flatten()
    if float(size.sum()) <= radius:
        return y.clone()
    falling = size.sort(descending=True).values
    counts = torch.arange(1, len(falling) + 1, device=y.device, dtype=y.dtype)
    theta = ((falling.cumsum(0) - radius) / counts).max().clamp(min=0)
    return torch.as_tensor(y.sign() * (y.abs() - theta).clamp(min=0))


def l21(w: Tensor, radius: float) -> Tensor:
    """Nearest point of the group-lasso ball, sum_j ||w_j||_2 <= radius: each column scaled by P_l1(n)_j / n_j."""
    n = w.norm(dim=0)
    return torch.as_tensor(w * (l1(n, radius) / n.clamp(min=1e-30)))


def nuclear(w: Tensor, radius: float) -> Tensor:
    """Nearest point of the nuclear-norm ball, U diag(P_l1(sigma)) V'. Lowers rank, removes no column."""
    u, sigma, vh = torch.linalg.svd(w, full_matrices=False)
    return torch.as_tensor((u * l1(sigma, radius)) @ vh)


def bilevel_l11(w: Tensor, radius: float) -> Tensor:
    """The paper's "l1,1": t = P_l1(||w_j||_1), then each column onto the l1 ball of radius t_j.

    Not the Euclidean projection on the l1,1 ball: that one is `l1` on the whole matrix (plain soft-thresholding).
    """
    t = l1(w.abs().sum(dim=0), radius)
    return torch.stack([l1(w[:, j], float(t[j])) for j in range(w.shape[1])], dim=1)


def bilevel_l1inf(w: Tensor, radius: float) -> Tensor:
    """Bi-level l1,inf: m = P_l1(max |w_j|), then each column clipped to m_j."""
    m = l1(w.abs().amax(dim=0), radius)
    return torch.minimum(torch.maximum(w, -m), m)


def _l1_norm(w: Tensor) -> float:
    return float(w.abs().sum())


def _l21_norm(w: Tensor) -> float:
    return float(w.norm(dim=0).sum())


def _nuclear_norm(w: Tensor) -> float:
    return float(torch.linalg.svdvals(w).sum())


def _l1inf_norm(w: Tensor) -> float:
    return float(w.abs().amax(dim=0).sum())


# Each projection and the norm of its ball; the radius means nothing across layers, so ask for a share of the current norm.
BALLS: dict[Callable[[Tensor, float], Tensor], Callable[[Tensor], float]] = {
    l1: _l1_norm,
    l21: _l21_norm,
    nuclear: _nuclear_norm,
    bilevel_l11: _l1_norm,
    bilevel_l1inf: _l1inf_norm,
}
