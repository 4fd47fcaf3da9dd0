"""EPW weather files: find, read, check, morph, write; and the design days their header implies.

Rows of an EPW are hours of local *standard* time; row "hour 7" is 06:00-07:00. EnergyPlus interpolates between rows, so the
weather a building saw is what the engine reports, not these rows.
"""

from __future__ import annotations

import calendar
import csv
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from building.errors import BadWeatherFileError, did_you_mean

Array = NDArray[np.float64]

N_ROWS = 8760
N_FIELDS = 35
DRY_BULB, DEW_POINT, HUMIDITY, PRESSURE, INFRARED, GLOBAL, DIRECT, DIFFUSE, WIND = 6, 7, 8, 9, 12, 13, 14, 15, 21
LIMITS = {DRY_BULB: (-70, 70), HUMIDITY: (0, 110), DIRECT: (0, 1500), DIFFUSE: (0, 1500), WIND: (0, 50)}


@dataclass(frozen=True)
class WeatherFile:
    """One year of hourly weather.

    Attributes:
        path: the file.
        header: its eight header lines.
        rows: its hours, each a list of 35 texts.
        latitude, longitude [deg], elevation [m], utc_offset_h: from the LOCATION line.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    latitude: float
    longitude: float
    elevation: float
    utc_offset_h: float

    def column(self, field: int) -> Array:
        """Return one field as numbers, shape (8760,)."""
        return np.array([float(r[field]) for r in self.rows])


_DAYS = tuple((month, 1 + day) for month in range(1, 13) for day in range(calendar.monthrange(2001, month)[1]))
"""Month and day of each day of a year without 29 February."""


@dataclass(frozen=True)
class Morph:
    """A change of a weather file: T' = mean + stretch * (T - mean) + shift; global, beam and diffuse times radiation.

    Cut at -60 and 60 degC, and at 1100 W/m2.
    """

    shift_k: float = 0.0
    stretch: float = 1.0
    radiation: float = 1.0


def find_weather(name: str) -> Path:
    """Return the path of a weather file given by the name of the simulator's own, or by path.

    Raises:
        BadWeatherFileError: neither exists.
    """
    if Path(name).suffix.lower() == ".epw":
        if not Path(name).exists():
            raise BadWeatherFileError(file=name, reason="there is no such file. Without it the engine stops without a word.")
        return Path(name).absolute()  # the engine runs in a folder of its own
    from pyenergyplus.dataset import weather_files

    if name not in weather_files:
        raise BadWeatherFileError(file=name, reason=f"not a weather file of the wheel.{did_you_mean(name, weather_files)}")
    return Path(weather_files[name])


@lru_cache(maxsize=20)
def read_epw(path: Path) -> WeatherFile:
    """Read and check a whole-year EPW.

    Raises:
        BadWeatherFileError: no header, a missing or broken row (named), a value out of its physical range (named).
    """
    with open(path, encoding="latin-1", newline="") as f:
        lines = f.read().splitlines()
    if len(lines) < 9 or not lines[0].upper().startswith("LOCATION"):
        raise BadWeatherFileError(file=path, reason="does not begin with a LOCATION line; not an EPW.")
    rows = tuple(tuple(r) for r in csv.reader(lines[8:]) if r)
    for i, row in enumerate(rows):
        day, hour = divmod(i, 24)
        if len(row) < N_FIELDS - 3:
            raise BadWeatherFileError(file=path, reason=f"row {i + 9} has {len(row)} fields, wanted {N_FIELDS}.")
        date = _DAYS[day] if day < len(_DAYS) else None
        if (_number(row[1]), _number(row[2]), _number(row[3])) != (*(date or (0, 0)), hour + 1):
            found = f"row {i + 9} is hour {row[3]} of {row[1]}/{row[2]}"
            wanted = "no row after 31 December" if date is None else f"wanted hour {hour + 1} of {date[0]}/{date[1]}"
            reason = f"{found}, {wanted}: a row is missing or twice, or the year has a 29 February."
            raise BadWeatherFileError(file=path, reason=reason)
        for field, (low, high) in LIMITS.items():
            value = _number(row[field])
            if not low <= value <= high:
                reason = f"row {i + 9} field {field + 1} is {row[field]}, wanted {low:g} .. {high:g}. Fill the hour before use."
                raise BadWeatherFileError(file=path, reason=reason)
    if len(rows) != N_ROWS:
        raise BadWeatherFileError(file=path, reason=f"has {len(rows)} hourly rows, wanted {N_ROWS} (a year without 29 February).")
    place = lines[0].split(",")
    try:
        latitude, longitude, offset, elevation = (float(x) for x in place[6:10])
    except ValueError as e:
        reason = "the LOCATION line must give latitude, longitude, hours from UTC and elevation as its fields 7 to 10."
        raise BadWeatherFileError(file=path, reason=reason) from e
    return WeatherFile(path, tuple(lines[:8]), rows, latitude, longitude, elevation, offset)


def _number(text: str) -> float:
    """Return a number, NaN where there is none: outside every limit."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def write_morphed(weather: WeatherFile, morph: Morph, path: Path) -> None:
    """Write a morphed copy: relative humidity kept, dew point and sky radiation left for the engine to derive."""
    dry = weather.column(DRY_BULB)
    new = np.clip(dry.mean() + morph.stretch * (dry - dry.mean()) + morph.shift_k, -60, 60)
    lines = list(weather.header)
    for row, t in zip(weather.rows, new, strict=True):
        r = list(row)
        r[DRY_BULB] = f"{t:.2f}"
        r[DEW_POINT] = "99.9"
        r[INFRARED] = "9999"
        for field in (GLOBAL, DIRECT, DIFFUSE):
            r[field] = f"{min(float(r[field]) * morph.radiation, 1100.0):.0f}"
        lines.append(",".join(r))
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")


def design_days(weather: WeatherFile) -> dict[str, dict[str, Any]]:
    """Return a heating (99.6 %) and a cooling (0.4 %) SizingPeriod:DesignDay from the header, else from quantiles of the hours.

    Returns:
        epJSON objects by name.
    """
    heating_db, cooling_db, cooling_wb, daily_range = _design_conditions(weather)
    pressure = 101325 * (1 - 2.25577e-5 * weather.elevation) ** 5.25588
    common: dict[str, Any] = {
        "barometric_pressure": pressure,
        "day_of_month": 21,
        "humidity_condition_type": "WetBulb",
        "rain_indicator": "No",
        "snow_indicator": "No",
        "daylight_saving_time_indicator": "No",
        "solar_model_indicator": "ASHRAEClearSky",
    }
    winter, summer = (1, 7) if weather.latitude >= 0 else (7, 1)
    return {
        "heating 99.6 %": common
        | {
            "month": winter,
            "day_type": "WinterDesignDay",
            "maximum_dry_bulb_temperature": heating_db,
            "daily_dry_bulb_temperature_range": 0.0,
            "wetbulb_or_dewpoint_at_maximum_dry_bulb": heating_db,
            "wind_speed": 4.9,
            "wind_direction": 270,
            "sky_clearness": 0.0,
        },
        "cooling 0.4 %": common
        | {
            "month": summer,
            "day_type": "SummerDesignDay",
            "maximum_dry_bulb_temperature": cooling_db,
            "daily_dry_bulb_temperature_range": daily_range,
            "wetbulb_or_dewpoint_at_maximum_dry_bulb": cooling_wb,
            "wind_speed": 5.3,
            "wind_direction": 230,
            "sky_clearness": 1.0,
        },
    }


def _design_conditions(weather: WeatherFile) -> tuple[float, float, float, float]:
    """Return heating dry bulb, cooling dry bulb, coincident wet bulb, daily range [degC, K]."""
    line = next((h for h in weather.header if h.upper().startswith("DESIGN CONDITIONS")), "")
    fields = [f.strip() for f in line.split(",")]
    try:
        heat, cool = fields.index("Heating"), fields.index("Cooling")
        return float(fields[heat + 2]), float(fields[cool + 3]), float(fields[cool + 4]), float(fields[cool + 2])
    except (ValueError, IndexError):
        dry = weather.column(DRY_BULB)
        humidity = weather.column(HUMIDITY)
        hot = dry >= np.quantile(dry, 0.996)
        daily = dry.reshape(-1, 24)
        range_k = float(np.median((daily.max(axis=1) - daily.min(axis=1))[150:240]))
        # Stull (2011), J. Appl. Meteorol. Climatol. 50: wet bulb from dry bulb and relative humidity, +- 0.3 K.
        t, rh = float(np.quantile(dry, 0.996)), float(humidity[hot].mean())
        wet = (
            t * np.arctan(0.151977 * (rh + 8.313659) ** 0.5)
            + np.arctan(t + rh)
            - np.arctan(rh - 1.676331)
            + 0.00391838 * rh**1.5 * np.arctan(0.023101 * rh)
            - 4.686035
        )
        return float(np.quantile(dry, 0.004)), t, float(wet), range_k
