"""Foreign names and units, and nothing else of the service knows them: points.toml, and what one MQTT message says.

    building = "medium_office"
    listen = ["setwise/medium_office/+"]            # optional filters; what arrives on an unknown topic is counted

    [points.outdoor_air_temperature]                # a variable of the building
    topic = "site/weather"
    value = "outdoor.temp"                          # path in the JSON payload; left out: the payload is the number
    unit = "degF"                                   # the unit it arrives in
    time = "ts"                                     # path of the time stamp; left out: stamped on arrival
    time_format = "s"                               # iso, s or ms

    [commands.heating_setpoint]                     # a setting of the building
    topic = "bms/heating/set"
    echo = { topic = "bms/heating/actual" }         # where the BMS says what it took

`read_message` turns a payload into readings in inside units, or refuses with one reason of REASONS.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from pydantic import Field

from building.description import Building, Strict, parse_strict, read_toml
from building.errors import BadDescriptionError, BadReadingError, SetwiseError, UnknownNameError, UnknownUnitError, did_you_mean
from building.units import Quantity
from building.variables import Role, Signature, Variable
from service.store import Reading

REASONS = (
    "unknown_topic",  # nobody described this topic
    "malformed_json",  # a JSON payload was expected
    "missing_path",  # the JSON has nothing at the path of value, unit or time
    "not_a_number",  # "unknown", "unavailable", NaN, text
    "unit",  # the message names a unit that is none of the quantity
    "out_of_range",  # outside the bounds of the variable
    "bad_time",  # a time stamp that cannot be read
    "from_future",  # ahead of our clock
    "too_old",
    "duplicate",  # variable and stamp are already in the store
    "stale_retained",  # retained by the broker and without a time stamp: nobody knows how old it is
    "overflow",  # the store refuses for so long that the memory is full
)

RANGE_SLACK = 0.005
"""Share of a variable's range by which sensor noise may overstep it (a pyranometer at night); such a value is clipped."""

_TRUTH = {"true": 1.0, "false": 0.0, "on": 1.0, "off": 0.0}


class Source(Strict):
    """Where a number stands in a message."""

    topic: str = Field(min_length=1)
    value: str | None = None
    unit: str | None = None  # None: the inside unit
    unit_path: str | None = None  # a unit in the message wins over `unit`


class Point(Source):
    """Where a variable is measured."""

    time: str | None = None
    time_format: Literal["iso", "s", "ms"] = "iso"
    time_zone: str = "UTC"  # of ISO stamps that carry none
    shift_min: float = 0.0  # added to the stamp: -60 when the sender stamps the end of its hour
    low: float | None = None  # narrower or wider than the variable's own bounds, inside unit
    high: float | None = None


class Command(Strict):
    """Where a setting is told to the BMS."""

    topic: str = Field(min_length=1)
    unit: str | None = None
    payload: Literal["json", "number"] = "json"
    echo: Source | None = None  # where the BMS says what it took; None: nobody confirms
    tolerance: float = Field(default=0.05, ge=0)  # inside unit


class Forecasts(Strict):
    """Where forecasts arrive: {"issued", "start", "step_min", "series": {variable: [values in inside units]}}."""

    topic: str


class PointsFile(Strict):
    """points.toml as it stands."""

    building: str
    listen: list[str] = []
    points: dict[str, Point]
    commands: dict[str, Command] = {}
    forecasts: Forecasts | None = None


@dataclass(frozen=True)
class AgeLimits:
    """Between which ages a stamp is believed."""

    max_future: pd.Timedelta
    max_age: pd.Timedelta


class Points:
    """The point list of one building, checked against its description.

    Raises:
        UnknownNameError: a point that is no variable, a command that is no setting of the building.
        BadDescriptionError: a unit, time zone or topic that cannot be.
    """

    def __init__(self, facts: PointsFile, building: Building, file: Path | str = "points.toml") -> None:
        self.facts = facts
        variables = {v.name: v for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER}
        settings = {v.name: v for v in building.settings}
        _check_names(facts.points, variables, "measurable variable", building.name)
        _check_names(facts.commands, settings, "setting", building.name)
        self.measured = Signature(*(variables[name] for name in facts.points))
        self.forecastable = Signature(*building.inputs.having(Role.WEATHER, Role.OCCUPANCY))
        self.commands = facts.commands
        self._settings = settings
        self._by_topic: dict[str, list[tuple[Variable, Point]]] = {}
        for name, point in facts.points.items():
            _check_source(point, variables[name], f"points.{name}", file)
            _check_zone(point.time_zone, f"points.{name}", file)
            self._by_topic.setdefault(point.topic, []).append((variables[name], point))
        self._echoes: dict[str, list[tuple[Variable, Source]]] = {}
        for name, command in facts.commands.items():
            _check_source(Source(topic=command.topic, unit=command.unit), settings[name], f"commands.{name}", file)
            if command.echo is not None:
                _check_source(command.echo, settings[name], f"commands.{name}.echo", file)
                self._echoes.setdefault(command.echo.topic, []).append((settings[name], command.echo))

    @cached_property
    def subscriptions(self) -> tuple[str, ...]:
        """Topic filters to subscribe to: `listen`, and each topic that no filter covers."""
        forecasts = [] if self.facts.forecasts is None else [self.facts.forecasts.topic]
        topics = dict.fromkeys([*self._by_topic, *self._echoes, *forecasts])
        return (*self.facts.listen, *(t for t in topics if not any(topic_matches(f, t) for f in self.facts.listen)))

    def is_forecast(self, topic: str) -> bool:
        """Say whether forecasts arrive on `topic`."""
        return self.facts.forecasts is not None and topic == self.facts.forecasts.topic

    def is_echo(self, topic: str) -> bool:
        """Say whether the BMS echoes a command on `topic`."""
        return topic in self._echoes

    def read_message(
        self, topic: str, payload: bytes, received: pd.Timestamp, limits: AgeLimits, is_retained: bool = False
    ) -> tuple[list[Reading], list[BadReadingError]]:
        """Read one message; a topic may carry several variables, each of which stands or falls alone.

        Args:
            topic: where it arrived.
            payload: as it arrived.
            received: when (UTC, the service's clock).
            limits: ages of stamps that are believed.
            is_retained: it came from the broker's memory.

        Returns:
            Readings in inside units, and what was refused, each with a reason of REASONS.
        """
        readings, refused = [], []
        if topic not in self._by_topic:
            return [], [BadReadingError(reason="unknown_topic", topic=topic, detail="no point has this topic")]
        for variable, point in self._by_topic[topic]:
            try:
                readings.append(_read(variable, point, payload, received, limits, is_retained))
            except BadReadingError as e:
                refused.append(e)
        return readings, refused

    def read_echo(self, topic: str, payload: bytes) -> dict[str, float]:
        """Return what the BMS says it took, by setting, inside units. Raises BadReadingError."""
        return {v.name: _number(source, v.quantity, topic, payload) for v, source in self._echoes.get(topic, [])}

    def encode_command(self, setting: str, value: float, facts: Mapping[str, Any]) -> tuple[str, bytes]:
        """Return topic and payload that tell the BMS `value` (inside unit) of `setting`, with further JSON facts beside it."""
        command, quantity = self.commands[setting], self._settings[setting].quantity
        unit = command.unit or quantity.unit
        told = round(quantity.to_unit(value, unit), 6)
        if command.payload == "number":
            return command.topic, repr(told).encode()
        return command.topic, json.dumps({"value": told, "unit": unit, **facts}, allow_nan=False).encode()


def read_forecast(
    topic: str, payload: bytes, variables: Signature, latest: pd.Timestamp | None = None
) -> tuple[pd.DataFrame, pd.Timestamp]:
    """Read a forecast message: {"issued", "start", "step_min", "series": {variable: [values]}}, inside units.

    Args:
        topic, payload: the message.
        variables: what may be forecast.
        latest: an issue time after this instant (UTC) is refused; None refuses none.

    Returns:
        A frame (UTC index, a column per variable) and its issue time.

    Raises:
        BadReadingError: anything that is not that; variables nobody asks for are refused, not skipped.
    """
    data = _json(topic, payload)
    try:
        issued, start = _utc(data["issued"], "UTC"), _utc(data["start"], "UTC")
        # null is no number, as NaN
        series = {str(n): [math.nan if v is None else float(v) for v in values] for n, values in data["series"].items()}
        step_min = float(data.get("step_min", 60))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise BadReadingError(reason="missing_path", topic=topic, detail=f"not a forecast: {type(e).__name__} {e}") from e
    if latest is not None and issued > latest:
        raise BadReadingError(reason="from_future", topic=topic, detail=f"issued {issued}, later than {latest}")
    unknown = [name for name in series if name not in variables]
    sizes = {len(values) for values in series.values()}
    if unknown:
        detail = f"nobody forecasts '{unknown[0]}' here.{did_you_mean(unknown[0], variables.names)}"
        raise BadReadingError(reason="malformed_json", topic=topic, detail=detail)
    if len(sizes) != 1 or sizes == {0}:
        lengths = ", ".join(f"{name} has {len(values)}" for name, values in series.items()) or "there are none"
        detail = f"every series needs the same number of hours, at least one; {lengths}"
        raise BadReadingError(reason="malformed_json", topic=topic, detail=detail)
    if not 0 < step_min <= 60:
        raise BadReadingError(reason="malformed_json", topic=topic, detail=f"step_min is {step_min:g}, wanted 0 < step_min <= 60")
    for name, values in series.items():
        v = variables[name]
        slack = RANGE_SLACK * (v.high - v.low)
        worst = next((x for x in values if not v.low - slack <= x <= v.high + slack), None)  # a NaN is caught here too
        if worst is not None:
            detail = f"{name} = {worst:g}, wanted {v.low:g} .. {v.high:g} {v.quantity.unit}"
            raise BadReadingError(reason="out_of_range", topic=topic, detail=detail)
    index = pd.date_range(start, periods=sizes.pop(), freq=pd.Timedelta(minutes=step_min))
    clipped = {name: np.clip(values, variables[name].low, variables[name].high) for name, values in series.items()}
    return pd.DataFrame(clipped, index=index), issued


def load_points(building: Building, file: Path | None = None) -> Points:
    """Read the point list of `building`: `file`, or points.toml in its folder.

    Raises:
        BadDescriptionError, UnknownKeyError, UnknownNameError: see `Points` and `parse_strict`.
    """
    path = file or building.folder / "points.toml"
    facts = parse_strict(PointsFile, read_toml(path), path)
    if facts.building != building.name:
        raise BadDescriptionError(file=path, reason=f"it belongs to '{facts.building}', the building is '{building.name}'.")
    return Points(facts, building, path)


def topic_matches(pattern: str, topic: str) -> bool:
    """Say whether an MQTT topic filter (with + and #) covers `topic`."""
    wanted, given = pattern.split("/"), topic.split("/")
    for i, level in enumerate(wanted):
        if level == "#":
            return True
        if i >= len(given) or level not in ("+", given[i]):
            return False
    return len(wanted) == len(given)


def _read(
    variable: Variable, point: Point, payload: bytes, received: pd.Timestamp, limits: AgeLimits, is_retained: bool
) -> Reading:
    value = _number(point, variable.quantity, point.topic, payload)
    low = variable.low if point.low is None else point.low
    high = variable.high if point.high is None else point.high
    clipped = min(max(value, low), high)
    if abs(value - clipped) > RANGE_SLACK * (high - low):
        detail = f"{value:g} is outside {low:g} .. {high:g} {variable.quantity.unit}"
        raise BadReadingError(reason="out_of_range", topic=point.topic, detail=detail)
    stamp = _stamp(point, payload, received, limits, is_retained)
    return Reading(variable.name, stamp, clipped, received, "good" if clipped == value else "clipped")


def _stamp(point: Point, payload: bytes, received: pd.Timestamp, limits: AgeLimits, is_retained: bool) -> pd.Timestamp:
    if point.time is None:
        if is_retained:
            raise BadReadingError(reason="stale_retained", topic=point.topic, detail="retained, and without a time stamp")
        return received + pd.Timedelta(minutes=point.shift_min)
    given = _at(_json(point.topic, payload), point.time, point.topic)
    try:
        if point.time_format == "iso":
            stamp = _utc(given, point.time_zone)
        else:
            stamp = pd.Timestamp(float(given), unit=point.time_format, tz="UTC")
        stamp = stamp + pd.Timedelta(minutes=point.shift_min)
    except (TypeError, ValueError, OverflowError) as e:  # pandas' and zoneinfo's own errors are ValueErrors
        raise BadReadingError(reason="bad_time", topic=point.topic, detail=f"{given!r} is not {point.time_format}") from e
    if pd.isna(stamp):  # "", "NaT"
        raise BadReadingError(reason="bad_time", topic=point.topic, detail=f"{given!r} is no instant")
    if stamp > received + limits.max_future:
        raise BadReadingError(reason="from_future", topic=point.topic, detail=f"{stamp} is ahead of our clock {received}")
    if stamp < received - limits.max_age:
        raise BadReadingError(reason="too_old", topic=point.topic, detail=f"{stamp} is older than {limits.max_age}")
    return stamp


def _number(source: Source, quantity: Quantity, topic: str, payload: bytes) -> float:
    unit = source.unit or quantity.unit
    given: Any
    if source.value is None:
        given = payload.decode("utf-8", errors="replace").strip()
    else:
        data = _json(topic, payload)
        given = _at(data, source.value, topic)
        if source.unit_path is not None:
            unit = str(_at(data, source.unit_path, topic))
    if isinstance(given, bool) or (isinstance(given, str) and given.lower() in _TRUTH):
        # On and off are numbers where a share is asked for, and nowhere else.
        given = _TRUTH[str(given).lower()] if quantity.unit == "1" else None
    try:
        number = float(given) if isinstance(given, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadReadingError(reason="not_a_number", topic=topic, detail=f"{_short(payload)} has no number")
    try:
        return float(quantity.from_unit(number, unit))
    except UnknownUnitError as e:
        raise BadReadingError(reason="unit", topic=topic, detail=str(e)) from e


def _json(topic: str, payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as e:
        raise BadReadingError(reason="malformed_json", topic=topic, detail=f"{_short(payload)} is not JSON") from e


def _at(data: Any, path: str, topic: str) -> Any:
    for key in path.split("."):
        if isinstance(data, dict) and key in data:
            data = data[key]
        elif isinstance(data, list) and key.isdecimal() and int(key) < len(data):
            data = data[int(key)]
        else:
            raise BadReadingError(reason="missing_path", topic=topic, detail=f"nothing at '{path}'")
    return data


def _utc(text: Any, time_zone: str) -> pd.Timestamp:
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not text")
    stamp = pd.Timestamp(text)
    # Raises where daylight saving skips or repeats the hour: a sender that matters there must send an offset.
    return stamp.tz_localize(time_zone).tz_convert("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _short(payload: bytes) -> str:
    return repr(payload[:60].decode("utf-8", errors="replace"))


def _check_names(given: Iterable[str], known: Iterable[str], kind: str, owner: str) -> None:
    known = set(known)
    for name in given:
        if name not in known:
            raise UnknownNameError(name=name, kind=kind, owner=f"'{owner}'", hint=did_you_mean(name, known))


def _check_source(source: Source, variable: Variable, place: str, file: Path | str) -> None:
    if "+" in source.topic or "#" in source.topic:
        raise BadDescriptionError(file=file, reason=f"[{place}] topic: '{source.topic}' is a filter; one topic is wanted.")
    try:
        variable.quantity.from_unit(0.0, source.unit or variable.quantity.unit)
    except SetwiseError as e:
        raise BadDescriptionError(file=file, reason=f"[{place}] unit: {e}") from e


def _check_zone(time_zone: str, place: str, file: Path | str) -> None:
    try:
        ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError) as e:
        raise BadDescriptionError(file=file, reason=f"[{place}] time_zone: there is no '{time_zone}'.") from e
