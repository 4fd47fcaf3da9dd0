"""Foreign names and units, and nothing else of the service knows them: points.toml, and what one MQTT message says.

    building = "medium_office"
    listen = ["setwise/medium_office/+"]            # optional filters; what arrives on an unknown topic is counted

    [points.outdoor_air_temperature]                # a variable of the building
    topic = "site/weather"
    format = "json"                                 # number, json, home_assistant, sparkplug; docs/connect.md has each
    value = "outdoor.temp"                          # path in the JSON payload, or the name of the Sparkplug metric
    unit = "degF"                                   # the unit it arrives in
    time = "ts"                                     # path of the time stamp; left out: stamped on arrival
    time_format = "s"                               # iso, s or ms

    [commands.heating_setpoint]                     # a setting of the building
    topic = "bms/heating/set"
    echo = { topic = "bms/heating/actual" }         # where the BMS says what it took

`Points.read` turns a payload into rows of the store in inside units, or refuses with one reason of REASONS; what a value is worth
is said by its flag (service/quality.py). Instants are integers here, UTC milliseconds: this runs for every message.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
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
from building.units import ENERGY, POWER, Quantity
from building.variables import Role, Signature, Variable
from service import payloads, sparkplug
from service.quality import USABLE, Rule, units_that_fit
from service.store import Reading
from service.store.newest import Row, reading_of

COUNTER = ".counter"
"""Readings of the energy counter of a power are kept in kWh under its variable's name with this behind it."""

REASONS = (
    "unknown_topic",  # nobody described this topic, or this Sparkplug metric
    "malformed_json",  # a JSON payload was expected
    "malformed_sparkplug",  # a Sparkplug payload was expected
    "not_born",  # Sparkplug data that no birth explains; a rebirth was asked for
    "missing_path",  # the JSON has nothing at the path of value, unit or time
    "not_a_number",  # NaN, text, a truth where none is asked for
    "unavailable",  # Home Assistant's unknown and unavailable, a null metric, a death: what was known holds no longer
    "unit",  # the message names a unit that is none of the quantity
    "out_of_range",  # outside the bounds of the variable; kept with this flag
    "unit_suspect",  # outside, but inside in another unit, or the sender names another one; kept with this flag
    "bad_time",  # a time stamp that cannot be read
    "from_future",  # ahead of our clock
    "too_old",
    "duplicate",  # variable and stamp are already in the store
    "stale_retained",  # retained by the broker and without a time stamp: nobody knows how old it is
    "overflow",  # the store refuses for so long that the memory is full
)

RANGE_SLACK = 0.005
"""Share of a variable's range by which sensor noise may overstep it (a pyranometer at night); such a value is clipped."""

_MOST_COUNTED_KWH = 1e12


class Source(Strict):
    """Where a number stands in a message."""

    topic: str = Field(min_length=1)
    value: str | None = None
    unit: str | None = None  # None: the inside unit
    unit_path: str | None = None  # a unit in the message wins over `unit`


class Point(Source):
    """Where a variable is measured."""

    format: Literal["number", "json", "home_assistant", "sparkplug"] | None = None  # None: json with a path, number without
    time: str | None = None
    time_format: Literal["iso", "s", "ms"] = "iso"
    time_zone: str = "UTC"  # of ISO stamps that carry none
    shift_min: float = 0.0  # added to the stamp: -60 when the sender stamps the end of its hour
    low: float | None = None  # narrower or wider than the variable's own bounds, inside unit
    high: float | None = None
    qos: Literal[0, 1] = 1  # asked of the broker; 0: what is lost on the way stays lost
    sends: Literal["steadily", "on_change"] | None = None  # None: on_change for Home Assistant and Sparkplug, else steadily
    is_counter: bool = False  # an energy counter (unit kWh, MJ, ...) of a power: hours are made of its differences

    @property
    def kind(self) -> str:
        """Return the format, the unsaid one as well."""
        return self.format or ("number" if self.value is None else "json")

    @property
    def is_on_change(self) -> bool:
        """Say whether silence means that nothing changed."""
        return self.sends == "on_change" or (self.sends is None and self.kind in ("home_assistant", "sparkplug"))


class Command(Strict):
    """Where a setting is told to the BMS."""

    topic: str = Field(min_length=1)
    unit: str | None = None
    payload: Literal["json", "number"] = "json"
    qos: Literal[0, 1, 2] = 1  # 0 is never confirmed by the broker, only by an echo
    retain: bool = False  # the broker keeps it for a BMS that restarts; cleared by an empty message when nothing holds any more
    echo: Source | None = None  # where the BMS says what it took; None: nobody confirms
    tolerance: float = Field(default=0.05, ge=0)  # inside unit


class Forecasts(Strict):
    """Where forecasts arrive: {"issued", "start", "step_min", "series": {variable: [values]}} inside units, or Open-Meteo's."""

    topic: str
    format: Literal["setwise", "open_meteo"] = "setwise"


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

    @cached_property
    def future_ms(self) -> int:
        """Return how far ahead of our clock a stamp may be."""
        return round(self.max_future.total_seconds() * 1000)

    @cached_property
    def age_ms(self) -> int:
        """Return how far behind our clock a stamp may be."""
        return round(self.max_age.total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class _Way:
    """One point with what can be worked out beforehand."""

    name: str  # under which its readings are kept
    variable: Variable
    point: Point
    quantity: Quantity  # of the number that arrives: energy for a counter
    unit: str
    low: float
    high: float
    paths: tuple[payloads.Path | None, payloads.Path | None, payloads.Path | None]  # value, time, unit
    # Of the point, plain: thousands a second are read.
    topic: str
    kind: str
    shift_ms: int
    is_stamped: bool
    is_on_change: bool
    is_counter: bool
    is_share: bool


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
        self._by_topic: dict[str, list[_Way]] = {}
        self._by_metric: dict[tuple[str, str], list[_Way]] = {}  # Sparkplug: source, name of the metric
        for name, point in facts.points.items():
            way = _way(point, variables[name], f"points.{name}", file)
            source = sparkplug.source_of(point.topic) if point.kind == "sparkplug" else None
            if source is None:
                self._by_topic.setdefault(point.topic, []).append(way)
            else:
                self._by_metric.setdefault((source, point.value or ""), []).append(way)
        self._echoes: dict[str, list[tuple[Variable, Source]]] = {}
        for name, command in facts.commands.items():
            _check_source(Source(topic=command.topic, unit=command.unit), settings[name].quantity, f"commands.{name}", file)
            if command.echo is not None:
                _check_source(command.echo, settings[name].quantity, f"commands.{name}.echo", file)
                self._echoes.setdefault(command.echo.topic, []).append((settings[name], command.echo))

    @cached_property
    def subscriptions(self) -> tuple[str, ...]:
        """Topic filters to subscribe to: `listen`, and each topic that no filter covers."""
        forecasts = [] if self.facts.forecasts is None else [self.facts.forecasts.topic]
        edges = [sparkplug.parts(p.topic) for p in self.facts.points.values() if p.kind == "sparkplug"]
        nodes = [f"{sparkplug.NAMESPACE}/{e[0]}/+/{e[2]}/#" for e in edges if e is not None]  # births and deaths as well
        topics = dict.fromkeys([*self._by_topic, *nodes, *self._echoes, *forecasts])
        return (*self.facts.listen, *(t for t in topics if not any(topic_matches(f, t) for f in self.facts.listen)))

    @cached_property
    def low_qos(self) -> tuple[str, ...]:
        """Topic filters for which every point asks for QoS 0; all others are subscribed with 1."""
        high = {p.topic for p in self.facts.points.values() if p.qos}
        return tuple(t for t in self._by_topic if t not in high and t not in self._echoes)

    def is_forecast(self, topic: str) -> bool:
        """Say whether forecasts arrive on `topic`."""
        return self.facts.forecasts is not None and topic == self.facts.forecasts.topic

    @property
    def is_open_meteo(self) -> bool:
        """Say whether forecasts arrive in Open-Meteo's format."""
        return self.facts.forecasts is not None and self.facts.forecasts.format == "open_meteo"

    def is_measured(self, topic: str) -> bool:
        """Say whether a variable is measured on `topic`."""
        return topic in self._by_topic

    def is_echo(self, topic: str) -> bool:
        """Say whether the BMS echoes a command on `topic`."""
        return topic in self._echoes

    @cached_property
    def rules(self) -> dict[str, Rule]:
        """Return by which rule readings become hours, by variable; those not named are means."""
        found: dict[str, Rule] = {}
        for name, point in self.facts.points.items():
            is_state = self.measured[name].role is Role.SETTING
            if point.is_counter:
                found[name] = "counter"
            elif point.is_on_change:
                found[name] = "hold_last" if is_state else "hold"
            elif is_state:
                found[name] = "last"
        return found

    def names_of(self, source: str) -> tuple[str, ...]:
        """Return the variables that a Sparkplug source measures, as their readings are kept."""
        return tuple(way.name for (s, _), ways in self._by_metric.items() if s == source for way in ways)

    def is_stamped_by_us(self, name: str) -> bool:
        """Say whether the readings kept under `name` bear the instant of their arrival."""
        return name in self._stamped_by_us

    @cached_property
    def _stamped_by_us(self) -> frozenset[str]:
        ways = (way for ways in self._by_topic.values() for way in ways)
        return frozenset(way.name for way in ways if not way.is_stamped)

    def read(
        self, topic: str, payload: bytes, received_ms: int, limits: AgeLimits, is_retained: bool = False
    ) -> tuple[list[Row], list[BadReadingError]]:
        """Read one message; a topic may carry several variables, each of which stands or falls alone.

        Args:
            topic: where it arrived.
            payload: as it arrived.
            received_ms: when (UTC, the service's clock).
            limits: ages of stamps that are believed.
            is_retained: it came from the broker's memory.

        Returns:
            Rows in inside units, each with a flag; and what was refused or doubted, each with a reason of REASONS.
        """
        ways = self._by_topic.get(topic)
        if ways is None:
            return [], [BadReadingError(reason="unknown_topic", topic=topic, detail="no point has this topic")]
        rows: list[Row] = []
        refused: list[BadReadingError] = []
        data: Any = None
        is_json = False
        for way in ways:
            if way.kind == "json" and not is_json:
                try:
                    data, is_json = payloads.read_json(payload), True
                except ValueError:
                    detail = f"{_short(payload)} is not JSON"
                    refused += [BadReadingError(reason="malformed_json", topic=topic, detail=detail) for w in ways if w.paths[0]]
                    ways = [w for w in ways if not w.paths[0]]
                    break
        for way in ways:
            said = payloads.every(data, way.paths) if way.paths[0] else [(payload.decode("utf-8", "replace"), None, None)]
            for value, time, unit in said:
                try:
                    _take(way, value, time, unit, received_ms, limits, is_retained, rows, refused)
                except BadReadingError as e:
                    refused.append(e)
        return rows, refused

    def read_metrics(
        self, metrics: Sequence[sparkplug.Metric], received_ms: int, limits: AgeLimits
    ) -> tuple[list[Row], list[BadReadingError]]:
        """Read what a Sparkplug message said; metrics that no point asks for are passed over, an edge node has many."""
        rows: list[Row] = []
        refused: list[BadReadingError] = []
        for metric in metrics:
            for way in self._by_metric.get((metric.source, metric.name), ()):
                try:
                    _take_metric(way, metric, received_ms, limits, rows, refused)
                except BadReadingError as e:
                    refused.append(e)
        return rows, refused

    def read_message(
        self, topic: str, payload: bytes, received: pd.Timestamp, limits: AgeLimits, is_retained: bool = False
    ) -> tuple[list[Reading], list[BadReadingError]]:
        """Do as `read`, with instants as pandas has them."""
        rows, refused = self.read(topic, payload, round(received.timestamp() * 1000), limits, is_retained)
        return [reading_of(row) for row in rows], refused

    def read_echo(self, topic: str, payload: bytes) -> dict[str, float]:
        """Return what the BMS says it took, by setting, inside units. Raises BadReadingError."""
        return {v.name: _echoed(source, v.quantity, topic, payload) for v, source in self._echoes.get(topic, [])}

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
        A frame of hours (UTC index, a column per variable), means of what was sent in each, and its issue time.

    Raises:
        BadReadingError: anything that is not that; variables nobody asks for are refused, not skipped.
    """
    try:
        data = payloads.read_json(payload)
    except ValueError as e:
        raise BadReadingError(reason="malformed_json", topic=topic, detail=f"{_short(payload)} is not JSON") from e
    try:
        issued, start = _utc(data["issued"]), _utc(data["start"])
        series = {str(n): _forecast_numbers(values) for n, values in data["series"].items()}
        step_min = _forecast_numbers([data.get("step_min", 60)])[0]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as e:
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
    try:
        index = pd.date_range(start.as_unit("ns"), periods=sizes.pop(), freq=pd.Timedelta(minutes=step_min))
        issued = issued.as_unit("ns")
    except (ValueError, OverflowError) as e:
        raise BadReadingError(reason="bad_time", topic=topic, detail=f"issued {issued}, it starts at {start}: {e}") from e
    clipped = {name: np.clip(values, variables[name].low, variables[name].high) for name, values in series.items()}
    return pd.DataFrame(clipped, index=index).resample("60min").mean(), issued


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


def _take(
    way: _Way,
    given: Any,
    time: Any,
    unit: Any,
    received_ms: int,
    limits: AgeLimits,
    is_retained: bool,
    rows: list[Row],
    refused: list[BadReadingError],
) -> None:
    """Judge one value of one message; append the row, and why it is doubted. Raises BadReadingError: there is no row."""
    topic = way.topic
    if isinstance(given, LookupError):
        raise BadReadingError(reason="missing_path", topic=topic, detail=str(given.args[0]))
    if way.kind == "home_assistant" and isinstance(given, str) and given.strip().lower() in payloads.NOT_KNOWN:
        raise _unavailable(way, f"its state is '{given.strip()}'")
    number = payloads.number_in(given, way.is_share)
    if number is None:
        raise BadReadingError(reason="not_a_number", topic=topic, detail=f"{_shown(given)} is no number")
    told = way.unit
    if way.paths[2] is not None:
        if isinstance(unit, LookupError):
            raise BadReadingError(reason="missing_path", topic=topic, detail=str(unit.args[0]))
        told = str(unit)
    value, flag, doubt = _judge(way, number, told)
    if not way.is_stamped:
        if is_retained and not way.is_on_change:
            raise BadReadingError(reason="stale_retained", topic=topic, detail="retained, and without a time stamp")
        stamp_ms = received_ms
    else:
        if isinstance(time, LookupError):
            raise BadReadingError(reason="missing_path", topic=topic, detail=str(time.args[0]))
        try:
            stamp_ms = payloads.instant_ms(time, way.point.time_format, way.point.time_zone)
        except (ValueError, OverflowError) as e:
            raise BadReadingError(reason="bad_time", topic=topic, detail=str(e)) from e
    _keep(way, stamp_ms, value, flag, doubt, received_ms, limits, rows, refused)


def _take_metric(
    way: _Way, metric: sparkplug.Metric, received_ms: int, limits: AgeLimits, rows: list[Row], refused: list[BadReadingError]
) -> None:
    """Judge one Sparkplug metric; see `_take`."""
    topic = way.topic
    if metric.value is None or not metric.is_good:
        raise _unavailable(way, f"'{metric.name}' is null" if metric.value is None else f"'{metric.name}' has a bad quality")
    number = payloads.number_in(metric.value, way.is_share)
    if number is None:
        raise BadReadingError(reason="not_a_number", topic=topic, detail=f"{_shown(metric.value)} is no number")
    unit = way.unit
    is_known = metric.unit == way.quantity.unit or metric.unit in way.quantity.edges
    if way.point.unit is None and metric.unit:
        unit = metric.unit
    value, flag, doubt = _judge(way, number, unit)
    if (
        way.point.unit is not None
        and is_known
        and way.quantity.from_unit(number, metric.unit) != way.quantity.from_unit(number, unit)
    ):
        flag, doubt = "unit_suspect", f"the sender says {metric.unit}, the points file {unit}"
    stamp_ms = received_ms if metric.stamp_ms is None else metric.stamp_ms
    _keep(way, stamp_ms, value, flag, doubt, received_ms, limits, rows, refused)


def _judge(way: _Way, number: float, unit: str) -> tuple[float, str, str]:
    """Return a number in the inside unit, its flag, and why it is doubted. Raises BadReadingError: no such unit, no number."""
    try:
        value = float(way.quantity.from_unit(number, unit))
    except UnknownUnitError as e:
        raise BadReadingError(reason="unit", topic=way.topic, detail=str(e)) from e
    low, high = way.low, way.high
    if low <= value <= high:
        return value, "good", ""
    if not math.isfinite(value):
        raise BadReadingError(reason="not_a_number", topic=way.topic, detail=f"{number:g} {unit} is no number inside")
    clipped = min(max(value, low), high)
    if abs(value - clipped) <= RANGE_SLACK * (high - low) and not way.is_counter:
        return clipped, "clipped", ""
    doubt = f"{value:g} is outside {low:g} .. {high:g} {way.quantity.unit}"
    fitting = units_that_fit(way.quantity, number, low, high, unit)
    if fitting:
        return value, "unit_suspect", f"{doubt}; as {' or '.join(fitting)} it would be inside"
    return value, "out_of_range", doubt


def _keep(
    way: _Way,
    stamp_ms: int,
    value: float,
    flag: str,
    doubt: str,
    received_ms: int,
    limits: AgeLimits,
    rows: list[Row],
    refused: list[BadReadingError],
) -> None:
    stamp_ms += way.shift_ms
    ahead_ms = stamp_ms - received_ms
    if ahead_ms > limits.future_ms or -ahead_ms > limits.age_ms:
        reason = "from_future" if ahead_ms > 0 else "too_old"
        detail = f"{_iso(stamp_ms)}, our clock says {_iso(received_ms)}"
        raise BadReadingError(reason=reason, topic=way.topic, detail=detail)
    rows.append((way.name, stamp_ms, value, flag, received_ms))
    if flag not in USABLE:
        refused.append(BadReadingError(reason=flag, topic=way.topic, detail=doubt))


def _unavailable(way: _Way, detail: str) -> BadReadingError:
    return BadReadingError(reason="unavailable", topic=way.topic, detail=detail, variable=way.name)


def _echoed(source: Source, quantity: Quantity, topic: str, payload: bytes) -> float:
    """Return the number of an echo, inside unit. Raises BadReadingError."""
    given: Any = payload.decode("utf-8", "replace")
    unit: Any = source.unit or quantity.unit
    if source.value is not None:
        try:
            data = payloads.read_json(payload)
        except ValueError as e:
            raise BadReadingError(reason="malformed_json", topic=topic, detail=f"{_short(payload)} is not JSON") from e
        try:
            given = payloads.at(data, payloads.path_of(source.value))
            unit = payloads.at(data, payloads.path_of(source.unit_path)) if source.unit_path else unit
        except LookupError as e:
            raise BadReadingError(reason="missing_path", topic=topic, detail=str(e.args[0])) from e
    number = payloads.number_in(given, quantity.name == "share")
    if number is None:
        raise BadReadingError(reason="not_a_number", topic=topic, detail=f"{_shown(given)} is no number")
    try:
        value = float(quantity.from_unit(number, str(unit)))
    except UnknownUnitError as e:
        raise BadReadingError(reason="unit", topic=topic, detail=str(e)) from e
    if not math.isfinite(value):
        raise BadReadingError(reason="not_a_number", topic=topic, detail=f"{number:g} {unit} is no number inside")
    return value


def _utc(text: Any) -> pd.Timestamp:
    return pd.Timestamp(payloads.instant_ms(text, "iso", "UTC"), unit="ms", tz="UTC")


def _forecast_numbers(given: Any) -> list[float]:
    """Return the values of a series; null is no number, as NaN. Raises ValueError."""
    if not isinstance(given, list) or any(isinstance(x, bool) or not isinstance(x, int | float | None) for x in given):
        raise ValueError(f"{_shown(given)} is no list of numbers")
    return [math.nan if x is None else float(x) for x in given]


def _iso(stamp_ms: int) -> str:
    try:
        return pd.Timestamp(stamp_ms, unit="ms", tz="UTC").strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, NotImplementedError):  # beyond the years that have a text
        return f"{stamp_ms} ms after 1970"


def _shown(given: Any) -> str:
    return repr(given)[:60]


def _short(payload: bytes) -> str:
    return repr(payload[:60].decode("utf-8", errors="replace"))


def _check_names(given: Iterable[str], known: Iterable[str], kind: str, owner: str) -> None:
    known = set(known)
    for name in given:
        if name not in known:
            raise UnknownNameError(name=name, kind=kind, owner=f"'{owner}'", hint=did_you_mean(name, known))


def _way(point: Point, variable: Variable, place: str, file: Path | str) -> _Way:
    """Check a point and work out what each message needs. Raises BadDescriptionError."""
    if point.is_counter and variable.quantity != POWER:
        reason = f"[{place}] is_counter: a counter of energy measures a power; '{variable.name}' is a {variable.quantity.name}."
        raise BadDescriptionError(file=file, reason=reason)
    quantity = ENERGY if point.is_counter else variable.quantity
    if point.unit == "?":
        reason = f"[{place}] unit: nobody has confirmed it yet. Write the unit that the sender uses in place of '?'."
        raise BadDescriptionError(file=file, reason=reason)
    _check_source(point, quantity, place, file)
    _check_zone(point.time_zone, place, file)
    has_path = any((point.time, point.unit_path)) or (point.value is not None and point.kind != "sparkplug")
    if point.kind != "json" and has_path:
        reason = f"[{place}] format: '{point.kind}' has no paths of value, time or unit_path in it; 'json' has."
        raise BadDescriptionError(file=file, reason=reason)
    if point.kind == "json" and point.value is None:
        raise BadDescriptionError(file=file, reason=f'[{place}] value: JSON needs the path of the number, e.g. value = "value".')
    if point.kind == "sparkplug":
        found = sparkplug.parts(point.topic)
        if found is None or found[1] != ("DDATA" if found[3] else "NDATA") or not point.value:
            wanted = 'spBv1.0/<group>/NDATA/<edge node> or spBv1.0/<group>/DDATA/<edge node>/<device>, and value = "<metric>"'
            raise BadDescriptionError(file=file, reason=f"[{place}] topic: Sparkplug wants {wanted}.")
    texts = (point.value, point.time, point.unit_path) if point.kind == "json" else (None, None, None)
    try:
        value, time, unit = (None if text is None else payloads.path_of(text) for text in texts)
    except ValueError as e:
        raise BadDescriptionError(file=file, reason=f"[{place}] path: {e}.") from e
    if not point.is_counter:
        low, high = (own if said is None else said for own, said in ((variable.low, point.low), (variable.high, point.high)))
    else:
        low, high = 0.0 if point.low is None else point.low, _MOST_COUNTED_KWH if point.high is None else point.high
    name = variable.name + (COUNTER if point.is_counter else "")
    return _Way(
        name,
        variable,
        point,
        quantity,
        point.unit or quantity.unit,
        low,
        high,
        (value, time, unit),
        topic=point.topic,
        kind=point.kind,
        shift_ms=round(point.shift_min * 60_000),
        is_stamped=point.time is not None,
        is_on_change=point.is_on_change,
        is_counter=point.is_counter,
        is_share=quantity.name == "share",
    )


def _check_source(source: Source, quantity: Quantity, place: str, file: Path | str) -> None:
    if "+" in source.topic or "#" in source.topic:
        raise BadDescriptionError(file=file, reason=f"[{place}] topic: '{source.topic}' is a filter; one topic is wanted.")
    try:
        quantity.from_unit(0.0, source.unit or quantity.unit)
    except SetwiseError as e:
        raise BadDescriptionError(file=file, reason=f"[{place}] unit: {e}") from e


def _check_zone(time_zone: str, place: str, file: Path | str) -> None:
    try:
        ZoneInfo(time_zone)
    except (ValueError, OSError, KeyError) as e:
        raise BadDescriptionError(file=file, reason=f"[{place}] time_zone: there is no '{time_zone}'.") from e
