"""Where the sun stands, and what its beam puts on each facade: the weather inputs that follow from place and time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

FACADES = {"north": 0.0, "east": 90.0, "south": 180.0, "west": 270.0}
"""Azimuth each facade looks to [deg from north, clockwise]."""

BEAM_COLUMNS = (*(f"{facade}_beam_irradiance" for facade in FACADES), "roof_beam_irradiance")


def sun_position(index: pd.DatetimeIndex, latitude: float, longitude: float) -> tuple[Array, Array]:
    """Return solar altitude and azimuth [rad] at each stamp.

    Low-precision formulas of the Astronomical Almanac as in Spencer (1971), "Fourier series representation of the position of the
    sun", Search 2(5): declination and equation of time from the day angle; good to about 0.5 degrees.

    Args:
        index: UTC stamps, shape (time,); the instant itself.
        latitude, longitude: degrees, north and east positive.
    """
    day = index.day_of_year.to_numpy() - 1 + (index.hour.to_numpy() + index.minute.to_numpy() / 60) / 24
    g = 2 * np.pi * day / 365
    declination = (
        0.006918
        - 0.399912 * np.cos(g)
        + 0.070257 * np.sin(g)
        - 0.006758 * np.cos(2 * g)
        + 0.000907 * np.sin(2 * g)
        - 0.002697 * np.cos(3 * g)
        + 0.00148 * np.sin(3 * g)
    )
    equation_min = 229.18 * (
        0.000075 + 0.001868 * np.cos(g) - 0.032077 * np.sin(g) - 0.014615 * np.cos(2 * g) - 0.040849 * np.sin(2 * g)
    )
    utc_min = index.hour.to_numpy() * 60 + index.minute.to_numpy()
    hour_angle = np.deg2rad((utc_min + equation_min + 4 * longitude) / 4 - 180)
    phi = np.deg2rad(latitude)
    sine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    altitude = np.arcsin(np.clip(sine, -1, 1))
    east = -np.cos(declination) * np.sin(hour_angle)
    north = np.sin(declination) * np.cos(phi) - np.cos(declination) * np.sin(phi) * np.cos(hour_angle)
    return altitude, np.arctan2(east, north) % (2 * np.pi)


def beam_irradiance(index: pd.DatetimeIndex, direct_normal: Array, latitude: float, longitude: float) -> pd.DataFrame:
    """Return the direct irradiance on each facade and on the roof, hourly means.

    The beam is spread over the hour by the mean of the incidence at its six ten-minute middles while the sun is up, so that
    the hours of sunrise and sunset are right.

    Args:
        index: hourly UTC stamps (start of the hour), shape (time,).
        direct_normal: hourly mean direct normal irradiance [W/m2], shape (time,).
        latitude, longitude: degrees.

    Returns:
        Columns BEAM_COLUMNS [W/m2].
    """
    cosines = np.zeros((len(index), len(BEAM_COLUMNS)))
    n_up = np.zeros(len(index))
    for minute in (5, 15, 25, 35, 45, 55):
        altitude, azimuth = sun_position(index + pd.Timedelta(minutes=minute), latitude, longitude)
        up = altitude > 0.01
        n_up += up
        for i, facing in enumerate(FACADES.values()):
            cosines[:, i] += up * np.maximum(0.0, np.cos(altitude) * np.cos(azimuth - np.deg2rad(facing)))
        cosines[:, -1] += up * np.maximum(0.0, np.sin(altitude))
    mean = cosines / np.maximum(n_up, 1)[:, None]
    return pd.DataFrame(mean * np.asarray(direct_normal)[:, None], index=index, columns=list(BEAM_COLUMNS))
