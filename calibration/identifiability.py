"""What the data say about each parameter, and what they do not.

A good fit does not prove the parameters. Around the optimum the misfit is linearised (Gauss-Newton, central differences, one
batched prediction), and the posterior covariance is the cluster-robust sandwich (Liang and Zeger (1986), Biometrika 73;
clusters are days, because errors of one day hang together) joined with the flat prior of the cube, taken as a normal of the
same variance, 1/12:

    H = sum w J J',  M = sum over days of s s' + sensor noise,  C = (H M^-1 H + 12)^-1

A direction the data do not see keeps the prior's width. What the width leaves out is an error of the model that is the same
every day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.parameters import ParameterSpace
from calibration.linear import Linear
from calibration.misfit import Misfit

Array = NDArray[np.float64]
State = Literal["identified", "weak", "at bound"]

PRIOR_SD = 1 / np.sqrt(12)
IDENTIFIED_SD = PRIOR_SD / 4
"""A parameter is identified when the data shrank its standard deviation to a quarter of the prior's or less."""
BOUND_ZONE = 0.01
STRONG_PULL = 0.1
"""A bound is a reason to refuse when the misfit would fall by more than this share without it."""


@dataclass(frozen=True)
class Spread:
    """One fitted coordinate and how well the data know it.

    Attributes:
        name: parameter, or coordinate of a fitted week profile.
        value: at the optimum, inside unit.
        low, high: one standard deviation to either side, inside the bounds.
        sd_unit: standard deviation in the unit cube, at most that of the prior, 0.289.
        state: ``identified``, ``weak`` (the data hardly speak of it) or ``at bound``.
        pull: share by which the misfit would fall (by the linear estimate) if the bound it leans on were not there; else 0.
    """

    name: str
    value: float
    low: float
    high: float
    sd_unit: float
    state: State
    pull: float


def spreads(linear: Linear, misfit: Misfit, space: ParameterSpace, u_n: Array, index: pd.DatetimeIndex) -> tuple[Spread, ...]:
    """Return the spread of each coordinate around the optimum.

    Args:
        linear: the misfit linearised at the optimum.
        misfit: the misfit that was minimised.
        space: the coordinates.
        u_n: the optimum.
        index: UTC stamps of the fit hours; clusters are UTC days.
    """
    n = len(u_n)
    flat = linear.jacobian.reshape(n, -1)
    day = pd.factorize(index.floor("D"))[0]
    scores_dn = np.zeros((day.max() + 1, n))
    np.add.at(scores_dn, day, linear.scores_tn)
    centred = scores_dn - scores_dn.mean(axis=0)
    noise = (linear.weight_tc * misfit.noise_tc / misfit.sigma_tc).ravel()
    meat = centred.T @ centred + (flat * noise**2) @ flat.T
    meat += np.eye(n) * max(1e-9 * float(np.trace(meat)) / n, 1e-30)
    information = linear.hessian @ np.linalg.solve(meat, linear.hessian)
    covariance = np.linalg.inv((information + information.T) / 2 + np.eye(n) / PRIOR_SD**2)
    sd = np.sqrt(np.diag(covariance))

    gradient = linear.gradient
    curvature = np.maximum(np.diag(linear.hessian), 1e-30)
    leans_out = ((u_n < BOUND_ZONE) & (gradient > 0)) | ((u_n > 1 - BOUND_ZONE) & (gradient < 0))
    pull = np.where(leans_out, gradient**2 / (4 * curvature) / max(linear.level, 1e-30), 0.0)

    value, low, high = (space.from_unit(u) for u in (u_n, u_n - sd, u_n + sd))
    return tuple(
        Spread(
            name,
            float(value[i]),
            float(low[i]),
            float(high[i]),
            float(sd[i]),
            _state(float(u_n[i]), float(sd[i])),
            float(min(pull[i], 1.0)),
        )
        for i, name in enumerate(space.names)
    )


def _state(u: float, sd: float) -> State:
    if sd > IDENTIFIED_SD:
        return "weak"
    return "at bound" if u < BOUND_ZONE or u > 1 - BOUND_ZONE else "identified"
