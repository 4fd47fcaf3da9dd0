"""How good is a predictor: the figures every bar uses. numpy only; any truth against any answer of the same shape.

Warm-up hours are left out everywhere. Legend of shapes: n runs, t time [h], o outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from building.units import CO2, TEMPERATURE
from building.variables import Role, Signature

Array = NDArray[np.floating[Any]]

# Figure name -> the outputs whose sum it judges; names a building lacks are left out.
LOADS: dict[str, tuple[str, ...]] = {
    "heating": ("gas_coil_heat", "electric_reheat_heat", "heating_power"),
    "cooling": ("coil_cooling", "cooling_power"),
    "fan": ("fan_electricity", "fan_power"),
    "electricity": ("facility_electricity",),
}
WEEK_H = 168
SMALL_SHARE = 0.05  # of the pooled mean: below it a run's R2 or relative total means nothing
FALSE_LOAD_SHARE = 0.01  # of an output's mean: a prediction above it in an hour of exactly zero truth is a false load


def rmse(true: Array, predicted: Array) -> float:
    """Root mean square error over everything given."""
    return float(np.sqrt(np.mean(np.square(predicted - true, dtype=np.float64))))


def r2_pooled(true: Array, predicted: Array) -> float:
    """Return 1 - sum of squared errors / sum of squares about the mean, over all hours and runs; nan for a constant truth."""
    total = float(np.sum(np.square(true - true.mean(dtype=np.float64), dtype=np.float64)))
    return 1 - float(np.sum(np.square(predicted - true, dtype=np.float64))) / total if total > 0 else float("nan")


def r2_within_runs(true_nt: Array, predicted_nt: Array) -> NDArray[np.float64]:
    """Return the R2 of each run whose mean exceeds 5 % of the pooled mean, shape (such runs,)."""
    counts = true_nt.mean(axis=1) > SMALL_SHARE * true_nt.mean()
    return np.array([r2_pooled(t, p) for t, p in zip(true_nt[counts], predicted_nt[counts], strict=True)])


def total_errors(true_nto: Array, predicted_nto: Array) -> NDArray[np.float64]:
    """Return |predicted total - true total| / max(true total, 5 % of the output's mean total), shape (n, o)."""
    true, predicted = true_nto.sum(axis=1, dtype=np.float64), predicted_nto.sum(axis=1, dtype=np.float64)
    floor = SMALL_SHARE * np.abs(true).mean(axis=0)
    return np.asarray(np.abs(predicted - true) / np.maximum(np.maximum(np.abs(true), floor), 1e-30))


def restart_hours(x_nti: Array, inputs: Signature, switch: str = "system_on") -> NDArray[np.bool_]:
    """Return the hours in which the system comes on after an hour off, shape (n, t); none where a building has no such
    setting.
    """
    is_restart = np.zeros(x_nti.shape[:2], dtype=bool)
    if switch in inputs:
        on = x_nti[:, :, inputs.position(switch)] > 0
        is_restart[:, 1:] = on[:, 1:] & ~on[:, :-1]
    return is_restart


def figures(
    y_true_nto: Array,
    y_pred_nto: Array,
    outputs: Signature,
    warm_up_h: int,
    is_restart_nt: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Return all figures by name; those a building has no outputs for are left out.

    Args:
        y_true_nto, y_pred_nto: truth and answer, physical units, `outputs` order.
        outputs: names, roles and quantities of the channels.
        warm_up_h: leading hours not judged.
        is_restart_nt: hours whose load errors are also judged alone (see `restart_hours`).

    Returns:
        ``zone_temperature_rmse_k`` (pooled over zones), ``zone_temperature_rmse_worst_k`` (worst zone),
        ``last_over_first_week`` (temperature RMSE of the last judged week over the first), ``co2_rmse_ppm``,
        ``<load>_r2`` pooled and ``<load>_r2_within_median``, ``total_error_median`` and ``_worst`` over runs and powers and
        ``<load>_total_error_median``, ``restart_heating_error`` (mean absolute error over mean truth in restart hours),
        ``false_load_share`` (share of the hours of exactly zero power in which more than 1 % of the mean is predicted).
    """
    true, pred = y_true_nto[:, warm_up_h:], y_pred_nto[:, warm_up_h:]
    result: dict[str, float] = {}
    zones = outputs.positions(outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)
    if zones:
        error = pred[..., zones] - true[..., zones]
        by_zone = np.sqrt(np.mean(np.square(error, dtype=np.float64), axis=(0, 1)))
        result["zone_temperature_rmse_k"] = float(np.sqrt(np.mean(by_zone**2)))
        result["zone_temperature_rmse_worst_k"] = float(by_zone.max())
        if true.shape[1] >= 2 * WEEK_H:
            first, last = (float(np.sqrt(np.mean(np.square(e)))) for e in (error[:, :WEEK_H], error[:, -WEEK_H:]))
            result["last_over_first_week"] = last / first if first > 0 else float("nan")
    gases = outputs.positions(outputs.having(Role.INDOOR, quantity=CO2).names)
    if gases:
        result["co2_rmse_ppm"] = rmse(true[..., gases], pred[..., gases])
    for load, names in LOADS.items():
        channels = outputs.positions(n for n in names if n in outputs)
        if channels:
            t, p = true[..., channels].sum(axis=-1), pred[..., channels].sum(axis=-1)
            within = r2_within_runs(t, p)
            result[f"{load}_r2"] = r2_pooled(t, p)
            result[f"{load}_r2_within_median"] = float(np.median(within)) if len(within) else float("nan")
            result[f"{load}_total_error_median"] = float(np.median(total_errors(t[..., None], p[..., None])))
            if load == "heating" and is_restart_nt is not None and is_restart_nt[:, warm_up_h:].any():
                r = is_restart_nt[:, warm_up_h:]
                result["restart_heating_error"] = float(np.abs(p[r] - t[r]).mean() / max(float(t[r].mean()), 1e-30))
    powers = outputs.positions(outputs.having(Role.CONSUMPTION).names)
    if powers:
        errors = total_errors(true[..., powers], pred[..., powers])
        result["total_error_median"] = float(np.median(errors))
        result["total_error_worst"] = float(errors.max())
        t, p = true[..., powers], pred[..., powers]
        is_zero = t == 0
        if is_zero.any():
            result["false_load_share"] = float((p > FALSE_LOAD_SHARE * t.mean(axis=(0, 1)))[is_zero].mean())
    return result


def by_output(y_true_nto: Array, y_pred_nto: Array, outputs: Signature, warm_up_h: int) -> dict[str, dict[str, float]]:
    """Return RMSE, pooled R2, median and worst total error of every output, by its name."""
    true, pred = y_true_nto[:, warm_up_h:], y_pred_nto[:, warm_up_h:]
    totals = total_errors(true, pred)
    return {
        name: {
            "rmse": rmse(true[..., o], pred[..., o]),
            "r2": r2_pooled(true[..., o], pred[..., o]),
            "total_error_median": float(np.median(totals[:, o])),
            "total_error_worst": float(totals[:, o].max()),
        }
        for o, name in enumerate(outputs.names)
    }
