"""Whatever is sent to a parser: it never falls, and what it accepts is what was said.

Each parser has a strategy that makes inputs, many of them nearly right, and a check that knows by other means what may be
accepted.
A few hundred cases of each with the other tests; 100,000 of each: `pytest -m slow tests/service/test_fuzz_payloads.py`.
"""

from __future__ import annotations

import json
import math
import re
import string
import tomllib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sites import NOW

from building.description import load_building, parse_strict
from building.errors import BadReadingError, SetwiseError
from building.variables import Role, Variable
from service.config import Config
from service.discover import Seen, propose
from service.orders import add_override
from service.points import REASONS, AgeLimits, Points, PointsFile, read_forecast
from service.quality import FLAGS, USABLE
from service.sparkplug import Host, Payload

T_MS = 1_767_798_000_000  # 2026-01-07T15:00Z
LATEST = pd.Timestamp(T_MS, unit="ms", tz="UTC")
LIMITS = AgeLimits(pd.Timedelta(minutes=5), pd.Timedelta(days=35))
SPARKPLUG = "spBv1.0/p/{}/e"
TO_CELSIUS: dict[str, Callable[[float], float]] = {"degC": float, "K": lambda x: x - 273.15, "degF": lambda x: (x - 32) / 1.8}
FORMATS: dict[str, dict[str, Any]] = {
    "number": {"format": "number"},
    "number_f": {"format": "number", "unit": "degF"},
    "home_assistant": {"format": "home_assistant"},
    "json": {"format": "json", "value": "v", "time": "t", "unit_path": "u"},
    "json_s": {"format": "json", "value": "v", "time": "t", "time_format": "s"},
    "json_every": {"format": "json", "value": "s[*].v", "time": "s[*].t", "time_format": "ms"},
    "sparkplug": {"topic": SPARKPLUG.format("NDATA"), "format": "sparkplug", "value": "T"},
}
OFFICE, TWO_NODE = load_building("medium_office"), load_building("two_node")
NAME = "core_mid_air_temperature"
POINTS = {
    kind: Points(
        PointsFile.model_validate({"building": OFFICE.name, "points": {NAME: {"topic": "t", **facts}}}),
        OFFICE,
    )
    for kind, facts in FORMATS.items()
}
PLAIN = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)

scalars = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=8), st.text("0123456789+-._eE,xn ", max_size=10),
    st.floats(-20, 80), st.floats(260, 330), st.just(10**400), st.just("9" * 5000),
    st.sampled_from(["on", "unavailable", "unknown", "degF", "K", "kW", "2026-01-07T15:00Z", T_MS, T_MS / 1000, 21.5, "NaN", "∞",
                     "now", "today", "2026-11-01T01:30", "9999-12-31T23:59", "0001-01-01T00:00+14:00"]),
)  # fmt: skip
stamps = st.datetimes(datetime(2025, 11, 1), datetime(2026, 3, 1)).map(lambda d: d.isoformat() + "Z")
nearly = st.fixed_dictionaries(
    {"v": st.floats(-50, 350) | scalars},
    optional={
        "t": stamps | scalars | st.integers(T_MS - 4 * 10**9, T_MS + 10**6),
        "u": st.sampled_from([*TO_CELSIUS, "kW", 1, None]),
    },
)
items = st.dictionaries(st.sampled_from(["v", "t", "u", "s"]), scalars, max_size=4) | nearly
documents = st.one_of(
    items, st.builds(lambda s: {"s": s}, st.lists(items | scalars, max_size=4)), st.recursive(scalars, st.lists, max_leaves=5)
)
bytes_of = st.one_of(
    st.binary(max_size=40),
    scalars.map(lambda x: str(x).encode("utf-8", "replace")),
    documents.map(lambda d: json.dumps(d).encode()),
    st.text(string.printable, max_size=30).map(str.encode),
)
messages = st.tuples(st.sampled_from([k for k in FORMATS if k != "sparkplug"]), bytes_of, st.booleans())


def check_message(said: tuple[str, bytes, bool]) -> None:
    """A row is what the payload says, read a second time by other means; what is believed is within the variable's bounds."""
    kind, payload, is_retained = said
    rows, refused = POINTS[kind].read("t", payload, T_MS, LIMITS, is_retained)
    assert all(e.reason in REASONS and str(e) for e in refused)
    for name, stamp_ms, value, flag, received_ms in rows:
        assert name == NAME and flag in FLAGS and math.isfinite(value) and received_ms == T_MS
        assert -LIMITS.age_ms <= stamp_ms - T_MS <= LIMITS.future_ms
        if flag in USABLE:
            assert -10 <= value <= 60
        if kind in ("number", "number_f", "home_assistant"):
            assert PLAIN.fullmatch(payload.decode()) and stamp_ms == T_MS
            assert kind == "home_assistant" or not is_retained
            sources = [(payload.decode(), "degF" if kind == "number_f" else "degC", None)]
        else:
            data = json.loads(payload)
            every = data["s"] if kind == "json_every" else [data]
            sources = [(d["v"], d.get("u", "degC") if kind == "json" else "degC", d["t"]) for d in every if is_whole(d)]
        assert any(is_said(value, flag, stamp_ms, kind, *source) for source in sources), (payload, rows)


def is_whole(item: Any) -> bool:
    return isinstance(item, dict) and "v" in item and "t" in item


def is_said(value: float, flag: str, stamp_ms: int, kind: str, number: Any, unit: Any, time: Any) -> bool:
    """Say whether a row is this number in this unit at this time."""
    if isinstance(number, bool) or not isinstance(number, int | float | str) or unit not in TO_CELSIUS:
        return False
    try:
        inside = TO_CELSIUS[unit](float(number))
    except (ValueError, OverflowError):
        return False
    if time is not None:
        given = pd.Timestamp(time) if kind == "json" else pd.Timestamp(float(time), unit="s" if kind == "json_s" else "ms")
        given = given.tz_localize("UTC") if given.tzinfo is None else given.tz_convert("UTC")
        if abs(given.timestamp() * 1000 - stamp_ms) > 1:
            return False
    slack = 0.005 * 70 if flag == "clipped" else 1e-6 * max(1.0, abs(inside))
    return abs(inside - value) <= slack


metrics = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["T", "X", "bdSeq", ""]), "alias": st.integers(0, 3),
        "timestamp": st.integers(0, 2**64 - 1) | st.just(T_MS),
        "datatype": st.integers(0, 25), "is_null": st.booleans(), "is_historical": st.booleans(), "double_value": st.floats(),
    },
) | st.fixed_dictionaries({"name": st.just("T"), "int_value": st.integers(0, 2**32 - 1)}) | st.fixed_dictionaries(
    {"name": st.just("T"), "alias": st.just(1), "string_value": st.text(max_size=5)}
)  # fmt: skip
lives = st.lists(
    st.tuples(
        st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "NCMD"]),
        st.binary(max_size=30) | st.tuples(st.integers(0, 300), st.lists(metrics, max_size=3)),
    ),
    max_size=5,
)


def check_edge_node(said: list[tuple[str, Any]]) -> None:
    """Nothing is believed before a birth, nor beyond the bounds or the ages."""
    host, is_born = Host(lambda: 0.0), False
    for kind, content in said:
        payload = content
        if not isinstance(content, bytes):
            message = Payload(seq=content[0])
            for m in content[1]:
                message.metrics.add(**m)
            payload = message.SerializeToString()
        try:
            heard = host.hear(SPARKPLUG.format(kind), payload, T_MS)
        except BadReadingError as e:
            assert e.reason in REASONS
            continue
        assert is_born or kind == "NBIRTH" or heard.metrics == ()
        is_born = is_born or kind == "NBIRTH"
        rows, refused = POINTS["sparkplug"].read_metrics(heard.metrics, T_MS, LIMITS)
        assert all(e.reason in REASONS for e in refused)
        for _, stamp_ms, value, flag, _ in rows:
            assert math.isfinite(value) and (flag not in USABLE or -10 <= value <= 60)
            assert -LIMITS.age_ms <= stamp_ms - T_MS <= LIMITS.future_ms


FORECASTABLE = POINTS["json"].forecastable
plausible = st.floats(0, 1) | st.floats(-40, 60)
forecasts = st.fixed_dictionaries(
    {"issued": stamps | scalars, "start": stamps | scalars,
     "series": st.dictionaries(
         st.sampled_from([*FORECASTABLE.names[:3], "outdoor_air_temperatur"]),
         st.lists(plausible, min_size=2, max_size=3) | st.lists(scalars, max_size=3) | scalars, max_size=2) | scalars},
    optional={"step_min": st.sampled_from([60, 15, 7.5, 0, -1, 61]) | scalars, "more": scalars},
)  # fmt: skip
forecast_bytes = (
    st.binary(max_size=40) | documents.map(lambda d: json.dumps(d).encode()) | forecasts.map(lambda d: json.dumps(d).encode())
)


def check_forecast(payload: bytes) -> None:
    """What is kept is hours, numbers the payload held, within bounds, not issued in the future."""
    try:
        frame, issued = read_forecast("f", payload, FORECASTABLE, LATEST)
    except BadReadingError as e:
        assert e.reason in REASONS and str(e)
        return
    data = json.loads(payload)
    assert issued <= LATEST and issued == utc(data["issued"])
    assert len(frame) and frame.index[0] == utc(data["start"]).floor("h") and (frame.index == frame.index.floor("h")).all()
    assert set(frame.columns) == set(data["series"])
    for name, values in data["series"].items():
        assert isinstance(values, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
        v, found = FORECASTABLE[name], frame[name].to_numpy()
        slack = 0.005 * (v.high - v.low) + 1e-9
        given_now = found[~pd.isna(found)]
        assert len(given_now) and (v.low <= given_now).all() and (given_now <= v.high).all()
        assert min(values) - slack <= given_now.min() and given_now.max() <= max(values) + slack


def utc(text: str) -> pd.Timestamp:
    stamp = datetime.fromisoformat(text)
    return pd.Timestamp(stamp).tz_localize("UTC") if stamp.tzinfo is None else pd.Timestamp(stamp).tz_convert("UTC")


ECHOES = Points(
    PointsFile.model_validate(
        {
            "building": OFFICE.name,
            "points": {NAME: {"topic": "t"}},
            "commands": {
                "heating_setpoint": {"topic": "a", "echo": {"topic": "plain", "unit": "degF"}},
                "cooling_setpoint": {"topic": "b", "echo": {"topic": "json", "value": "v", "unit_path": "u"}},
            },
        }
    ),
    OFFICE,
)
echoes = st.tuples(st.sampled_from(["plain", "json"]), bytes_of)


def check_echo(said: tuple[str, bytes]) -> None:
    """An echo is a finite number in the inside unit, or refused."""
    topic, payload = said
    try:
        found = ECHOES.read_echo(topic, payload)
    except BadReadingError as e:
        assert e.reason in REASONS and str(e)
        return
    ((name, value),) = found.items()
    assert math.isfinite(value)
    if topic == "plain":
        assert name == "heating_setpoint" and is_said(value, "good", 0, "", payload.decode(), "degF", None)
    else:
        data = json.loads(payload)
        assert name == "cooling_setpoint" and is_said(value, "good", 0, "", data["v"], data["u"], None)


class Kept:
    """A store that only remembers the override it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def add_override(self, *facts: Any) -> None:
        self.given.append(facts)


overrides = st.tuples(
    st.sampled_from([*TWO_NODE.settings.names, "heating_setpoin", ""]) | st.text(max_size=5),
    st.floats() | st.floats(0, 40),
    st.timedeltas(timedelta(days=-9000), timedelta(days=9000)) | st.timedeltas(timedelta(hours=-3), timedelta(days=9)),
)


def check_override(said: tuple[str, float, timedelta]) -> None:
    """What is held at is a setting, within its bounds, and ends within the longest time."""
    setting, value, lasts = said
    store = Kept()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.orders.Acts", lambda _store: store)
        try:
            add_override(store, TWO_NODE, Config(), setting, value, NOW + lasts, NOW, "me", "fuzz")  # type: ignore[arg-type]
        except SetwiseError as e:
            assert str(e) and store.given == []
            return
    ((kept, held, at, until, *_),) = store.given
    v: Variable = TWO_NODE.settings[kept]
    assert v.role is Role.SETTING and v.low <= held <= v.high and at < until <= at + pd.Timedelta(hours=168)


topics = st.sampled_from(
    ["site/zone/temperature", "ha/sensor/x/state", "homeassistant/sensor/x/config", "a/unit_of_measurement", "a/state", "x",
     SPARKPLUG.format("NBIRTH"), SPARKPLUG.format("NDATA"), "spBv1.0/p/DDATA/e/d"]
) | st.text(st.characters(exclude_characters="+#\0"), min_size=1, max_size=12)  # fmt: skip
announcements = st.fixed_dictionaries(
    {},
    optional={
        k: st.sampled_from(["ha/sensor/x/state", "~/state", "degC", "{{ value_json.t }}", "{{ value_json['t'] }}"]) | scalars
        for k in ("state_topic", "stat_t", "~", "unit_of_measurement", "value_template", "name", "cmps", "device_class")
    },
).map(lambda d: json.dumps(d).encode())  # fmt: skip
worlds = st.dictionaries(
    topics, st.builds(Seen, st.lists(bytes_of | announcements, max_size=3), st.just(3), st.booleans()), max_size=4
)


def check_discovery(seen: dict[str, Seen]) -> None:
    """What is proposed is a points file whose only fault is that nobody confirmed its units."""
    data = tomllib.loads(propose(TWO_NODE, seen))
    unasked = {**data, "points": {n: {k: v for k, v in p.items() if k != "unit"} for n, p in data.get("points", {}).items()}}
    facts = parse_strict(PointsFile, unasked, "proposed")
    assert all(p.get("unit", "?") == "?" for p in data.get("points", {}).values())
    Points(facts, TWO_NODE)


point_keys = ("topic", "format", "value", "unit", "unit_path", "time", "time_format", "time_zone", "shift_min", "low", "high",
              "sends", "is_counter", "tipic")  # fmt: skip
point_values = scalars | st.sampled_from(
    ["json", "number", "sparkplug", "home_assistant", "iso", "ms", "UTC", "Europe/Paris", "a[*].b", "a..b", "?", "a/+",
     SPARKPLUG.format("NDATA"), True, 20.0]
)  # fmt: skip
tables = st.fixed_dictionaries(
    {"topic": st.sampled_from(["t", "u/v", "a/#"]) | scalars},
    optional={k: point_values for k in point_keys if k != "topic"},
)
files = st.fixed_dictionaries(
    {"building": st.just("two_node"),
     "points": st.dictionaries(st.sampled_from(["zone_co2", "zone_air_temperature", "x"]), tables, max_size=3)},
    optional={"commands": st.dictionaries(st.sampled_from(["heating_setpoint", "y"]), tables, max_size=2) | scalars,
              "listen": st.lists(scalars, max_size=2), "forecasts": scalars | st.just({"topic": "f"}), "more": scalars},
)  # fmt: skip


def check_points_file(data: dict[str, Any]) -> None:
    """A points file is refused in a sentence, or every message on its topics can be read."""
    try:
        points = Points(parse_strict(PointsFile, data, "points.toml"), TWO_NODE)
    except SetwiseError as e:
        assert str(e)
        return
    assert all(isinstance(s, str) for s in points.subscriptions) and set(points.measured.names) == set(data["points"])
    for point in points.facts.points.values():
        rows, refused = points.read(point.topic, b'{"a": [{"b": 20}], "v": 20}', T_MS, LIMITS)
        assert all(math.isfinite(r[2]) for r in rows) and all(e.reason in REASONS for e in refused)


PARSERS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "message": (messages, check_message),
    "sparkplug": (lives, check_edge_node),
    "forecast": (forecast_bytes, check_forecast),
    "echo": (echoes, check_echo),
    "override": (overrides, check_override),
    "discovery": (worlds, check_discovery),
    "points file": (files, check_points_file),
}


BATCH = 2000


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("n_cases", [300, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("parser", PARSERS)
def test_nothing_sent_to_a_parser_makes_it_fall_or_is_accepted_wrongly(parser: str, n_cases: int) -> None:
    inputs, check = PARSERS[parser]

    for batch in range(max(1, n_cases // BATCH)):  # one tree of 100,000 examples takes longer and longer to grow

        @seed(batch)
        @settings(max_examples=min(n_cases, BATCH), deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(inputs)
        def flood(said: Any) -> None:
            check(said)

        flood()
