"""The socket that reads ahead for paho: every message once and in order, everything else untouched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import Ahead, Client

CONNACK, SUBACK, PINGRESP = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01", b"\xd0\x00"
Heard = tuple[str, bytes, int, bool, int]


class Pieces:
    """A socket that gives these pieces, then none for now, or the end."""

    def __init__(self, *pieces: bytes, is_closed: bool = False) -> None:
        self.pieces = list(pieces)
        self.is_closed = is_closed

    def recv(self, _n: int) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        if self.is_closed:
            return b""
        raise BlockingIOError

    def fileno(self) -> int:
        return 77


def publish(
    topic: bytes, payload: bytes, qos: int = 1, mid: int = 7, retain: bool = False, properties: bytes | None = None
) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if qos else b"") + (properties or b"") + payload
    size, length = len(body), b""
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (128 if size else 0)])
        if not size:
            return bytes([0x30 | qos << 1 | int(retain)]) + length + body


def read_all(sock: Ahead, n: int = 3) -> bytes:
    """Read as paho does, a few bytes at a time, until there is nothing more for now."""
    got = b""
    while True:
        try:
            piece = sock.recv(n)
        except BlockingIOError:
            if not sock.pending() and not sock._sock.pieces:
                return got
            continue
        if not piece:
            return got
        got += piece


def test_messages_are_delivered_and_other_packets_are_left_to_paho() -> None:
    heard: list[Heard] = []
    stream = CONNACK + publish(b"a/b", b"1.5") + SUBACK + publish(b"c", b"", qos=0, retain=True) + PINGRESP
    assert read_all(Ahead(Pieces(stream), lambda *m: heard.append(m), False)) == CONNACK + SUBACK + PINGRESP
    assert heard == [("a/b", b"1.5", 1, False, 7), ("c", b"", 0, True, 0)]


def test_message_behind_a_packet_waits_until_paho_has_read_that_packet() -> None:
    heard: list[Heard] = []
    sock = Ahead(Pieces(CONNACK + publish(b"a", b"1")), lambda *m: heard.append(m), False)
    assert sock.recv(1) + sock.recv(1) == CONNACK[:2] and not heard
    assert sock.recv(2) == CONNACK[2:] and not heard  # paho deals with it before it asks for more
    assert sock.pending()
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert len(heard) == 1 and not sock.pending()


@given(st.data())
def test_whatever_the_network_cuts_up_arrives_once_and_in_order(data: Any) -> None:
    is_v5 = data.draw(st.booleans())
    wanted: list[Heard] = []
    stream, others = b"", b""
    for i in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 3)) == 0:
            other = data.draw(st.sampled_from([CONNACK, SUBACK, PINGRESP]))
            stream, others = stream + other, others + other
            continue
        topic = data.draw(st.text(min_size=1, max_size=5, alphabet="ab/é"))
        payload = data.draw(st.binary(max_size=400))
        qos, mid, retain = data.draw(st.integers(0, 1)), i + 1, data.draw(st.booleans())
        properties = data.draw(st.sampled_from([b"\x00", b"\x05\x02\x00\x00\x00\x09"])) if is_v5 else None
        stream += publish(topic.encode(), payload, qos, mid, retain, properties)
        wanted.append((topic, payload, qos, retain, mid if qos else 0))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    heard: list[Heard] = []
    assert read_all(Ahead(Pieces(*pieces), lambda *m: heard.append(m), is_v5)) == others
    assert heard == wanted


@pytest.mark.parametrize(
    "malformed",
    [
        b"\x32\x03\x00\x09a",  # the topic reaches beyond the packet
        b"\x30\x03\x00\x00x",  # no topic
        b"\x32\x01\x00",  # no room for a topic
        b"\x34\x06\x00\x01a\x00\x07x",  # QoS 2, which nobody asked for
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\xf7\x00",  # no such packet
    ],
)
def test_packet_that_is_no_message_we_know_goes_to_paho_as_it_came(malformed: bytes) -> None:
    heard: list[Heard] = []
    given = read_all(Ahead(Pieces(malformed), lambda *m: heard.append(m), False))
    assert not heard and malformed.startswith(given) and len(given) >= min(5, len(malformed))


def test_topic_that_is_not_utf_8_is_named_so_and_its_message_still_arrives() -> None:
    heard: list[Heard] = []
    read_all(Ahead(Pieces(publish(b"\xff", b"1")), lambda *m: heard.append(m), False))
    assert heard == [("(a topic that is not UTF-8)", b"1", 1, False, 7)]


def test_end_of_the_stream_is_told_to_paho_after_the_last_message() -> None:
    heard: list[Heard] = []
    sock = Ahead(Pieces(publish(b"a", b"1"), b"\x32\x09half", is_closed=True), lambda *m: heard.append(m), False)
    assert read_all(sock) == b"" and len(heard) == 1
    assert sock.fileno() == 77  # whatever else paho asks is the socket's


def test_many_messages_are_acknowledged_in_one_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    client = Client()
    monkeypatch.setattr(client, "_packet_queue", lambda _command, packet, *_: sent.append(bytes(packet)))
    client.acknowledge([1, 258, 65535])
    client.acknowledge([])
    assert sent == [b"\x40\x02\x00\x01\x40\x02\x01\x02\x40\x02\xff\xff"]
