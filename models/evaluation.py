"""How good is a predictor: the figures every bar uses. numpy only; any truth against any answer of the same shape.

Warm-up hours are left out everywhere. Legend of shapes: n runs, t time [h], o outputs. Shares, not percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from building.errors import NotFiniteError
from building.units import CO2, TEMPERATURE
from building.variables import Role, Signature

Array = NDArray[np.floating[Any]]
Hours = NDArray[np.bool_]

# Figure name -> the outputs whose sum it judges; names a building lacks are left out.
LOADS: dict[str, tuple[str, ...]] = {
    "heating": ("gas_coil_heat", "electric_reheat_heat", "heating_power"),
    "cooling": ("coil_cooling", "cooling_power"),
    "fan": ("fan_electricity", "fan_power"),
    "electricity": ("facility_electricity",),
}
WEEK_H = 168
SMALL_SHARE = 0.05  # of the pooled mean: below it a run's R2 or relative total means nothing
FALSE_LOAD_SHARE = 0.01  # of an output's mean: a load above it is there, in an hour of exactly zero truth it is false
RESTARTED = ("heating", "cooling")


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
    return np.asarray(np.abs(predicted - true) / _total_scale(true))


def running_errors(true_nto: Array, predicted_nto: Array) -> NDArray[np.float64]:
    """Return the largest |sum of errors so far| / the total as in `total_errors`, shape (n, o): errors that cancel show here."""
    summed = np.abs(np.cumsum(predicted_nto - true_nto, axis=1, dtype=np.float64)).max(axis=1)
    return np.asarray(summed / _total_scale(true_nto.sum(axis=1, dtype=np.float64)))


def bias(true: Array, predicted: Array) -> float:
    """Return sum of errors / sum of truth; nan where the truth sums to nothing."""
    total = float(true.sum(dtype=np.float64))
    return float(np.sum(predicted - true, dtype=np.float64)) / total if total else float("nan")


def _total_scale(true_no: NDArray[np.float64]) -> NDArray[np.float64]:
    floor = SMALL_SHARE * np.abs(true_no).mean(axis=0)
    return np.asarray(np.maximum(np.maximum(np.abs(true_no), floor), 1e-30))


def restart_hours(x_nti: Array, inputs: Signature, switch: str = "system_on") -> Hours:
    """Return the hours in which the system comes on after an hour off, shape (n, t); none where a building has no such
    setting.
    """
    is_restart = np.zeros(x_nti.shape[:2], dtype=bool)
    if switch in inputs:
        on = x_nti[:, :, inputs.position(switch)] > 0
        is_restart[:, 1:] = on[:, 1:] & ~on[:, :-1]
    return is_restart


def loads(y_nto: Array, outputs: Signature) -> dict[str, Array]:
    """Return the loads a building has outputs for, by the names of LOADS, each of shape (n, t)."""
    channels = {load: outputs.positions(n for n in names if n in outputs) for load, names in LOADS.items()}
    return {load: y_nto[..., c].sum(axis=-1) for load, c in channels.items() if c}


def check_finite(y_nto: Array, outputs: Signature, what: str) -> None:
    """Raise NotFiniteError, with the worst output and where it starts, unless every value is a number."""
    is_bad = ~np.isfinite(y_nto)
    if is_bad.any():
        worst = int(is_bad.sum(axis=(0, 1)).argmax())
        run, hour = (int(i) for i in np.argwhere(is_bad[..., worst])[0])
        raise NotFiniteError(
            what=what, n_bad=int(is_bad[..., worst].sum()), column=outputs.names[worst], where=f"run {run}, hour {hour}"
        )


def figures(
    y_true_nto: Array, y_pred_nto: Array, outputs: Signature, warm_up_h: int, is_restart_nt: Hours | None = None
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
        ``<load>_total_error_median``, ``running_error_median`` and ``_worst`` (see `running_errors`),
        ``restart_heating_error`` and ``_bias``, ``restart_cooling_error`` and ``_bias`` (see `restart`),
        ``false_load_share`` and ``missed_load_share`` over all powers (see `zeros`).
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
            result["last_over_first_week"] = _ratio(*(float(np.sqrt(np.mean(np.square(e)))) for e in _last_and_first(error)))
    gases = outputs.positions(outputs.having(Role.INDOOR, quantity=CO2).names)
    if gases:
        result["co2_rmse_ppm"] = rmse(true[..., gases], pred[..., gases])
    predicted = loads(pred, outputs)
    for load, t in loads(true, outputs).items():
        p = predicted[load]
        within = r2_within_runs(t, p)
        result[f"{load}_r2"] = r2_pooled(t, p)
        result[f"{load}_r2_within_median"] = float(np.median(within)) if len(within) else float("nan")
        result[f"{load}_total_error_median"] = float(np.median(total_errors(t[..., None], p[..., None])))
        if load in RESTARTED and is_restart_nt is not None and is_restart_nt[:, warm_up_h:].any():
            first_hour = restart(t, p, is_restart_nt[:, warm_up_h:])
            result[f"restart_{load}_error"], result[f"restart_{load}_bias"] = first_hour["error"], first_hour["bias"]
    powers = outputs.positions(outputs.having(Role.CONSUMPTION).names)
    if powers:
        t, p = true[..., powers], pred[..., powers]
        errors, running = total_errors(t, p), running_errors(t, p)
        result["total_error_median"], result["total_error_worst"] = float(np.median(errors)), float(errors.max())
        result["running_error_median"], result["running_error_worst"] = float(np.median(running)), float(running.max())
        found = zeros(t, p)
        for name in ("false_load_share", "missed_load_share"):
            if not np.isnan(found[name]):
                result[name] = found[name]
    return result


def _last_and_first(error_nto: Array) -> tuple[Array, Array]:
    return error_nto[:, -WEEK_H:], error_nto[:, :WEEK_H]


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else float("nan")


def by_output(y_true_nto: Array, y_pred_nto: Array, outputs: Signature, warm_up_h: int) -> dict[str, dict[str, float]]:
    """Return RMSE, pooled R2, bias, mean error, median and worst total and running error of every output, by its name."""
    true, pred = y_true_nto[:, warm_up_h:], y_pred_nto[:, warm_up_h:]
    totals, running = total_errors(true, pred), running_errors(true, pred)
    return {
        name: {
            "rmse": rmse(true[..., o], pred[..., o]),
            "r2": r2_pooled(true[..., o], pred[..., o]),
            "bias": bias(true[..., o], pred[..., o]),
            "mean_error": float(np.mean(pred[..., o] - true[..., o], dtype=np.float64)),
            "total_error_median": float(np.median(totals[:, o])),
            "total_error_worst": float(totals[:, o].max()),
            "running_error_median": float(np.median(running[:, o])),
            "running_error_worst": float(running[:, o].max()),
        }
        for o, name in enumerate(outputs.names)
    }


def by_zone(true_nto: Array, pred_nto: Array, outputs: Signature) -> dict[str, dict[str, float]]:
    """Return RMSE and mean error of temperature and CO2 of every zone; all hours given count."""
    found: dict[str, dict[str, float]] = {}
    for quantity, name, unit in ((TEMPERATURE, "temperature", "k"), (CO2, "co2", "ppm")):
        for v in outputs.having(Role.INDOOR, quantity=quantity):
            t, p = true_nto[..., outputs.position(v.name)], pred_nto[..., outputs.position(v.name)]
            zone = found.setdefault(v.zone or v.name, {})
            zone[f"{name}_rmse_{unit}"] = rmse(t, p)
            zone[f"{name}_bias_{unit}"] = float(np.mean(p - t, dtype=np.float64))
    return found


def apart(true_nto: Array, pred_nto: Array, outputs: Signature, groups: Mapping[str, Hours]) -> dict[str, dict[str, float]]:
    """Return figures of groups of hours, by group; a group without hours is left out.

    Args:
        true_nto, pred_nto: judged hours only.
        outputs: their channels.
        groups: by name, the hours that belong to it, shape (n, t).

    Returns:
        ``hours``, ``runs``; RMSE and mean error of the zones, ``temperature_rmse_k``, ``temperature_bias_k``, ``co2_rmse_ppm``,
        ``co2_bias_ppm``; of each load ``<load>_error`` (RMSE over the spread of *all* hours, so that groups compare: over all
        hours it is sqrt(1 - R2)), ``<load>_bias`` (sum of errors over the sum of truth) and ``<load>_r2`` within the group. Bias
        and R2 are nan where the group's load is below 5 % of the mean, or its spread below 5 % of the spread, of all hours.
    """
    rooms = {
        name: pred_nto[..., c] - true_nto[..., c]
        for name, quantity in (("temperature", TEMPERATURE), ("co2", CO2))
        if (c := outputs.positions(outputs.having(Role.INDOOR, quantity=quantity).names))
    }
    true, pred = loads(true_nto, outputs), loads(pred_nto, outputs)
    found: dict[str, dict[str, float]] = {}
    for group, hours in groups.items():
        if not hours.any():
            continue
        one: dict[str, float] = {"hours": int(hours.sum()), "runs": int(hours.any(axis=1).sum())}
        for name, error in rooms.items():
            unit = "k" if name == "temperature" else "ppm"
            one[f"{name}_rmse_{unit}"] = float(np.sqrt(np.mean(np.square(error[hours], dtype=np.float64))))
            one[f"{name}_bias_{unit}"] = float(np.mean(error[hours], dtype=np.float64))
        for load, all_hours in true.items():
            t, p = all_hours[hours], pred[load][hours]
            one[f"{load}_error"] = _ratio(rmse(t, p), float(all_hours.std()))
            one[f"{load}_bias"] = bias(t, p) if t.mean() >= SMALL_SHARE * all_hours.mean() else float("nan")
            one[f"{load}_r2"] = r2_pooled(t, p) if t.std() >= SMALL_SHARE * all_hours.std() else float("nan")
        found[group] = one
    return found


def restart(true_nt: Array, pred_nt: Array, is_restart_nt: Hours) -> dict[str, float]:
    """Return of one load in the given hours: ``hours``, ``error`` (mean absolute error over mean truth), ``bias`` (mean error
    over mean truth); nan where there are none.
    """
    t, p = true_nt[is_restart_nt], pred_nt[is_restart_nt]
    if not t.size:
        return {"hours": 0, "error": float("nan"), "bias": float("nan")}
    return {"hours": int(t.size), "error": _ratio(float(np.abs(p - t).sum()), float(t.sum())), "bias": bias(t, p)}


def zeros(true_nto: Array, pred_nto: Array) -> dict[str, float]:
    """Judge the hours in which powers are exactly zero, and those in which none is predicted.

    A load is there when it exceeds 1 % of its output's mean.

    Returns:
        ``zero_share`` (hours of exactly zero truth), ``false_load_share`` (of those, where a load is predicted),
        ``touched_share`` (of those, where anything above zero is predicted), ``false_energy`` (predicted there, over the total),
        ``missed_load_share`` (of the hours with a load, where none is predicted), ``missed_energy`` (the truth there, over the
        total). nan where no hour can be judged.
    """
    floor = FALSE_LOAD_SHARE * true_nto.mean(axis=(0, 1))
    is_zero, is_load = true_nto == 0, true_nto > floor
    is_missed = is_load & (pred_nto <= floor)
    total = float(true_nto.sum(dtype=np.float64))
    return {
        "zero_share": float(is_zero.mean()),
        "false_load_share": float((pred_nto > floor)[is_zero].mean()) if is_zero.any() else float("nan"),
        "touched_share": float((pred_nto > 0)[is_zero].mean()) if is_zero.any() else float("nan"),
        "false_energy": _ratio(float(pred_nto[is_zero].sum(dtype=np.float64)), total),
        "missed_load_share": float(is_missed[is_load].mean()) if is_load.any() else float("nan"),
        "missed_energy": _ratio(float(true_nto[is_missed].sum(dtype=np.float64)), total),
    }


def coverage(true_nto: Array, low_nto: Array, high_nto: Array, outputs: Signature) -> dict[str, dict[str, float]]:
    """Return how often the truth lies inside an interval (its ends count), by output; all hours given count.

    Returns:
        ``coverage`` (of the hours in which the interval has a width), ``wide_share`` (how many hours those are),
        ``coverage_all_hours`` (the others too: an output that is off and is predicted off with certainty), ``mean_width`` (of the
        hours with a width). nan where no hour has a width.
    """
    is_inside = (low_nto <= true_nto) & (true_nto <= high_nto)
    width = high_nto - low_nto
    found = {}
    for o, name in enumerate(outputs.names):
        wide = width[..., o] > 0
        found[name] = {
            "coverage": float(is_inside[..., o][wide].mean()) if wide.any() else float("nan"),
            "wide_share": float(wide.mean()),
            "coverage_all_hours": float(is_inside[..., o].mean()),
            "mean_width": float(width[..., o][wide].mean()) if wide.any() else float("nan"),
        }
    return found


def held_out_ratios(held_out: Mapping[str, float], training: Mapping[str, float]) -> dict[str, float]:
    """Return the errors in held-out climates over those in training climates, by figure.

    Args:
        held_out, training: what `figures` said of each.

    Returns:
        Ratios of ``zone_temperature_rmse_k`` and ``co2_rmse_ppm``, and of sqrt(1 - R2) of each load; a figure that only one of
        the two has, or that is not a number in one, is left out.
    """
    ratios = {}
    for name in ("zone_temperature_rmse_k", "co2_rmse_ppm"):
        ratios[name] = _ratio(held_out.get(name, float("nan")), training.get(name, float("nan")))
    for load in LOADS:
        unexplained = [1 - f.get(f"{load}_r2", float("nan")) for f in (held_out, training)]
        ratios[f"{load}_sqrt_1_minus_r2"] = _ratio(*(float(np.sqrt(max(u, 0.0))) for u in unexplained))
    return {name: r for name, r in ratios.items() if np.isfinite(r)}
