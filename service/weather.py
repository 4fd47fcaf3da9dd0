"""The weather that will come, from a service that speaks Open-Meteo's format (https://open-meteo.com/en/docs), by HTTP or MQTT.

Its values are instants at the stamp, radiation the mean of the hour *before* it; ours are means of the hour from the stamp on. So
instants become the mean of two neighbours, and radiation moves back by one hour. Units are read from the answer, never assumed.
"""

from __future__ import annotations

import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from building.description import Building, load_building
from building.errors import BadReadingError, UnknownUnitError, WeatherServiceError
from building.indices.moisture import humidity_ratio, saturation_pressure_iso13788
from building.units import IRRADIANCE, PRESSURE, RELATIVE_HUMIDITY, TEMPERATURE, WIND_SPEED, Quantity
from building.variables import Signature
from service import payloads
from service.config import Config

LARGEST_ANSWER = 4_000_000
"""Bytes; sixteen days of hours are some tens of thousands."""
HOUR = pd.Timedelta(hours=1)

INSTANTS: Mapping[str, tuple[str, Quantity]] = {
    "outdoor_air_temperature": ("temperature_2m", TEMPERATURE),
    "outdoor_air_pressure": ("surface_pressure", PRESSURE),
    "wind_speed": ("wind_speed_10m", WIND_SPEED),
}
MEANS_BEFORE: Mapping[str, tuple[str, Quantity]] = {
    "direct_normal_irradiance": ("direct_normal_irradiance", IRRADIANCE),
    "diffuse_horizontal_irradiance": ("diffuse_radiation", IRRADIANCE),
}
UNITS = {"W/m²": "W/m2", "mp/h": "mph"}
"""Open-Meteo's spelling of units, where ours is another."""


def read_open_meteo(source: str, payload: bytes, variables: Signature) -> pd.DataFrame:
    """Read an answer in Open-Meteo's format (``hourly`` and ``hourly_units``).

    Humidity ratio follows from ``relative_humidity_2m`` or ``dew_point_2m``, at ``surface_pressure`` or else 101325 Pa. ISO
    stamps are local by ``utc_offset_seconds``, numbers are UTC. What else it holds is passed over.

    Args:
        source: topic or host, for errors.
        payload: JSON.
        variables: what is wanted; the others are left out.

    Returns:
        Hourly means, UTC, inside units, a column per variable that was there; hours without all of them are left out.

    Raises:
        BadReadingError: not such an answer, an unknown unit, nothing of use in it, or a value that no weather has.
    """
    try:
        data = payloads.read_json(payload)
        hourly, units = data["hourly"], data.get("hourly_units", {})
        index = _instants(hourly["time"], float(data.get("utc_offset_seconds", 0)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as e:
        detail = f"not in Open-Meteo's format: {type(e).__name__} {e}"
        raise BadReadingError(reason="malformed_json", topic=source, detail=detail) from e

    def column(name: str, quantity: Quantity) -> pd.Series | None:
        if name not in hourly:
            return None
        told = str(units.get(name, ""))
        try:
            values = np.array([math.nan if v is None else _number(v) for v in hourly[name]])
            return pd.Series(quantity.from_unit(values, UNITS.get(told, told)), index=index)
        except UnknownUnitError as e:
            raise BadReadingError(reason="unit", topic=source, detail=f"{name}: {e}") from e
        except (ValueError, TypeError, OverflowError) as e:
            raise BadReadingError(reason="not_a_number", topic=source, detail=f"{name}: {e}") from e

    found = {name: column(*of) for name, of in INSTANTS.items()}
    ratio = _humidity(found, column("relative_humidity_2m", RELATIVE_HUMIDITY), column("dew_point_2m", TEMPERATURE))
    columns = {n: (s + s.shift(-1)) / 2 for n, s in {**found, "outdoor_air_humidity_ratio": ratio}.items() if s is not None}
    columns |= {name: s.shift(-1) for name, of in MEANS_BEFORE.items() if (s := column(*of)) is not None}
    frame = pd.DataFrame({v.name: columns[v.name] for v in variables if v.name in columns}, index=index).dropna()
    if frame.empty:
        detail = f"it has no hour with any of {', '.join(of for of, _ in (*INSTANTS.values(), *MEANS_BEFORE.values()))}"
        raise BadReadingError(reason="missing_path", topic=source, detail=detail)
    for name in frame.columns:
        v = variables[str(name)]
        slack = 0.005 * (v.high - v.low)
        worst = next((float(x) for x in frame[name] if not v.low - slack <= x <= v.high + slack), None)
        if worst is not None:
            detail = f"{name} = {worst:g}, wanted {v.low:g} .. {v.high:g} {v.quantity.unit}"
            raise BadReadingError(reason="out_of_range", topic=source, detail=detail)
        frame[name] = frame[name].clip(v.low, v.high)
    return frame


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} is no number")
    return float(value)


def _instants(stamps: list[Any], offset_s: float) -> pd.DatetimeIndex:
    is_epoch = all(isinstance(s, int) and not isinstance(s, bool) for s in stamps)
    index = pd.DatetimeIndex(pd.to_datetime(stamps, unit="s" if is_epoch else None, format=None if is_epoch else "ISO8601"))
    if index.tz is not None:
        raise ValueError("its stamps carry a zone")
    if len(index) < 2 or not (index[1:] - index[:-1] == HOUR).all():
        raise ValueError("its stamps are not whole hours one after the other")
    utc = (index if is_epoch else index - pd.Timedelta(seconds=offset_s)).tz_localize("UTC").as_unit("ns")
    if not (utc == utc.floor("h")).all():
        raise ValueError("its stamps are no whole hours in UTC; ask for timezone=GMT")
    return utc


def _humidity(found: Mapping[str, pd.Series | None], humidity: pd.Series | None, dew_point: pd.Series | None) -> pd.Series | None:
    temperature, pressure = found["outdoor_air_temperature"], found["outdoor_air_pressure"]
    if temperature is not None and humidity is None and dew_point is not None:
        share = saturation_pressure_iso13788(dew_point) / saturation_pressure_iso13788(temperature)
        humidity = pd.Series(share, temperature.index)
    if temperature is None or humidity is None:
        return None
    ratio = humidity_ratio(temperature, humidity, 101325.0 if pressure is None else pressure)
    return pd.Series(ratio, index=temperature.index)


def fetch(url: str, timeout_s: float) -> bytes:
    """Ask a weather service. Raises WeatherServiceError, which never shows the query: it may hold a key."""
    parts = urllib.parse.urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in ("http", "https") or not host:
        raise WeatherServiceError(host=host or "(none)", reason="[weather] url is no http or https address")
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            said = bytes(answer.read(LARGEST_ANSWER + 1))
    except urllib.error.HTTPError as e:
        raise WeatherServiceError(host=host, reason=f"it answered {e.code}{_reason(e.read(2000), parts.query)}") from e
    except (OSError, ValueError) as e:
        why = getattr(e, "reason", None) or type(e).__name__
        raise WeatherServiceError(host=host, reason=f"no answer ({why})") from e
    if len(said) > LARGEST_ANSWER:
        raise WeatherServiceError(host=host, reason=f"its answer is longer than {LARGEST_ANSWER} bytes")
    return said


def _reason(said: bytes, query: str) -> str:
    """Return the reason an error answer gives, in Open-Meteo's form, without any value of the query."""
    try:
        reason = str(payloads.read_json(said)["reason"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""
    for _, value in urllib.parse.parse_qsl(query):
        if len(value) >= 6:
            reason = reason.replace(value, "...")
    return f": {reason}"


def address(url: str, building: Building) -> str:
    """Return the URL with ``{latitude}`` and ``{longitude}`` of the site filled in."""
    site = building.site
    return url.replace("{latitude}", f"{site.latitude:g}").replace("{longitude}", f"{site.longitude:g}")


def weather_job(config: Config, now: pd.Timestamp, _open_predictor: object = None) -> dict[str, Any]:
    """Body of a weather job: fetch and read; plain data."""
    url = config.weather.url.get_secret_value()
    if not url:
        raise WeatherServiceError(host="(none)", reason="[weather] url names no service")
    building = load_building(config.building.name)
    url = address(url, building)
    host = urllib.parse.urlsplit(url).netloc.rpartition("@")[2]
    variables = building.inputs.only(n for n in (*INSTANTS, *MEANS_BEFORE, "outdoor_air_humidity_ratio") if n in building.inputs)
    frame = read_open_meteo(host, fetch(url, config.weather.timeout_s), variables)
    names, end = ", ".join(str(c) for c in frame.columns), frame.index[-1] + HOUR
    said = f"{len(frame)} h of {names} from {host}, until {end:%Y-%m-%d %H:%M}Z."
    return {"made": now, "frame": frame, "said": said}
