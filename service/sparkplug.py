"""Sparkplug B as a host application hears it: births name the metrics, data give values, deaths end them.

    spBv1.0/<group>/<NBIRTH|NDATA|NDEATH>/<edge node>              spBv1.0/<group>/<DBIRTH|DDATA|DDEATH>/<edge node>/<device>

`Host` keeps what the births said (aliases, units) and which sequence number comes next. Where it cannot know what a message
means, or one was lost, it asks the edge node for a rebirth (NCMD "Node Control/Rebirth"), at most once a minute. Nothing of it is
kept on disk: a host that starts anew asks for rebirths, as the specification wants.

The payload is protobuf. The messages are described below with the field numbers of the Sparkplug 3.0 specification (chapter
6.4.1); fields nobody reads here (metadata, data sets, templates) are left out and skipped by the parser. protobuf itself weighs
nothing more: onnxruntime brings it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from building.errors import BadReadingError

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
ASK_AGAIN_S = 60.0
"""Least time between two rebirth requests to one edge node; a broken one must not be flooded."""

_GOOD_QUALITY = 192
"""The property "Quality" of a metric: OPC's good; 0 is bad, 500 stale."""
_SIGNED_BITS = {1: 8, 2: 16, 3: 32, 4: 64}  # Int8 .. Int64 travel as unsigned fields, in two's complement
_UNSIGNED = (5, 6, 7, 8)
_FLOAT, _DOUBLE, _BOOLEAN = 9, 10, 11

_Field = descriptor_pb2.FieldDescriptorProto


def _payload_class() -> Any:
    """Describe the messages and return the class of a payload."""
    file = descriptor_pb2.FileDescriptorProto(name="setwise/sparkplug_b.proto", package="setwise.sparkplug", syntax="proto2")
    kinds = {
        "uint32": _Field.TYPE_UINT32, "uint64": _Field.TYPE_UINT64, "bool": _Field.TYPE_BOOL, "float": _Field.TYPE_FLOAT,
        "double": _Field.TYPE_DOUBLE, "string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES,
    }  # fmt: skip
    described = {
        "Payload": "timestamp=1:uint64 *metrics=2:Metric seq=3:uint64 uuid=4:string body=5:bytes",
        "Metric": "name=1:string alias=2:uint64 timestamp=3:uint64 datatype=4:uint32 is_historical=5:bool is_transient=6:bool "
        "is_null=7:bool properties=9:PropertySet int_value=10:uint32 long_value=11:uint64 float_value=12:float "
        "double_value=13:double boolean_value=14:bool string_value=15:string bytes_value=16:bytes",
        "PropertySet": "*keys=1:string *values=2:PropertyValue",
        "PropertyValue": "type=1:uint32 is_null=2:bool int_value=3:uint32 long_value=4:uint64 float_value=5:float "
        "double_value=6:double boolean_value=7:bool string_value=8:string",
    }
    for name, fields in described.items():
        one = file.message_type.add(name=name)
        oneof = None
        for text in fields.split():
            key, _, kind = text.partition(":")
            label, _, number = key.partition("=")
            is_repeated = label.startswith("*")
            f = one.field.add(
                name=label.lstrip("*"),
                number=int(number),
                label=_Field.LABEL_REPEATED if is_repeated else _Field.LABEL_OPTIONAL,
                type=kinds.get(kind, _Field.TYPE_MESSAGE),
            )
            if kind not in kinds:
                f.type_name = f".setwise.sparkplug.{kind}"
            if f.name.endswith("_value"):
                if oneof is None:
                    one.oneof_decl.add(name="value")
                    oneof = 0
                f.oneof_index = oneof
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("setwise.sparkplug.Payload"))


Payload = _payload_class()
"""The protobuf message class of a payload."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of one metric.

    Attributes:
        source: ``group/edge`` or ``group/edge/device``.
        name: as its birth said.
        value: a number, a truth, a text; None for null.
        stamp_ms: when it was acquired (UTC); None when nobody said.
        unit: property engUnit of the birth; empty when it has none.
        is_good: the property Quality says good, or is not there.
        is_historical: collected while the line was down.
    """

    source: str
    name: str
    value: float | bool | str | None
    stamp_ms: int | None
    unit: str = ""
    is_good: bool = True
    is_historical: bool = False


@dataclass(frozen=True)
class Heard:
    """What one message said.

    Attributes:
        metrics: values, in order.
        dead: sources that died; what they said last holds no longer.
        ask: topic and payload of a rebirth request to send now, or None.
        problem: why the message could not be believed whole, for people; empty when it could.
    """

    metrics: tuple[Metric, ...] = ()
    dead: tuple[str, ...] = ()
    ask: tuple[str, bytes] | None = None
    problem: str = ""


@dataclass
class _Node:
    """What the last birth of an edge node said."""

    bd_seq: int | None = None
    next_seq: int = 0
    by_alias: dict[int, tuple[str, str]] = field(default_factory=dict)  # alias -> source, name
    known: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # source, name -> unit, data type
    alive: set[str] = field(default_factory=set)


def parts(topic: str) -> tuple[str, str, str, str] | None:
    """Return group, message type, edge node and device ("" for none) of a Sparkplug topic; None where it is none."""
    levels = topic.split("/")
    if len(levels) not in (4, 5) or levels[0] != NAMESPACE or not all(levels):
        return None
    return levels[1], levels[2], levels[3], levels[4] if len(levels) == 5 else ""


def source_of(topic: str) -> str | None:
    """Return ``group/edge`` or ``group/edge/device`` of a topic; None where it is no Sparkplug topic."""
    found = parts(topic)
    return None if found is None else "/".join((found[0], found[2], found[3])).rstrip("/")


def rebirth_request(group: str, edge: str, now_ms: int) -> tuple[str, bytes]:
    """Return topic and payload that ask an edge node to be born again."""
    asked = Payload(timestamp=now_ms)
    asked.metrics.add(name=REBIRTH, timestamp=now_ms, datatype=_BOOLEAN, boolean_value=True)
    return f"{NAMESPACE}/{group}/NCMD/{edge}", bytes(asked.SerializeToString())


class Host:
    """Hears every message of the edge nodes it is given, in order.

    Args:
        monotonic: seconds, for the pace of rebirth requests.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._asked: dict[tuple[str, str], float] = {}

    def hear(self, topic: str, payload: bytes, now_ms: int) -> Heard:
        """Take one message.

        Args:
            topic: a Sparkplug topic; commands and STATE messages say nothing.
            payload: as it arrived.
            now_ms: the time (UTC), for a rebirth request.

        Raises:
            BadReadingError: not a Sparkplug payload.
        """
        found = parts(topic)
        if found is None or found[1] not in ("NBIRTH", "NDATA", "NDEATH", "DBIRTH", "DDATA", "DDEATH"):
            return Heard()
        group, kind, edge, device = found
        if (kind[0] == "D") != bool(device):
            raise BadReadingError(
                reason="malformed_sparkplug", topic=topic, detail=f"{kind} {'with' if device else 'without'} a device"
            )
        said = Payload()
        try:
            said.ParseFromString(payload)
        except (message.DecodeError, RuntimeError) as e:
            raise BadReadingError(reason="malformed_sparkplug", topic=topic, detail="not a Sparkplug B payload") from e
        key = (group, edge)
        source = "/".join((group, edge, device)).rstrip("/")
        if kind == "NBIRTH":
            return self._node_birth(key, source, said)
        node = self._nodes.get(key)
        if kind == "NDEATH":
            return self._node_death(key, said)
        if node is None:
            return Heard(ask=self._ask(key, now_ms), problem=f"{kind} of an edge node whose birth was not heard")
        problem = ""
        if said.HasField("seq"):
            if said.seq != node.next_seq:
                problem = f"sequence number {said.seq}, wanted {node.next_seq}: a message was lost"
            node.next_seq = (said.seq + 1) % 256
        if kind == "DBIRTH":
            self._learn(node, source, said)
        elif kind == "DDEATH":
            node.alive.discard(source)
            return Heard(dead=(source,), ask=self._ask(key, now_ms) if problem else None, problem=problem)
        elif source not in node.alive:
            return Heard(ask=self._ask(key, now_ms), problem=f"{kind} of a device whose birth was not heard")
        metrics, strangers = self._values(node, source, said)
        if strangers:
            problem = problem or f"{strangers} metrics that no birth named"
        return Heard(metrics, ask=self._ask(key, now_ms) if problem else None, problem=problem)

    def _node_birth(self, key: tuple[str, str], source: str, said: Any) -> Heard:
        former = self._nodes.get(key)
        node = self._nodes[key] = _Node(bd_seq=_bd_seq(said), next_seq=(said.seq + 1) % 256 if said.HasField("seq") else 1)
        self._learn(node, source, said)
        # A birth of the node ends its devices until each is born again.
        gone = tuple(sorted((former.alive if former else set()) - node.alive))
        return Heard(self._values(node, source, said)[0], dead=gone)

    def _node_death(self, key: tuple[str, str], said: Any) -> Heard:
        node = self._nodes.get(key)
        if node is None:
            return Heard(dead=("/".join(key),))
        told = _bd_seq(said)
        if told is not None and node.bd_seq is not None and told != node.bd_seq:
            return Heard()  # the will of a former session, late: the node was born again since
        del self._nodes[key]
        return Heard(dead=tuple(sorted(node.alive | {"/".join(key)})))

    def _learn(self, node: _Node, source: str, said: Any) -> None:
        node.alive.add(source)
        for m in said.metrics:
            if m.name:
                node.known[source, m.name] = (_unit(m), m.datatype)
                if m.HasField("alias"):
                    node.by_alias[m.alias] = (source, m.name)

    def _values(self, node: _Node, source: str, said: Any) -> tuple[tuple[Metric, ...], int]:
        """Return the values of a message, and how many of its metrics nobody knows."""
        found, strangers = [], 0
        for m in said.metrics:
            where = (source, m.name) if m.name else node.by_alias.get(m.alias) if m.HasField("alias") else None
            known = None if where is None else node.known.get(where)
            if where is None or known is None or where[0] != source:  # an alias of another device is none of this one
                strangers += 1
                continue
            unit, datatype = known
            stamp = m.timestamp if m.HasField("timestamp") else said.timestamp if said.HasField("timestamp") else None
            value = _value(m, m.datatype or datatype)
            quality = _property(m, "Quality")
            is_good = quality is None or quality == _GOOD_QUALITY
            found.append(Metric(source, where[1], value, stamp, unit, is_good, m.is_historical))
        return tuple(found), strangers

    def _ask(self, key: tuple[str, str], now_ms: int) -> tuple[str, bytes] | None:
        now_s = self._monotonic()
        if now_s - self._asked.get(key, -math.inf) < ASK_AGAIN_S:
            return None
        self._asked[key] = now_s
        return rebirth_request(*key, now_ms)


def _bd_seq(said: Any) -> int | None:
    for m in said.metrics:
        if m.name == "bdSeq":
            return int(m.long_value or m.int_value)
    return None


def _value(m: Any, datatype: int) -> float | bool | str | None:
    kind = m.WhichOneof("value")
    if m.is_null or kind is None:
        return None
    if kind == "boolean_value":
        return bool(m.boolean_value)
    if kind == "string_value":
        return str(m.string_value)
    if kind == "bytes_value":
        return None
    given = getattr(m, kind)
    if kind in ("float_value", "double_value"):
        return float(given)
    if datatype == _BOOLEAN:
        return bool(given)
    bits = _SIGNED_BITS.get(datatype)
    if bits is not None:
        given &= (1 << bits) - 1
        return float(given - (1 << bits) if given >> (bits - 1) else given)
    return float(given) if datatype in _UNSIGNED else None  # a date, an unknown type: no number to believe


def _property(m: Any, key: str) -> Any:
    if not m.HasField("properties"):
        return None
    for name, value in zip(m.properties.keys, m.properties.values, strict=False):
        if name == key and not value.is_null:
            kind = value.WhichOneof("value")
            return None if kind is None else getattr(value, kind)
    return None


def _unit(m: Any) -> str:
    unit = _property(m, "engUnit")
    return unit if isinstance(unit, str) else ""
