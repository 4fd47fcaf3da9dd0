"""Thermal comfort: PMV/PPD, the bands of EN 16798-1, the project's own band, and BOPTEST's discomfort.

Legend of shapes: b batch, t time, z zone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from building.errors import ShapeError
from building.indices.limits import LIMITS, Limits, limit

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def is_occupied(occupancy_share: ArrayLike, limits: Limits = LIMITS) -> Mask:
    """Say where people count: occupancy share >= ``occupied_share`` (0.08), any shape."""
    return np.asarray(np.asarray(occupancy_share, dtype=float) >= limits["occupied_share"])


def running_mean_en16798(daily_mean: Array, alpha: float = 0.8) -> Array:
    """Return the exponentially weighted running mean of daily outdoor means, EN 16798-1 (B.1).

    T_rm(d) = (1 - alpha) * T_ed(d-1) + alpha * T_rm(d-1). Before the first day the first daily mean stands in.

    Args:
        daily_mean: daily mean outdoor temperature [degC], shape (days,).

    Returns:
        Running mean seen on each day [degC], shape (days,).
    """
    out = np.empty(len(daily_mean))
    state = daily_mean[0] if len(daily_mean) else 0.0
    for d in range(len(daily_mean)):
        out[d] = state
        state = (1 - alpha) * daily_mean[d] + alpha * state
    return out


def running_mean_hourly_en16798(
    index: pd.DatetimeIndex, outdoor_temperature_t: ArrayLike, time_zone: str, limits: Limits = LIMITS
) -> Array:
    """Return the running mean of EN 16798-1 (B.1) that holds in each hour [degC], shape (time,).

    Days are those of the building's wall clock, so a day has 23 to 25 hours at the change of time, and a day that the index only
    touches counts with the hours it has. Begin the index a week or more before the hours that are judged.

    Args:
        index: UTC stamps.
        outdoor_temperature_t: dry bulb [degC], shape (time,).
        time_zone: IANA name.
        limits: ``running_mean_alpha``.
    """
    if len(index) == 0:
        return np.empty(0)
    local_day = index.tz_convert(time_zone).tz_localize(None).normalize()
    day_of_t, days = pd.factorize(local_day)
    temperature = np.asarray(outdoor_temperature_t, dtype=float)
    daily = np.bincount(day_of_t, weights=temperature, minlength=len(days)) / np.bincount(day_of_t, minlength=len(days))
    return running_mean_en16798(daily, limits["running_mean_alpha"])[day_of_t]


def band_by_running_mean(running_mean: ArrayLike, limits: Limits = LIMITS) -> tuple[Array, Array]:
    """Return low and high of the project's band on air temperature [degC], any shape.

    20-24 degC while the EN running mean is below 10 degC, 23-26 above 15, 20-26 between (all from `limits`).
    """
    trm = np.asarray(running_mean, dtype=float)
    low = np.where(trm > limits["band_warm_above"], limits["band_warm_low"], limits["band_cold_low"])
    high = np.where(trm < limits["band_cold_below"], limits["band_cold_high"], limits["band_warm_high"])
    return low, high


def comfort_band(
    index: pd.DatetimeIndex, outdoor_temperature_t: ArrayLike, time_zone: str, limits: Limits = LIMITS
) -> tuple[Array, Array]:
    """Return low and high of the project's band in each hour [degC], each of shape (time,).

    `band_by_running_mean` of `running_mean_hourly_en16798`; see there for arguments.
    """
    return band_by_running_mean(running_mean_hourly_en16798(index, outdoor_temperature_t, time_zone, limits), limits)


def tdis_tot(temperature_btz: Array, low_t: ArrayLike, high_t: ArrayLike, occupied_t: ArrayLike, step_h: float = 1.0) -> Array:
    """BOPTEST ``tdis_tot``: discomfort [K.h per zone], both sides of the band, occupied hours only.

    Source: Blum et al. 2021, doi:10.1080/19401493.2021.1986574, section on core KPIs.

    Args:
        temperature_btz: zone temperatures [degC], shape (..., time, zone).
        low_t, high_t: the band [degC], scalar, shape (time,) or (..., time).
        occupied_t: where people are, shape (time,) or (..., time).
        step_h: hours per step.

    Returns:
        Shape (...): the mean over zones of the sum over time.

    Raises:
        ShapeError: fewer than two axes, or a band or mask of another length.
    """
    outside = distance_outside(temperature_btz, low_t, high_t)
    mask = np.broadcast_to(np.asarray(occupied_t, dtype=float), outside.shape[:-1])
    return np.asarray((outside.mean(axis=-1) * mask).sum(axis=-1) * step_h)


def distance_outside(values_btz: Array, low_t: ArrayLike, high_t: ArrayLike) -> Array:
    """Return how far each value lies outside its band, 0 inside, shape (..., time, zone). Raises ShapeError."""
    low, high = np.asarray(low_t, dtype=float), np.asarray(high_t, dtype=float)
    for edge in (low, high):
        if values_btz.ndim < 2 or (edge.ndim and edge.shape[-1] != values_btz.shape[-2]):
            raise ShapeError(
                what="zone values and their band", shape=(values_btz.shape, edge.shape), wanted="(..., time, zone), (time,)"
            )
    return np.asarray(np.maximum(np.maximum(low[..., None] - values_btz, values_btz - high[..., None]), 0.0))


def adaptive_band_en16798(
    running_mean: ArrayLike, category: str = "II", air_speed: ArrayLike = 0.1, limits: Limits = LIMITS
) -> tuple[Array, Array]:
    """Return low and high operative temperature of the adaptive method [degC], any shape; NaN where it does not hold.

    EN 16798-1:2019 B.2.2: 0.33 T_rm + 18.8, category I +2/-3 K, II +3/-4, III +4/-5, for 10 <= T_rm <= 30 degC, buildings
    without mechanical cooling, operable windows, sedentary people free in what they wear. Where the upper limit is above
    25 degC, fans that people control raise it by 1.2, 1.8, 2.2 K at 0.6, 0.9, 1.2 m/s.

    Args:
        running_mean: T_rm [degC].
        category: ``I``, ``II`` or ``III``.
        air_speed: m/s, under people's own control.
        limits: the ``adaptive_*`` figures.

    Raises:
        UnknownNameError: another category.
    """
    trm = np.asarray(running_mean, dtype=float)
    valid = (trm >= limits["adaptive_running_mean_min"]) & (trm <= limits["adaptive_running_mean_max"])
    middle = np.where(valid, limits["adaptive_slope"] * trm + limits["adaptive_offset"], np.nan)
    high = middle + limit(limits, "adaptive_above", category)
    speed = np.asarray(air_speed, dtype=float)
    raised = np.select([speed >= 1.2, speed >= 0.9, speed >= 0.6], [2.2, 1.8, 1.2], 0.0)
    return middle - limit(limits, "adaptive_below", category), high + np.where(high > 25, raised, 0.0)


def operative_band_en16798(
    season: Literal["heating", "cooling"], category: str = "II", limits: Limits = LIMITS
) -> tuple[float, float]:
    """Return low and high operative temperature of a mechanically conditioned office [degC], EN 16798-1:2019 Table B.5.

    Raises:
        UnknownNameError: a category other than I, II, III (sources disagree on IV).
    """
    return limit(limits, f"operative_{season}_low", category), limit(limits, f"operative_{season}_high", category)


def category_en16798(pmv: ArrayLike, limits: Limits = LIMITS) -> NDArray[np.int64]:
    """Return the category a PMV reaches, EN 16798-1:2019 Table B.1: 1, 2, 3, or 4 for none of them (NaN too), any shape."""
    size = np.abs(np.asarray(pmv, dtype=float))
    edges = [size <= limit(limits, "pmv", c) + 1e-12 for c in ("I", "II", "III")]
    return np.asarray(np.select(edges, [1, 2, 3], 4), dtype=np.int64)


def is_within_iso7730(ta: ArrayLike, tr: ArrayLike, air_speed: ArrayLike, rh: ArrayLike, met: ArrayLike, clo: ArrayLike) -> Mask:
    """Say where ISO 7730:2005 (clause 4.1) holds, any shape; arguments as in `pmv_ppd_iso7730`.

    10-30 degC air, 10-40 degC radiant, 0-1 m/s, vapour pressure 0-2700 Pa, 0.8-4 met, 0-2 clo.
    """
    ta, tr, v, rh, met, clo = (np.asarray(a, dtype=float) for a in (ta, tr, air_speed, rh, met, clo))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        pa = _vapour_pressure_iso7730(ta, rh)
    inside = (ta >= 10) & (ta <= 30) & (tr >= 10) & (tr <= 40) & (v >= 0) & (v <= 1) & (pa >= 0) & (pa <= 2700)
    return np.asarray(inside & (met >= 0.8) & (met <= 4) & (clo >= 0) & (clo <= 2))


def _vapour_pressure_iso7730(ta: Array, rh: Array) -> Array:
    """Return the partial pressure of vapour [Pa] as Annex D of ISO 7730:2005 computes it."""
    return np.asarray(rh * 1000 * np.exp(16.6536 - 4030.183 / (ta + 235)))


def relative_air_speed(air_speed: ArrayLike, met: ArrayLike) -> Array:
    """Return the air speed relative to a moving body [m/s]: v + 0.3 (met - 1) above 1 met (ISO 7730:2005, ASHRAE 55)."""
    v, met = np.asarray(air_speed, dtype=float), np.asarray(met, dtype=float)
    return np.asarray(v + 0.3 * np.maximum(met - 1, 0.0))


def pmv_ppd_iso7730(
    ta: ArrayLike, tr: ArrayLike, air_speed: ArrayLike, rh: ArrayLike, met: ArrayLike = 1.2, clo: ArrayLike = 0.7
) -> tuple[Array, Array]:
    """Predicted mean vote and predicted percentage dissatisfied, ISO 7730:2005 equations (1) to (5), Annex D.

    Arguments broadcast. The clothing temperature, an implicit equation, is found by a fixed number of fixed-point steps, so that
    no element's answer depends on its neighbours; the program printed in Annex D stops earlier, up to 0.005 PMV from it.

    Args:
        ta: air temperature [degC].
        tr: mean radiant temperature [degC].
        air_speed: relative air speed [m/s]; see `relative_air_speed`.
        rh: relative humidity, share 0..1.
        met: metabolic rate [met], no external work.
        clo: clothing [clo].

    Returns:
        PMV [-] and PPD [share 0..1]; NaN outside `is_within_iso7730` and where |PMV| > 2.
    """
    ta, tr, v, rh, met, clo = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (ta, tr, air_speed, rh, met, clo)))
    valid = is_within_iso7730(ta, tr, v, rh, met, clo)
    # Inputs outside validity would only raise floating-point warnings; they are answered with NaN at the end.
    ta, tr, v = np.where(valid, ta, 20.0), np.where(valid, tr, 20.0), np.where(valid, v, 0.1)
    rh, met, clo = np.where(valid, rh, 0.5), np.where(valid, met, 1.0), np.where(valid, clo, 0.5)
    pa = _vapour_pressure_iso7730(ta, rh)
    icl = 0.155 * clo  # clothing insulation [m2.K/W]
    m = 58.15 * met  # metabolic rate [W/m2]
    f_cl = np.where(icl <= 0.078, 1 + 1.29 * icl, 1.05 + 0.645 * icl)  # (4)
    h_forced = 12.1 * np.sqrt(v)
    t_skin = 35.7 - 0.028 * m

    def convection(t_cl: Array) -> Array:
        return np.asarray(np.maximum(2.38 * np.abs(t_cl - ta) ** 0.25, h_forced))  # (3)

    def radiation(t_cl: Array) -> Array:
        return np.asarray(3.96e-8 * f_cl * ((t_cl + 273) ** 4 - (tr + 273) ** 4))

    # (2), t_cl = t_skin - I_cl (radiation + convection), with both losses linearised in t_cl: each step shrinks the error to less
    # than a third, so 14 leave less than 1e-5 K.
    t_cl = ta + (35.5 - ta) / (3.5 * (6.45 * icl + 0.1))
    for _ in range(14):
        h_c = convection(t_cl)
        h_r = 3.96e-8 * ((t_cl + 273) ** 2 + (tr + 273) ** 2) * (t_cl + tr + 546)
        t_cl = (t_skin + icl * f_cl * (h_r * tr + h_c * ta)) / (1 + icl * f_cl * (h_r + h_c))
    h_c = convection(t_cl)
    loss = (
        3.05e-3 * (5733 - 6.99 * m - pa)  # diffusion through the skin
        + np.maximum(0.42 * (m - 58.15), 0.0)  # sweat
        + 1.7e-5 * m * (5867 - pa)  # latent respiration
        + 0.0014 * m * (34 - ta)  # dry respiration
        + radiation(t_cl)
        + f_cl * h_c * (t_cl - ta)
    )
    pmv = (0.303 * np.exp(-0.036 * m) + 0.028) * (m - loss)  # (1)
    pmv = np.where(valid & (np.abs(pmv) <= 2), pmv, np.nan)
    ppd = 1 - 0.95 * np.exp(-0.03353 * pmv**4 - 0.2179 * pmv**2)  # (5)
    return pmv, ppd
