"""Hygiene: air renewal in the units people ask for, frost, German CO2 bands, flushing before people come.

Legend of shapes: b batch, t time, z zone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from building.indices.limits import LIMITS, Limits

Array = NDArray[np.float64]


def air_changes(outdoor_air_flow: ArrayLike, system_on: ArrayLike, floor_area: float, volume: float) -> Array:
    """Return the air changes by the plan's outdoor air [1/h], any shape.

    Args:
        outdoor_air_flow: setting [m3/h.m2].
        system_on: share of the step the fans run.
        floor_area, volume: of the building [m2], [m3].
    """
    return np.asarray(np.asarray(outdoor_air_flow, dtype=float) * np.asarray(system_on, dtype=float) * (floor_area / volume))


def air_per_person(
    outdoor_air_flow: ArrayLike, system_on: ArrayLike, occupancy_share: ArrayLike, occupant_density: ArrayLike
) -> Array:
    """Return the outdoor air per person present [m3/h], any shape; infinite where nobody is."""
    flow = np.asarray(outdoor_air_flow, dtype=float) * np.asarray(system_on, dtype=float)
    people = np.asarray(occupancy_share, dtype=float) * np.asarray(occupant_density, dtype=float)
    flow, people = np.broadcast_arrays(flow, people)
    return np.asarray(np.divide(flow, people, out=np.full(flow.shape, np.inf), where=people > 0))


def frost_shortfall(temperature_btz: Array, limits: Limits = LIMITS) -> Array:
    """Return by how much the coldest zone and hour stays under ``frost_limit`` [K], 0 above it, (..., time, zone) -> (...)."""
    return np.asarray(np.maximum(limits["frost_limit"] - temperature_btz.min(axis=(-2, -1)), 0.0))


def band_uba(co2: ArrayLike, limits: Limits = LIMITS) -> NDArray[np.int64]:
    """Return the hygiene band of a CO2 concentration [ppm], any shape: 0 safe, 1 conspicuous, 2 unacceptable.

    Umweltbundesamt (2008), Bundesgesundheitsblatt 51, 1358-1369, doi:10.1007/s00103-008-0707-2: below 1000, to 2000, above.
    """
    c = np.asarray(co2, dtype=float)
    return (c >= limits["uba_safe_below"]).astype(np.int64) + (c > limits["uba_unacceptable_above"])


def flush_shortfall_en16798(air_changes_bt: Array, occupied_t: ArrayLike, step_h: float = 1.0, limits: Limits = LIMITS) -> Array:
    """Return the volumes of fresh air still missing when people come, the worst arrival [-], shape (..., time) -> (...).

    EN 16798-1:2019 B.3.1.5: where ventilation stops at night, ``flush_volumes`` of outdoor air must have come in within
    ``flush_window`` hours before occupation. An arrival without the whole window before it in the array is not judged.

    Args:
        air_changes_bt: air changes in each step [1/h], shape (..., time).
        occupied_t: where people are, shape (time,).
        step_h: hours per step.
        limits: ``flush_volumes``, ``flush_window``.
    """
    occupied = np.asarray(occupied_t, dtype=bool)
    n = round(limits["flush_window"] / step_h)
    arrivals = np.flatnonzero(occupied[1:] & ~occupied[:-1]) + 1
    arrivals = arrivals[arrivals >= n]
    worst = np.zeros(air_changes_bt.shape[:-1])
    for i in arrivals:
        brought = air_changes_bt[..., i - n : i].sum(axis=-1) * step_h
        worst = np.maximum(worst, limits["flush_volumes"] - brought)
    return worst
