"""Air quality: BOPTEST's CO2 excess, and the outdoor air EN 16798-1 asks for.

Legend of shapes: b batch, t time, z zone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from building.errors import UnknownNameError, did_you_mean
from building.indices.comfort import distance_outside, is_occupied
from building.indices.limits import LIMITS, Limits, limit
from building.units import FLOW, FLOW_PER_AREA

Array = NDArray[np.float64]

POLLUTION_CLASSES = ("very_low", "low", "not_low")
"""What a building gives off besides its people, EN 16798-1:2019 B.3.1.2."""

Pollution = Literal["very_low", "low", "not_low"]


def idis_tot(
    co2_btz: Array, occupied_t: ArrayLike, outdoor_co2: float = 420.0, step_h: float = 1.0, limits: Limits = LIMITS
) -> Array:
    """BOPTEST ``idis_tot``: CO2 excess [ppm.h per zone] over ``co2_above_outdoor`` (800 ppm) above outdoor, occupied hours only.

    Source: Blum et al. 2021, doi:10.1080/19401493.2021.1986574, section on core KPIs.

    Args:
        co2_btz: zone CO2 [ppm], shape (..., time, zone).
        occupied_t: where people are, shape (time,) or (..., time).
        outdoor_co2: ppm.
        step_h: hours per step.
        limits: ``co2_above_outdoor``.

    Returns:
        Shape (...): the mean over zones of the sum over time.
    """
    over = distance_outside(co2_btz, -np.inf, outdoor_co2 + limits["co2_above_outdoor"]).mean(axis=-1)
    return np.asarray((over * np.broadcast_to(np.asarray(occupied_t, dtype=float), over.shape)).sum(axis=-1) * step_h)


def mean_occupied_co2(co2_btz: Array, occupied_t: ArrayLike) -> Array:
    """Return the mean CO2 over zones and occupied hours [ppm], shape (..., time, zone) -> (...); NaN when nobody is there."""
    mean_bt = co2_btz.mean(axis=-1)
    mask = np.broadcast_to(np.asarray(occupied_t, dtype=float), mean_bt.shape)
    n_occupied = mask.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((mean_bt * mask).sum(axis=-1) / n_occupied)


def minimum_outdoor_air_en16798(
    occupancy_share: ArrayLike,
    occupant_density: ArrayLike,
    category: str = "III",
    pollution: Pollution = "very_low",
    limits: Limits = LIMITS,
) -> Array:
    """Return the least outdoor air by actual occupancy [m3/h.m2], EN 16798-1:2019 B.3.1.2, method 1; 0 while nobody is there.

    q = n q_p + q_B per floor area, with n the people present per m2 and q_p, q_B by category and pollution class. Perfect mixing.

    Args:
        occupancy_share: people present, share of the design number, any shape.
        occupant_density: design number per floor area [1/m2], broadcast against it.
        category: ``I`` to ``IV``.
        pollution: one of POLLUTION_CLASSES.
        limits: ``air_per_person_*``, ``air_per_area_*``, ``occupied_share``.

    Raises:
        UnknownNameError: another category or class.
    """
    if pollution not in POLLUTION_CLASSES:
        hint = did_you_mean(pollution, POLLUTION_CLASSES)
        raise UnknownNameError(name=pollution, kind="pollution class", owner="EN 16798-1", hint=hint)
    per_person = FLOW.from_unit(limit(limits, "air_per_person", category), "l/s")
    per_area = FLOW_PER_AREA.from_unit(limit(limits, f"air_per_area_{pollution}", category), "l/s.m2")
    share = np.asarray(occupancy_share, dtype=float)
    need = per_person * np.asarray(occupant_density, dtype=float) * share + per_area
    return np.asarray(np.where(is_occupied(share, limits), need, 0.0))


def outdoor_air_shortfall(outdoor_air_flow: ArrayLike, system_on: ArrayLike, minimum: ArrayLike) -> Array:
    """Return by how much the outdoor air a plan brings stays under a minimum, step by step [m3/h.m2], 0 where it does not.

    Args:
        outdoor_air_flow: setting [m3/h.m2], shape (..., time).
        system_on: share of the step the fans run, shape (..., time).
        minimum: e.g. `minimum_outdoor_air_en16798` (0 while nobody is there), shape (time,) or (..., time).
    """
    flow = np.asarray(outdoor_air_flow, dtype=float) * np.asarray(system_on, dtype=float)
    return np.asarray(np.maximum(np.asarray(minimum, dtype=float) - flow, 0.0))
