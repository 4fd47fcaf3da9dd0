"""When to prune: the sparsity s(t) wanted after the share t of all training steps.

Every schedule is a function (t, initial, final) -> sparsity; `functools.partial` changes where a comparator starts.
Formulas as in Hubens et al., "One-Cycle Pruning" (arXiv 2107.02086) and Zhu & Gupta (arXiv 1710.01878) for `agp`.
"""

from __future__ import annotations

import math
from typing import Protocol

ALPHA, BETA = 14.0, 5.0


class Schedule(Protocol):
    """Sparsity over training."""

    def __call__(self, t: float, initial: float = 0.0, final: float = 1.0) -> float:
        """Return the sparsity wanted at t in [0, 1]."""


def one_cycle(t: float, initial: float = 0.0, final: float = 1.0) -> float:
    """s_i + (s_f - s_i) (1 + exp(-alpha + beta)) / (1 + exp(-alpha t + beta)), alpha = 14, beta = 5 (eq. 3).

    Starts with the first step of training, is steepest at t = 5/14 and leaves a settled tail: 97 % of the way at t = 0.6.
    """
    return initial + (final - initial) * (1 + math.exp(-ALPHA + BETA)) / (1 + math.exp(-ALPHA * t + BETA))


def one_shot(t: float, initial: float = 0.0, final: float = 1.0, start: float = 0.4) -> float:
    """Everything at `start`."""
    return final if t >= start else initial


def iterative(t: float, initial: float = 0.0, final: float = 1.0, start: float = 0.2, n_stages: int = 3) -> float:
    """`n_stages` equal stages after `start`: s_i + (s_f - s_i) / n * ceil(n t')."""
    if t < start:
        return initial
    return initial + (final - initial) / n_stages * math.ceil(n_stages * _after(t, start))


def agp(t: float, initial: float = 0.0, final: float = 1.0, start: float = 0.2) -> float:
    """Automated gradual pruning: s_f + (s_i - s_f) (1 - t')**3 after `start`."""
    if t < start:
        return initial
    return final + (initial - final) * (1 - _after(t, start)) ** 3


def _after(t: float, start: float) -> float:
    return (t - start) / (1 - start)
