"""paho's socket, read ahead: whole messages are taken off the stream here, everything else is left to paho.

paho reads a packet in four system calls, goes round `select` for each, makes a condition variable for every message that comes
in, and sends every acknowledgement by itself (docs/decisions/0055). Connecting, subscribing, publishing, keeping alive, TLS and
judging what is malformed stay its business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho

Deliver = Callable[[str, bytes, int, bool, int], None]
"""Takes topic, payload, QoS, whether it was retained, and message id. Called in paho's thread; it must not raise."""

_CHUNK = 65_536
_PUBLISH, _PUBACK = 0x30, 0x40
_NO_UTF8 = "(a topic that is not UTF-8)"


class Client(paho.Client):
    """A paho client whose messages of QoS 0 and 1 go to `deliver` instead of `on_message`."""

    deliver: Deliver

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Acknowledge messages, all at once. From any thread."""
        if mids:
            self._packet_queue(_PUBACK, b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids), 0, 0)

    def _create_socket(self) -> Any:
        return Ahead(super()._create_socket(), self.deliver, self._protocol == paho.MQTTv5)


class Ahead:
    """A socket for paho whose `recv` gives only the packets that are no messages, one at a time and in their order.

    So what follows the broker's CONNACK in the same read is delivered after paho has dealt with that.

    Args:
        sock: connected; plain or TLS.
        deliver: takes each message.
        is_v5: messages carry properties (they are passed over).
    """

    def __init__(self, sock: Any, deliver: Deliver, is_v5: bool) -> None:
        self._sock = sock
        self._deliver = deliver
        self._is_v5 = is_v5
        self._stream = bytearray()  # as it came, from the start of a packet on
        self._packet = bytearray()  # what paho reads now
        self._has_more = False  # the stream goes on behind that packet

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def pending(self) -> int:
        """Return how much may be read without waiting for the network; paho asks before it waits."""
        inside = self._sock.pending() if hasattr(self._sock, "pending") else 0
        return len(self._packet) + int(self._has_more) + int(inside)

    def recv(self, n: int) -> bytes:
        """Return up to `n` bytes of a packet for paho, b"" at the end. Raises BlockingIOError, ssl.SSLWantReadError: none now."""
        if not self._packet:
            self._take_messages()
        if not self._packet:
            chunk = self._sock.recv(_CHUNK)
            if not chunk:
                return b""
            self._stream += chunk
            self._take_messages()
        if not self._packet:
            raise BlockingIOError
        given = bytes(self._packet[:n])
        del self._packet[:n]
        return given

    def _take_messages(self) -> None:
        """Deliver whole messages up to the first packet that is none; that one is for paho, and so is what cannot be one."""
        data, at, end = self._stream, 0, len(self._stream)
        try:
            while end - at >= 2:
                head, size, body = data[at], data[at + 1], at + 2
                if size > 127:
                    size, body = _length(data, at + 1, end)
                stop = body + size
                if stop > end:
                    return  # the rest is still on its way
                packet, at = at, stop
                if head & 0xF0 == _PUBLISH and self._deliver_one(data, head, body, stop):
                    continue
                self._packet += data[packet:stop]
                return
        finally:
            del data[:at]
            self._has_more = bool(self._packet and data)

    def _deliver_one(self, data: bytearray, head: int, start: int, stop: int) -> bool:
        """Deliver the message between two places; return False where it is malformed, or of QoS 2."""
        qos = head >> 1 & 3
        if qos > 1 or stop - start < 3:
            return False
        topic_end = start + 2 + (data[start] << 8 | data[start + 1])
        body = topic_end + 2 * qos
        if body > stop or topic_end == start + 2:
            return False
        mid = data[topic_end] << 8 | data[topic_end + 1] if qos else 0
        if self._is_v5:
            size, body = _length(data, body, stop)
            body += size
            if body > stop:
                return False
        try:
            topic = data[start + 2 : topic_end].decode()
        except UnicodeDecodeError:
            topic = _NO_UTF8
        self._deliver(topic, bytes(data[body:stop]), qos, bool(head & 1), mid)
        return True


def _length(data: bytearray, at: int, end: int) -> tuple[int, int]:
    """Return a length as MQTT writes it (seven bits a byte, the lowest first) and the place behind it.

    One that is not whole before `end` reaches beyond it; one of more than four bytes is none, and ends the packet at once: paho
    finds the fault.
    """
    value = 0
    for i in range(4):
        if at + i >= end:
            return end, end
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    return 0, at + 5
