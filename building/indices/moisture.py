"""Moisture: humidity of air, the band of EN 16798-1, condensation and mould on cold surfaces (ISO 13788, DIN 4108-2).

Legend of shapes: b batch, t time, z zone. Humidity is a share 0..1, a humidity ratio kg water per kg dry air.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from building.indices.comfort import distance_outside
from building.indices.limits import LIMITS, Limits, limit

Array = NDArray[np.float64]

VAPOUR_TO_AIR = 0.621945
"""Ratio of the molar masses of water and dry air, ASHRAE Fundamentals 2017, chapter 1, equation (20)."""


def saturation_pressure_iso13788(temperature: ArrayLike) -> Array:
    """Return the saturation vapour pressure [Pa] over water, over ice below 0 degC, any shape.

    Magnus form, ISO 13788:2012 equations (E.7), (E.8): 610.5 exp(17.269 t / (237.3 + t)), 610.5 exp(21.875 t / (265.5 + t)).
    Within 0.6 % of Hyland and Wexler from -15 to 50 degC, 1.1 % down to -30, and it can be inverted exactly.

    Args:
        temperature: degC.
    """
    t = np.asarray(temperature, dtype=float)
    a = np.where(t >= 0, 17.269, 21.875)
    b = np.where(t >= 0, 237.3, 265.5)
    return np.asarray(610.5 * np.exp(a * t / (b + t)))


def temperature_at_saturation_iso13788(pressure: ArrayLike) -> Array:
    """Return the temperature at which `pressure` [Pa] saturates [degC], any shape; ISO 13788:2012 (E.9), (E.10)."""
    x = np.log(np.maximum(np.asarray(pressure, dtype=float), 1e-3) / 610.5)
    return np.asarray(np.where(x >= 0, 237.3 * x / (17.269 - x), 265.5 * x / (21.875 - x)))


def vapour_pressure(humidity_ratio: ArrayLike, air_pressure: ArrayLike = 101325.0) -> Array:
    """Return the partial pressure of vapour [Pa], any shape: p w / (0.621945 + w), ASHRAE Fundamentals 2017 ch. 1 (20).

    Args:
        humidity_ratio: kg/kg.
        air_pressure: Pa.
    """
    w = np.asarray(humidity_ratio, dtype=float)
    return np.asarray(np.asarray(air_pressure, dtype=float) * w / (VAPOUR_TO_AIR + w))


def relative_humidity(temperature: ArrayLike, humidity_ratio: ArrayLike, air_pressure: ArrayLike = 101325.0) -> Array:
    """Return relative humidity [share], any shape; more than 1 means fog.

    Args:
        temperature: degC.
        humidity_ratio: kg/kg. Of a zone: the mean humidity ratio of the building with that zone's temperature.
        air_pressure: Pa.
    """
    return np.asarray(vapour_pressure(humidity_ratio, air_pressure) / saturation_pressure_iso13788(temperature))


def humidity_ratio(temperature: ArrayLike, relative_humidity: ArrayLike, air_pressure: ArrayLike = 101325.0) -> Array:
    """Return the humidity ratio [kg/kg], any shape; the inverse of `relative_humidity`."""
    p = np.asarray(relative_humidity, dtype=float) * saturation_pressure_iso13788(temperature)
    return np.asarray(VAPOUR_TO_AIR * p / (np.asarray(air_pressure, dtype=float) - p))


def dew_point_iso13788(vapour_pressure: ArrayLike) -> Array:
    """Return the temperature at which surfaces get wet [degC], any shape, from the vapour pressure [Pa]."""
    return temperature_at_saturation_iso13788(vapour_pressure)


def mould_line_iso13788(vapour_pressure: ArrayLike, limits: Limits = LIMITS) -> Array:
    """Return the surface temperature below which mould may grow [degC], any shape, from the vapour pressure [Pa].

    There the surface humidity reaches ``mould_surface_humidity`` (0.8). Check value: 20 degC, 50 % -> 12.6 degC (dew point 9.3).
    """
    return temperature_at_saturation_iso13788(np.asarray(vapour_pressure, dtype=float) / limits["mould_surface_humidity"])


def surface_temperature_iso13788(indoor: ArrayLike, outdoor: ArrayLike, f_rsi: ArrayLike | None = None) -> Array:
    """Return the temperature of the coldest inner surface [degC], any shape: t_e + f_Rsi (t_i - t_e), ISO 13788:2012, steady.

    Args:
        indoor, outdoor: degC.
        f_rsi: temperature factor of that surface; ``surface_factor`` of LIMITS when None.
    """
    factor = LIMITS["surface_factor"] if f_rsi is None else np.asarray(f_rsi, dtype=float)
    out = np.asarray(outdoor, dtype=float)
    return np.asarray(out + factor * (np.asarray(indoor, dtype=float) - out))


def surface_humidity_iso13788(
    temperature_btz: Array,
    humidity_ratio_bt: ArrayLike,
    outdoor_temperature_t: ArrayLike,
    air_pressure_t: ArrayLike = 101325.0,
    limits: Limits = LIMITS,
) -> Array:
    """Return the relative humidity at the coldest surface of each zone [share], shape (..., time, zone).

    Args:
        temperature_btz: zone temperatures [degC], shape (..., time, zone).
        humidity_ratio_bt: mean humidity ratio of the air [kg/kg], shape (..., time).
        outdoor_temperature_t: degC, scalar, shape (time,) or (..., time).
        air_pressure_t: Pa, likewise.
        limits: ``surface_factor``.
    """
    outdoor = np.asarray(outdoor_temperature_t, dtype=float)[..., None]
    p = vapour_pressure(humidity_ratio_bt, air_pressure_t)[..., None]
    surface = surface_temperature_iso13788(temperature_btz, outdoor, limits["surface_factor"])
    return np.asarray(p / saturation_pressure_iso13788(surface))


def mould_risk_hours(surface_humidity_btz: Array, step_h: float = 1.0, limits: Limits = LIMITS) -> Array:
    """Return hours with surface humidity >= ``mould_surface_humidity`` [h per zone], all hours, shape (..., time, zone) -> (...).

    ISO 13788 judges monthly means and mould needs days; single hours are the cautious count an optimiser can act on.
    """
    return np.asarray((surface_humidity_btz >= limits["mould_surface_humidity"]).mean(axis=-1).sum(axis=-1) * step_h)


def mould_excess(surface_humidity_btz: Array, step_h: float = 1.0, limits: Limits = LIMITS) -> Array:
    """Return surface humidity over ``mould_surface_humidity``, summed [share.h per zone], shape (..., time, zone) -> (...).

    The slope a search needs where `mould_risk_hours` only steps.
    """
    over = distance_outside(surface_humidity_btz, -np.inf, limits["mould_surface_humidity"])
    return np.asarray(over.mean(axis=-1).sum(axis=-1) * step_h)


def condensation_hours(surface_humidity_btz: Array, step_h: float = 1.0) -> Array:
    """Return hours with a wet surface (surface humidity >= 1) [h per zone], all hours, shape (..., time, zone) -> (...)."""
    return np.asarray((surface_humidity_btz >= 1).mean(axis=-1).sum(axis=-1) * step_h)


def humidity_band_en16798(category: str = "III", limits: Limits = LIMITS) -> tuple[float, float]:
    """Return low and high design humidity [share], EN 16798-1:2019 Table B.16. Raises UnknownNameError for category IV."""
    return limit(limits, "humidity_low", category), limit(limits, "humidity_high", category)


def humidity_hours_outside_en16798(
    humidity_btz: Array, occupied_t: ArrayLike, category: str = "III", step_h: float = 1.0, limits: Limits = LIMITS
) -> Array:
    """Return occupied hours outside the humidity band [h per zone], shape (..., time, zone) -> (...)."""
    outside = distance_outside(humidity_btz, *humidity_band_en16798(category, limits)) > 0
    share_bt = outside.mean(axis=-1)
    return np.asarray((share_bt * np.broadcast_to(np.asarray(occupied_t, dtype=float), share_bt.shape)).sum(axis=-1) * step_h)
