"""Numbers, instants and paths, and the parsers under a flood of nonsense. 100,000 cases of each: `pytest -m slow`."""

from __future__ import annotations

import json
import math
import re
import string
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from building.description import load_building
from building.errors import BadReadingError
from service.payloads import EVERY, at, every, instant_ms, number_in, path_of
from service.points import REASONS, AgeLimits, Points, PointsFile
from service.quality import FLAGS, USABLE
from service.sparkplug import Host, Payload

T_MS = 1_767_798_000_000  # 2026-01-07T15:00Z
LIMITS = AgeLimits(pd.Timedelta(minutes=5), pd.Timedelta(days=35))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("a",)),
        ("a.b.0", ("a", "b", "0")),
        ("a[0].b", ("a", "0", "b")),
        ('["a.b"].c', ("a.b", "c")),
        ("a[name=x y].v", ("a", ("name", "x y"), "v")),
        ("a[*].v", ("a", EVERY, "v")),
        ("[*]", (EVERY,)),
    ],
)
def test_path_is_read_step_by_step(text: str, expected: tuple[object, ...]) -> None:
    assert path_of(text) == expected


@pytest.mark.parametrize("text", ["", ".a", "a..b", "a[", "a]", "a[b", "a[*].b[*]", "a."])
def test_path_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|more than one"):
        path_of(text)


def test_common_values_stand_beside_every_item() -> None:
    data = {"t": 5, "s": [{"v": 1}, {"v": 2, "u": "K"}]}
    found = list(every(data, (path_of("s[*].v"), path_of("t"), path_of("s[*].u"))))
    assert [f[:2] for f in found] == [(1, 5), (2, 5)] and isinstance(found[0][2], LookupError) and found[1][2] == "K"
    with pytest.raises(LookupError, match="nothing at 'x'"):
        at(data, ("x",))


@pytest.mark.parametrize(
    ("given", "is_share", "expected"),
    [
        (21, False, 21.0), (" 21.5 ", False, 21.5), ("-1e3", False, -1000.0), ("+.5", False, 0.5), ("5.", False, 5.0),
        ("on", True, 1.0), ("Off", True, 0.0), (True, True, 1.0), ("on", False, None), (True, False, None), ("1_0", False, None),
        ("1,0", False, None), ("0x1", False, None), ("inf", False, None), ("nan", False, None), ("", False, None),
        ("٣", False, None), ("1e999", False, None),
        (10**400, False, None), (None, True, None), ([1], False, None), (math.nan, False, None),
    ],
)  # fmt: skip
def test_only_plain_numbers_are_numbers(given: object, is_share: bool, expected: float | None) -> None:
    assert number_in(given, is_share) == expected


@pytest.mark.parametrize(
    ("given", "how", "zone", "expected"),
    [
        ("2026-01-07T15:00:00Z", "iso", "UTC", T_MS),
        ("2026-01-07T09:00", "iso", "America/Chicago", T_MS),
        ("2026-01-07 15:00:00.250+00:00", "iso", "UTC", T_MS + 250),
        (T_MS / 1000, "s", "UTC", T_MS),
        (str(T_MS), "ms", "UTC", T_MS),
    ],
)
def test_instants_are_read_in_every_format(given: object, how: str, zone: str, expected: int) -> None:
    assert instant_ms(given, how, zone) == expected


@pytest.mark.parametrize(
    ("given", "how"),
    [("2026-01-07", "iso"), ("01/07/2026 15:00", "iso"), (T_MS, "iso"), (None, "iso"), ("2026-13-07T15:00", "iso"), (True, "s"),
     ("soon", "s"), (1e300, "ms"), (math.inf, "s"), ("2026-11-01T01:30", "iso"), ("2026-03-08T02:30", "iso")],
)  # fmt: skip
def test_doubtful_instants_are_refused(given: object, how: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        instant_ms(given, how, "America/Chicago")


# -- floods

SPARKPLUG = "spBv1.0/p/{}/e"
FORMATS: dict[str, dict[str, Any]] = {
    "number": {"format": "number"},
    "home_assistant": {"format": "home_assistant"},
    "json": {"format": "json", "value": "v", "time": "t", "unit_path": "u"},
    "json_every": {"format": "json", "value": "s[*].v", "time": "s[*].t", "time_format": "ms"},
}
OFFICE = load_building("medium_office")
POINTS = {
    name: Points(
        PointsFile.model_validate({"building": "medium_office", "points": {"core_mid_air_temperature": {"topic": "t", **facts}}}),
        OFFICE,
    )
    for name, facts in {**FORMATS, "sparkplug": {"topic": SPARKPLUG.format("NDATA"), "format": "sparkplug", "value": "T"}}.items()
}

scalars = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=8), st.text("0123456789+-._eE,xn ", max_size=10),
    st.sampled_from(["on", "unavailable", "unknown", "degF", "K", "kW", "2026-01-07T15:00Z", T_MS, 21.5, "NaN", "∞"]),
)  # fmt: skip
items = st.dictionaries(st.sampled_from(["v", "t", "u", "s"]), scalars, max_size=4)
documents = st.one_of(
    items, st.builds(lambda s: {"s": s}, st.lists(items | scalars, max_size=4)), st.recursive(scalars, st.lists, max_leaves=5)
)
payloads = st.one_of(
    st.binary(max_size=40),
    scalars.map(lambda x: str(x).encode("utf-8", "replace")),
    documents.map(lambda d: json.dumps(d).encode()),
    st.text(string.printable, max_size=30).map(str.encode),
)


def check_message(kind: str, payload: bytes, is_retained: bool) -> None:
    rows, refused = POINTS[kind].read("t", payload, T_MS, LIMITS, is_retained)
    assert all(e.reason in REASONS for e in refused)
    for name, stamp_ms, value, flag, received_ms in rows:
        assert name == "core_mid_air_temperature" and flag in FLAGS and math.isfinite(value) and received_ms == T_MS
        assert -LIMITS.age_ms <= stamp_ms - T_MS <= LIMITS.future_ms
        if flag in USABLE:
            assert -10 <= value <= 60
            if kind in ("number", "home_assistant"):
                assert re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", payload.decode(), re.ASCII)
            else:
                json.loads(payload)


@given(st.sampled_from(sorted(FORMATS)), payloads, st.booleans())
def test_no_payload_is_accepted_wrongly_or_raises(kind: str, payload: bytes, is_retained: bool) -> None:
    check_message(kind, payload, is_retained)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(FORMATS)), payloads, st.booleans())
def test_none_of_100_000_payloads_is_accepted_wrongly_or_raises(kind: str, payload: bytes, is_retained: bool) -> None:
    check_message(kind, payload, is_retained)


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
messages = st.tuples(
    st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "NCMD"]),
    st.binary(max_size=30) | st.tuples(st.integers(0, 300), st.lists(metrics, max_size=3)),
)


def check_node(said: list[tuple[str, Any]]) -> None:
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


@given(st.lists(messages, max_size=5))
def test_no_edge_node_is_believed_wrongly_or_makes_us_fall(said: list[tuple[str, Any]]) -> None:
    check_node(said)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(messages, max_size=5))
def test_none_of_100_000_edge_nodes_is_believed_wrongly_or_makes_us_fall(said: list[tuple[str, Any]]) -> None:
    check_node(said)
