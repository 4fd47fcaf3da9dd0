"""Edge nodes as they are met: born, silent, out of step, dead. One payload is written out by hand from the specification."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.errors import BadReadingError
from service.sparkplug import Heard, Host, Payload, parts, rebirth_request, source_of

NODE, DEVICE = "spBv1.0/plant/{}/edge", "spBv1.0/plant/{}/edge/ahu"
T_MS = 1_767_798_000_000
INT32, FLOAT, DOUBLE, BOOLEAN, INT64 = 3, 9, 10, 11, 4


class Edge:
    """An edge node: writes payloads and counts its sequence numbers."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.host = Host(lambda: self.now_s)
        self.seq = 0
        self.bd_seq = 7

    def payload(self, *metrics: dict[str, Any], has_seq: bool = True, seq: int | None = None) -> bytes:
        said = Payload(timestamp=T_MS)
        for m in metrics:
            properties = m.pop("properties", {})
            one = said.metrics.add(**m)
            for key, value in properties.items():
                one.properties.keys.append(key)
                one.properties.values.add(**value)
        if has_seq:
            said.seq = self.seq if seq is None else seq
            self.seq = (said.seq + 1) % 256
        return bytes(said.SerializeToString())

    def hear(self, topic: str, *metrics: dict[str, Any], **how: Any) -> Heard:
        return self.host.hear(topic, self.payload(*metrics, **how), T_MS)

    def born(self) -> Heard:
        self.seq = 0
        bd = {"name": "bdSeq", "datatype": INT64, "long_value": self.bd_seq}
        heard = self.hear(NODE.format("NBIRTH"), bd, {"name": "Outdoor", "alias": 1, "datatype": FLOAT, "float_value": 5.5})
        return heard

    def device_born(self) -> Heard:
        unit = {"engUnit": {"type": 12, "string_value": "degF"}}
        return self.hear(
            DEVICE.format("DBIRTH"),
            {
                "name": "Zone/Temp",
                "alias": 2,
                "datatype": DOUBLE,
                "double_value": 70.0,
                "timestamp": T_MS - 5,
                "properties": unit,
            },
            {"name": "Fan", "alias": 3, "datatype": BOOLEAN, "boolean_value": True},
        )

    def death(self, bd_seq: int | None = None) -> Heard:
        bd = {"name": "bdSeq", "datatype": INT64, "long_value": self.bd_seq if bd_seq is None else bd_seq}
        return self.hear(NODE.format("NDEATH"), bd, has_seq=False)


def test_bytes_written_by_hand_from_the_specification_are_read() -> None:
    def varint(n: int) -> bytes:
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    name = b"Room"
    metric = (
        b"\x0a"
        + varint(len(name))
        + name
        + b"\x10\x05"
        + b"\x18"
        + varint(T_MS)
        + b"\x20\x09"
        + b"\x65"
        + struct.pack("<f", 21.5)
    )
    payload = b"\x08" + varint(T_MS) + b"\x12" + varint(len(metric)) + metric + b"\x18\x00"
    (one,) = Host(lambda: 0.0).hear(NODE.format("NBIRTH"), payload, T_MS).metrics
    assert (one.source, one.name, one.value, one.stamp_ms) == ("plant/edge", "Room", 21.5, T_MS)


def test_births_name_what_aliases_mean_and_data_use_them() -> None:
    edge = Edge()
    assert [(m.name, m.value) for m in edge.born().metrics] == [("bdSeq", 7.0), ("Outdoor", 5.5)]
    temp, fan = edge.device_born().metrics
    assert (temp.source, temp.name, temp.value, temp.unit, temp.stamp_ms) == (
        "plant/edge/ahu",
        "Zone/Temp",
        70.0,
        "degF",
        T_MS - 5,
    )
    assert fan.value is True and fan.stamp_ms == T_MS
    heard = edge.hear(DEVICE.format("DDATA"), {"alias": 2, "double_value": 71.0, "is_historical": True})
    (one,) = heard.metrics
    assert (one.name, one.value, one.unit, one.is_historical) == ("Zone/Temp", 71.0, "degF", True)
    assert heard.ask is None and heard.problem == ""


def test_data_before_a_birth_ask_for_a_rebirth_once_a_minute() -> None:
    edge = Edge()
    heard = edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 1.0})
    assert heard.metrics == () and heard.ask is not None and heard.ask[0] == "spBv1.0/plant/NCMD/edge"
    asked = Payload.FromString(heard.ask[1])
    assert asked.metrics[0].name == "Node Control/Rebirth" and asked.metrics[0].boolean_value is True
    assert edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 1.0}).ask is None
    edge.now_s = 61.0
    assert edge.hear(DEVICE.format("DDATA"), {"alias": 2, "double_value": 1.0}).ask is not None


def test_lost_message_shows_as_a_gap_in_seq_and_asks_for_a_rebirth_but_the_value_counts() -> None:
    edge = Edge()
    edge.born()
    heard = edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 6.0}, seq=5)
    assert [m.value for m in heard.metrics] == [6.0] and heard.ask is not None and "a message was lost" in heard.problem
    assert edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 7.0}).problem == ""


def test_seq_wraps_at_256() -> None:
    edge = Edge()
    edge.born()
    for _ in range(600):
        assert edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 6.0}).problem == ""


def test_alias_that_no_birth_named_is_no_reading() -> None:
    edge = Edge()
    edge.born()
    edge.device_born()
    for topic, metric in (
        (NODE.format("NDATA"), {"alias": 99, "float_value": 6.0}),
        (NODE.format("NDATA"), {"alias": 2, "double_value": 6.0}),  # the device's alias
        (NODE.format("NDATA"), {"name": "Stranger", "datatype": FLOAT, "float_value": 6.0}),
    ):
        heard = edge.hear(topic, metric)
        assert heard.metrics == () and "no birth named" in heard.problem


def test_death_of_the_node_ends_its_devices_and_a_late_will_of_a_former_session_nobody() -> None:
    edge = Edge()
    edge.born()
    edge.device_born()
    assert edge.death(bd_seq=6) == Heard()
    assert edge.death().dead == ("plant/edge", "plant/edge/ahu")
    assert edge.hear(DEVICE.format("DDATA"), {"alias": 2, "double_value": 1.0}).metrics == ()


def test_death_of_a_device_leaves_its_node_alive() -> None:
    edge = Edge()
    edge.born()
    edge.device_born()
    assert edge.hear(DEVICE.format("DDEATH")).dead == ("plant/edge/ahu",)
    assert "birth was not heard" in edge.hear(DEVICE.format("DDATA"), {"alias": 2, "double_value": 1.0}).problem
    assert len(edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 6.0}).metrics) == 1


def test_birth_of_the_node_ends_devices_until_they_are_born_again() -> None:
    edge = Edge()
    edge.born()
    edge.device_born()
    assert edge.born().dead == ("plant/edge/ahu",)
    assert "birth was not heard" in edge.hear(DEVICE.format("DDATA"), {"alias": 2, "double_value": 1.0}).problem


def test_numbers_of_every_type_come_out_right() -> None:
    cases: list[tuple[dict[str, Any], object]] = [
        ({"datatype": 1, "int_value": 0xFB}, -5.0),
        ({"datatype": 2, "int_value": 0xFFFF}, -1.0),
        ({"datatype": INT32, "int_value": 0xFFFFFFFE}, -2.0),
        ({"datatype": INT64, "long_value": 2**64 - 3}, -3.0),
        ({"datatype": 7, "int_value": 4_000_000_000}, 4e9),
        ({"datatype": BOOLEAN, "boolean_value": False}, False),
        ({"datatype": 12, "string_value": "21.5"}, "21.5"),
        ({"datatype": FLOAT, "is_null": True}, None),
        ({"datatype": 13, "long_value": T_MS}, None),  # a date is no measurement
        ({"datatype": 17, "bytes_value": b"x"}, None),
    ]
    edge = Edge()
    heard = edge.hear(NODE.format("NBIRTH"), *({"name": str(i), **m} for i, (m, _) in enumerate(cases)))
    assert [m.value for m in heard.metrics] == [wanted for _, wanted in cases]


def test_quality_that_is_not_good_is_told() -> None:
    edge = Edge()
    edge.born()
    bad = {"Quality": {"type": INT32, "int_value": 500}}
    (one,) = edge.hear(NODE.format("NDATA"), {"alias": 1, "float_value": 6.0, "properties": bad}).metrics
    assert not one.is_good


def test_commands_state_and_other_topics_say_nothing() -> None:
    host = Host(lambda: 0.0)
    topic, payload = rebirth_request("plant", "edge", T_MS)
    assert host.hear(topic, payload, T_MS) == Heard() == host.hear("spBv1.0/STATE/host", b'{"online":true}', T_MS)
    assert parts("spBv1.0/plant/NDATA") is None and parts("spBv1.0//NDATA/edge") is None
    assert source_of("spBv1.0/p/DDATA/e/d") == "p/e/d" and source_of("spBv1.0/p/NDATA/e") == "p/e" and source_of("a/b") is None


@pytest.mark.parametrize("payload", [b"\xff", b"\x12\x05ab", b"{}", b"\x0a\xff\xff\xff\xff\xff"])
def test_bytes_that_are_no_payload_are_refused(payload: bytes) -> None:
    with pytest.raises(BadReadingError, match="malformed_sparkplug"):
        Host(lambda: 0.0).hear(NODE.format("NBIRTH"), payload, T_MS)


def test_device_message_on_a_node_topic_is_refused() -> None:
    with pytest.raises(BadReadingError, match="without a device"):
        Host(lambda: 0.0).hear(NODE.format("DDATA"), b"", T_MS)


@given(
    st.lists(
        st.tuples(st.sampled_from(["NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"]), st.binary(max_size=60)), max_size=8
    )
)
def test_no_bytes_make_the_host_fall_or_believe_a_value_without_a_birth(heard: list[tuple[str, bytes]]) -> None:
    host, is_born = Host(lambda: 0.0), False
    for kind, payload in heard:
        try:
            said = host.hear((NODE if kind[0] == "N" else DEVICE).format(kind), payload, T_MS)
        except BadReadingError:
            continue
        assert is_born or kind == "NBIRTH" or said.metrics == ()
        is_born = kind == "NBIRTH" or (is_born and kind != "NDEATH") or is_born
