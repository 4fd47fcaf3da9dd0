"""Where a weather file is: its time zone, and which of the simulator's own climates are like it."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import numpy as np

from simulation.epw import DRY_BULB, HUMIDITY, WeatherFile, find_weather, read_epw

ALIKE_K = 6.0
"""Climates whose annual mean and yearly swing are within this of the site's are alike."""


def guess_time_zone(weather: WeatherFile) -> str:
    """Return the IANA zone whose city is nearest to the weather file's place, of those with its hours from UTC in winter.

    Source: zone1970.tab of the IANA time zone database. Near a border it may be the neighbour's.
    """
    table = (files("tzdata") / "zoneinfo" / "zone1970.tab").read_text(encoding="utf-8")
    winter = datetime(2024, 1 if weather.latitude >= 0 else 7, 15)
    near: list[tuple[float, str]] = []
    for line in table.splitlines():
        if line.startswith("#"):
            continue
        _, place, name = line.split("\t")[:3]
        if ZoneInfo(name).utcoffset(winter) == timedelta(hours=weather.utc_offset_h):
            near.append((_distance(weather, *_coordinates(place)), name))
    return min(near)[1] if near else f"Etc/GMT{-weather.utc_offset_h:+.0f}"


def _coordinates(iso6709: str) -> tuple[float, float]:
    """Return latitude and longitude [deg] of ``+DDMM[SS]+DDDMM[SS]``."""

    def degrees(sign: str, digits: str, n: int) -> float:
        value = int(digits[:n]) + int(digits[n : n + 2]) / 60
        return -value if sign == "-" else value

    (north, latitude), (east, longitude) = re.findall(r"([+-])(\d+)", iso6709)
    return degrees(north, latitude, 2), degrees(east, longitude, 3)


def _distance(weather: WeatherFile, latitude: float, longitude: float) -> float:
    """Return the angle between two places [rad]."""
    a, b = math.radians(weather.latitude), math.radians(latitude)
    c = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(math.radians(weather.longitude - longitude))
    return math.acos(min(1.0, max(-1.0, c)))


def similar_climates(weather: WeatherFile) -> tuple[list[str], list[str]]:
    """Return up to four of the simulator's climates like the site's to learn from, and the next one to hold out."""
    from pyenergyplus.dataset import weather_files

    own = _year(weather)
    gap = {}
    for name in weather_files:
        other = read_epw(find_weather(name))
        if (other.latitude, other.longitude) != (weather.latitude, weather.longitude):
            gap[name] = float(np.abs(_year(other) - own).max())
    alike = [name for name in sorted(gap, key=lambda n: gap[n]) if gap[name] <= ALIKE_K][:5]
    return (alike[:-1], alike[-1:]) if len(alike) > 1 else (alike, [])


def _year(weather: WeatherFile) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return annual mean, coldest and hottest weeks' mean dry bulb [degC], and a tenth of the mean humidity [%]."""
    dry = weather.column(DRY_BULB)
    weeks = dry[: 52 * 168].reshape(52, 168).mean(axis=1)
    return np.array([dry.mean(), weeks.min(), weeks.max(), weather.column(HUMIDITY).mean() / 10])
