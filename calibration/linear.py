"""The misfit linearised around a point of the cube (Gauss-Newton), and a few damped steps down from where CMA-ES stopped.

CMA-ES finds the valley; parameters that trade against each other (window against wall against leakage) make the valley long
and flat, and its last stretch costs thousands of evaluations. Levenberg-Marquardt steps walk it in tens. Every call is one
batched prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.misfit import HUBER_DELTA, Misfit, huber

Array = NDArray[np.float64]

STEP = 0.02
"""Half width of the central differences, unit cube: wide enough to step over the kinks of controls and float32 noise."""
DAMPINGS = (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Linear:
    """Misfit(u + d) ~ level + gradient d + d' hessian d.

    Attributes:
        level: the misfit at the point.
        gradient: shape (n,).
        hessian: Gauss-Newton, half the second derivative, shape (n, n).
        jacobian: of the weighted errors, shape (n, fit hours, channels).
        weight_tc: weights with Huber's factor, shape (fit hours, channels).
        scores_tn: half the gradient, hour by hour, shape (fit hours, n).
    """

    level: float
    gradient: Array
    hessian: Array
    jacobian: Array
    weight_tc: Array
    scores_tn: Array


def linearise(errors_of: Callable[[Array], Array], misfit: Misfit, u_n: Array) -> Linear:
    """Linearise by central differences, one-sided at a bound.

    Args:
        errors_of: points of the cube (batch, n) to weighted errors (batch, fit hours, channels), see `Misfit.errors`.
        misfit: the misfit that is minimised.
        u_n: where.
    """
    n = len(u_n)
    up, down = np.minimum(u_n + STEP, 1.0), np.maximum(u_n - STEP, 0.0)
    u_bn = np.repeat(u_n[None], 2 * n + 1, axis=0)
    u_bn[np.arange(n), np.arange(n)] = up
    u_bn[n + np.arange(n), np.arange(n)] = down
    errors = errors_of(u_bn)
    r_tc = errors[-1]
    jacobian = (errors[:n] - errors[n : 2 * n]) / (up - down)[:, None, None]
    weight_tc = misfit.weight_tc * np.minimum(1.0, HUBER_DELTA / np.maximum(np.abs(r_tc), 1e-12))
    flat = jacobian.reshape(n, -1)
    scores_tn = np.einsum("tc,ntc->tn", weight_tc * r_tc, jacobian)
    return Linear(
        level=float((huber(r_tc) * misfit.weight_tc).sum()),
        gradient=2 * scores_tn.sum(axis=0),
        hessian=(flat * weight_tc.ravel()) @ flat.T,
        jacobian=jacobian,
        weight_tc=weight_tc,
        scores_tn=scores_tn,
    )


def polish(
    errors_of: Callable[[Array], Array],
    misfit_of: Callable[[Array], Array],
    misfit: Misfit,
    u_n: Array,
    max_rounds: int = 10,
    tolerance: float = 3e-5,
) -> tuple[Array, Linear]:
    """Step down the linearised misfit until it falls by less than `tolerance` of itself.

    Args:
        errors_of, misfit: see `linearise`.
        misfit_of: points of the cube (batch, n) to misfits (batch,).
        u_n: where to begin.
        max_rounds: each costs 2 n + 1 and a few more evaluations.
        tolerance: share of the misfit.

    Returns:
        The best point, and the misfit linearised there.
    """
    here = linearise(errors_of, misfit, u_n)
    for _ in range(max_rounds):
        # A coordinate that leans on its bound stays there; the others move.
        free = ~(((u_n <= 0) & (here.gradient > 0)) | ((u_n >= 1) & (here.gradient < 0)))
        hessian, gradient = here.hessian[np.ix_(free, free)], here.gradient[free]
        scale = np.diag(hessian) + 1e-9 * max(float(np.trace(hessian)), 1e-30)
        tries = np.repeat(u_n[None], len(DAMPINGS), axis=0)
        for i, damping in enumerate(DAMPINGS):
            tries[i, free] -= np.linalg.solve(hessian + np.diag((damping + 1e-9) * scale), gradient / 2)
        tries = np.clip(tries, 0.0, 1.0)
        misfits = misfit_of(tries)
        best = int(misfits.argmin())
        if not misfits[best] < here.level * (1 - tolerance):
            break
        u_n = tries[best]
        here = linearise(errors_of, misfit, u_n)
    return u_n, here
