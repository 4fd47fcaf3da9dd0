"""Hard limits: how far a plan breaks each, 0 when it keeps it. Plain functions, in a table by name.

Decisions keep bounds, ramps, the gap between the setpoints and air renewal by construction; the limits are judged all the same,
so that a change of the decisions cannot break them in silence. Frost depends on the prediction.

Legend of shapes: n plan, t step, s setting, h hour, o output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from building.indices.air import outdoor_air_shortfall
from building.indices.comfort import distance_outside
from building.plan import DEADBAND_K
from building.units import TEMPERATURE
from optim.objectives import zones
from optim.outlook import Outlook

Array = NDArray[np.float64]
Limit = Callable[[Array, Array, Outlook], Array]
"""Plans (plans, steps, settings), predictions (plans, hours, outputs) and outlook in; how far each plan breaks it out."""

ROUNDING = 1e-6
"""What counts as kept: plans and parameters pass through JSON."""


def frost(plans_nts: Array, y_nho: Array, outlook: Outlook) -> Array:
    """Coldest zone under the frost limit, summed over hours [K.h]: leaving an unavoidable cold sooner counts."""
    under = distance_outside(zones(y_nho, outlook, TEMPERATURE), outlook.limits["frost_limit"], np.inf)
    return np.asarray(under.max(axis=-1).sum(axis=-1))


def renewal(plans_nts: Array, y_nho: Array, outlook: Outlook) -> Array:
    """Outdoor air owed and not given while occupied, summed over hours [m3/m2]; 0 for a building without outdoor air to set.

    EN 16798-1 category III, very low polluting building, by actual occupancy, unless the building's limits say otherwise.
    """
    names = outlook.settings.names
    if not {"system_on", "outdoor_air_flow"} <= set(names):
        return np.zeros(len(plans_nts))
    per_hour = plans_nts.shape[1] // len(outlook.future)
    on, flow = (plans_nts[:, :, names.index(n)] for n in ("system_on", "outdoor_air_flow"))
    short = outdoor_air_shortfall(flow, on, np.repeat(outlook.renewal_t, per_hour))
    return np.asarray(_beyond(short).sum(axis=1) / per_hour)


def bounds(plans_nts: Array, y_nho: Array, outlook: Outlook) -> Array:
    """Settings outside their bounds and setpoints nearer than `DEADBAND_K`, the worst of all steps [unit of the setting]."""
    low, high = (np.array([getattr(v, edge) for v in outlook.settings]) for edge in ("low", "high"))
    worst = np.maximum(low - plans_nts, plans_nts - high).max(axis=(1, 2))
    names = outlook.settings.names
    if {"heating_setpoint", "cooling_setpoint"} <= set(names):
        h, c = names.index("heating_setpoint"), names.index("cooling_setpoint")
        worst = np.maximum(worst, (DEADBAND_K - (plans_nts[:, :, c] - plans_nts[:, :, h])).max(axis=1))
    return _beyond(worst)


def ramp(plans_nts: Array, y_nho: Array, outlook: Outlook) -> Array:
    """Change within any hour beyond the setting's ramp, also from what is set now, the worst of all [unit of the setting]."""
    per_hour = plans_nts.shape[1] // len(outlook.future)
    names, now = outlook.settings.names, outlook.last_settings()
    worst = np.zeros(len(plans_nts))
    for name, most in outlook.building.ramps().items():
        if name not in names:
            continue
        series = plans_nts[:, :, names.index(name)]
        before = np.full((len(series), per_hour), now[name])
        series = np.concatenate([before, series], axis=1)
        for lag in range(1, per_hour + 1):
            worst = np.maximum(worst, np.abs(series[:, lag:] - series[:, :-lag]).max(axis=1) - most)
    return _beyond(worst)


LIMITS: Mapping[str, Limit] = {"frost": frost, "renewal": renewal, "bounds": bounds, "ramp": ramp}
"""Every hard limit of a search."""

LIMITS_OF_ANY_PLAN = ("frost", "renewal")
"""Limits the building's own schedule is judged by too; bounds and ramps are promises of ours, not of who wrote that schedule."""


def _beyond(excess: Array) -> Array:
    return np.asarray(np.where(excess > ROUNDING, excess, 0.0))
