"""The line to the broker: kept alive for as long as the service runs, whatever the broker does.

One paho client per connection. paho's own reconnection would keep outgoing messages in memory and send them after an outage,
however old; a setpoint must not be late. So this module owns the loop: connect, serve until the line drops, throw the client
away, wait (doubling, with jitter), connect again. What is to be sent again is decided by service/publish.py; what came in and was
not acknowledged, the broker sends again (persistent session, QoS 1, acknowledged by hand after the commit).
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from building.errors import BrokerError
from service.config import MqttSection
from service.wire import Client

log = logging.getLogger(__name__)


class Message(NamedTuple):
    """One message as it arrived.

    Attributes:
        connection: number of the connection it came through; message ids mean nothing on another one.
        mid: its id there.
    """

    topic: str
    payload: bytes
    qos: int
    is_retained: bool
    connection: int
    mid: int


class MqttLink:
    """Subscribes, receives, acknowledges and publishes through one broker, in a thread of its own.

    Args:
        config: broker and credentials.
        building: its name; part of status topic and default client id.
        subscriptions: topic filters.
        on_message: called in paho's thread for each message; must return at once.
        low_qos: of the filters, those subscribed with QoS 0; the others with 1.

    Raises:
        BrokerError: certificates that cannot be read.
    """

    def __init__(
        self,
        config: MqttSection,
        building: str,
        subscriptions: Sequence[str],
        on_message: Callable[[Message], None],
        low_qos: Collection[str] = (),
    ) -> None:
        self.config = config
        self.low_qos = frozenset(low_qos)
        self.status_topic = f"{config.root}/{building}/status"
        self.client_id = config.client_id or f"setwise-{building}"
        self.subscriptions = tuple(subscriptions)
        self.on_message = on_message
        self.on_connected: Callable[[int], None] = lambda first: None
        """Called in paho's thread when connected and subscribed, before anything can be sent; must return at once. It gets the
        least id of this line: those of former lines are smaller."""
        self.on_sent: Callable[[int], None] = lambda mid: None
        """Called in paho's thread, which holds its lock on outgoing messages, when the broker confirms that id."""
        self.n_connections = 0
        self.n_failures = 0
        self.n_published = 0
        self.state = "stopped"
        self._client: Client | None = None
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._tls = _tls(config) if config.is_tls else None

    @property
    def is_connected(self) -> bool:
        """Say whether messages can be sent now."""
        return self._connected.is_set()

    def start(self) -> None:
        """Start connecting; returns at once, broker or not."""
        self._thread.start()

    def wait_connected(self, timeout_s: float) -> bool:
        """Return True as soon as the line is up, False after `timeout_s`."""
        return self._connected.wait(timeout_s)

    def stop(self, timeout_s: float = 3.0) -> None:
        """Say offline, disconnect, end the thread."""
        client = self._client
        if client is not None and self.is_connected:
            offline = client.publish(self.status_topic, "offline", qos=1, retain=True)
            deadline = time.monotonic() + timeout_s / 2
            while not offline.is_published() and self.is_connected and time.monotonic() < deadline:
                time.sleep(0.01)  # not wait_for_publish: it raises when the line drops under it
        self._stopping.set()
        if client is not None:
            client.disconnect()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self.state = "stopped"

    def publish(
        self, topic: str, payload: bytes | str, is_retained: bool = False, expires_in_s: float | None = None, qos: int = 1
    ) -> int | None:
        """Hand one message to the broker.

        Args:
            topic: where.
            payload: what.
            is_retained: the broker keeps it for later subscribers.
            expires_in_s: MQTT 5 brokers throw it away after that.
            qos: 0, 1 or 2.

        Returns:
            The id `on_sent` will be called with, or None when there is no line: nothing is kept here.
        """
        client = self._client
        first = self._id(0)  # asked before the message leaves: should the line change meanwhile, the id is one of the former
        if client is None or not self.is_connected:
            return None
        properties = None
        if self.config.version == "5" and expires_in_s is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, int(expires_in_s))
        sent = client.publish(topic, payload, qos=qos, retain=is_retained, properties=properties)
        if sent.rc != paho.MQTT_ERR_SUCCESS:
            return None
        self.n_published += 1
        return first | sent.mid

    def _id(self, mid: int) -> int:
        """Return an id that no other line has given: paho counts each line's messages from 1 to 65,535."""
        return self.n_connections << 16 | mid

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the broker that these messages are safe with us. Those of a former connection are left: it sends them again."""
        client, present = self._client, self.n_connections
        if client is not None:
            client.acknowledge([m.mid for m in messages if m.qos > 0 and m.connection == present])

    # -- the link's thread

    def _run(self) -> None:
        wait_s = self.config.reconnect_min_s
        while not self._stopping.is_set():
            before = self.n_connections
            reason = self._serve_once()
            self._connected.clear()
            self._client = None
            if self._stopping.is_set():
                return
            if self.n_connections > before:  # it had worked: start over with the shortest wait
                wait_s = self.config.reconnect_min_s
            self.n_failures += 1
            self._change_state("disconnected", f"{reason}; trying again")
            self._stopping.wait(wait_s * random.uniform(0.8, 1.2))  # jitter: many gateways must not come back at once
            wait_s = min(2 * wait_s, self.config.reconnect_max_s)

    def _serve_once(self) -> str:
        """Connect and serve until the line drops; return why it did."""
        reason = "the broker closed the line"
        closed = threading.Event()
        client = self._make_client()

        def connected(_c: paho.Client, _u: Any, _f: paho.ConnectFlags, code: ReasonCode, _p: Properties | None) -> None:
            nonlocal reason
            if code.is_failure:
                reason = f"the broker refuses us: {code}"
                client.disconnect()
                return
            self.n_connections += 1
            client.publish(self.status_topic, "online", qos=1, retain=True)
            if self.subscriptions:
                client.subscribe([(topic, 0 if topic in self.low_qos else 1) for topic in self.subscriptions])
            else:
                ready()

        def subscribed(_c: paho.Client, _u: Any, _mid: int, codes: list[ReasonCode], _p: Properties | None) -> None:
            refused = [topic for topic, code in zip(self.subscriptions, codes, strict=False) if code.is_failure]
            if refused:
                log.error("the broker refuses %d of %d subscriptions: %s", len(refused), len(codes), ", ".join(refused[:5]))
            ready()

        def ready() -> None:
            self.on_connected(self._id(0))
            self._connected.set()
            self._change_state("connected", "")

        def disconnected(_c: paho.Client, _u: Any, _f: paho.DisconnectFlags, code: ReasonCode, _p: Properties | None) -> None:
            nonlocal reason
            self._connected.clear()
            if code.is_failure and not reason.startswith("the broker refuses"):
                reason = f"the line dropped ({code})"
            closed.set()

        def received(topic: str, payload: bytes, qos: int, is_retained: bool, mid: int) -> None:
            try:
                self.on_message(Message(topic, payload, qos, is_retained, self.n_connections, mid))
            except Exception:  # it would end paho's thread; unacknowledged, the broker sends the message again
                log.exception("a message on %s could not be taken", topic)

        def published(_c: paho.Client, _u: Any, mid: int, _code: ReasonCode, _p: Properties | None) -> None:
            self.on_sent(self._id(mid))

        client.on_connect, client.on_subscribe, client.on_disconnect = connected, subscribed, disconnected
        client.deliver, client.on_publish = received, published
        try:
            self._client = client
            if self.config.version == "5":
                properties = _receive_maximum(self.config)
                properties.SessionExpiryInterval = min(int(self.config.session_expiry_h * 3600), 0xFFFFFFFF)
                client.connect(
                    self.config.host, self.config.port, self.config.keepalive_s, clean_start=False, properties=properties
                )
            else:
                client.connect(self.config.host, self.config.port, self.config.keepalive_s)
            # paho's own thread, not loop_forever in ours: only then nobody else writes to its socket.
            client.loop_start()
            while not closed.wait(1.0):
                thread = getattr(client, "_thread", None)
                if thread is not None and not thread.is_alive():
                    # A malformed packet raises in paho's thread and ends it without a word.
                    reason = "the broker sent something that is not MQTT"
                    closed.set()
            client.loop_stop()
        except (OSError, ValueError) as e:  # refused, unreachable, unknown host, TLS (an OSError), or a bad port or host name
            reason = f"{type(e).__name__}: {e}"
        except Exception as e:
            # paho raises all sorts on a peer that does not speak MQTT; the line must outlive them all.
            reason = f"unexpected {type(e).__name__}: {e}"
            log.exception("MQTT line: %s", reason)
        return reason

    def _make_client(self) -> Client:
        client = _client(self.config, self.client_id, self._tls, is_clean=False)
        client.will_set(self.status_topic, "offline", qos=1, retain=True)
        return client

    def _change_state(self, state: str, reason: str) -> None:
        if state == self.state:
            return
        self.state = state
        place = f"{self.config.host}:{self.config.port}"
        if state == "connected":
            log.info("broker %s: connected", place)
        else:
            log.warning("%s", BrokerError(host=self.config.host, port=self.config.port, reason=reason))


def listen(config: MqttSection, topics: Sequence[str], seconds: float, on_message: Callable[[str, bytes, bool], None]) -> None:
    """Hear what is said on `topics` for some seconds, as a guest: no session, no will, nothing sent.

    Args:
        config: broker and credentials.
        topics: filters.
        seconds: how long.
        on_message: called with topic, payload and whether the broker remembered it.

    Raises:
        BrokerError: no broker there, or it refuses.
    """

    def hear(client: Client, topic: str, payload: bytes, mid: int, is_retained: bool) -> None:
        client.acknowledge([mid] if mid else [])
        on_message(topic, payload, is_retained)

    with _guest(config, topics, hear):
        time.sleep(seconds)


def count_in_flight(config: MqttSection, building: str, wanted: int, patience_s: float = 2.0) -> int:
    """Return how many messages, at most `wanted`, the broker sends before the first is acknowledged.

    They go to a topic of their own, and the broker forgets them with the guest.

    Args:
        config: broker and credentials.
        building: part of the topic.
        wanted: how many are tried.
        patience_s: silence after which no more is expected.

    Raises:
        BrokerError: no broker there, or it refuses.
    """
    topic, heard = f"{config.root}/{building}/doctor", [0]

    def hear(*_: object) -> None:
        heard[0] += 1

    with _guest(config, [topic], hear) as client:
        for _ in range(wanted):
            client.publish(topic, b"?", qos=1)
        before, deadline = -1, time.monotonic() + 10 * patience_s
        while heard[0] < wanted and heard[0] != before and time.monotonic() < deadline:
            before = heard[0]
            time.sleep(patience_s)
    return heard[0]


@contextmanager
def _guest(config: MqttSection, topics: Sequence[str], hear: Callable[[Client, str, bytes, int, bool], None]) -> Iterator[Client]:
    """Give a connected client with a name of its own that the broker forgets afterwards; `hear` acknowledges, or does not."""
    ready, refusal = threading.Event(), ""

    def connected(c: paho.Client, _u: Any, _f: paho.ConnectFlags, code: ReasonCode, _p: Properties | None) -> None:
        nonlocal refusal
        if code.is_failure:
            refusal = f"the broker refuses us: {code}"
            ready.set()
        else:
            c.subscribe([(t, 1) for t in topics])

    client = _client(
        config, f"setwise-guest-{random.randrange(16**8):08x}", _tls(config) if config.is_tls else None, is_clean=True
    )
    client.on_connect = connected
    client.on_subscribe = lambda *_: ready.set()
    client.deliver = lambda topic, payload, _qos, is_retained, mid: hear(client, topic, payload, mid, is_retained)
    try:
        if config.version == "5":
            client.connect(config.host, config.port, config.keepalive_s, properties=_receive_maximum(config))
        else:
            client.connect(config.host, config.port, config.keepalive_s)
    except (OSError, ValueError) as e:
        raise BrokerError(host=config.host, port=config.port, reason=f"{type(e).__name__}: {e}") from e
    client.loop_start()
    try:
        if not ready.wait(10) or refusal:
            raise BrokerError(host=config.host, port=config.port, reason=refusal or "it does not answer")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def _client(config: MqttSection, client_id: str, tls: ssl.SSLContext | None, is_clean: bool) -> Client:
    is_v5 = config.version == "5"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if is_v5 else is_clean,
        protocol=MQTTProtocolVersion.MQTTv5 if is_v5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = 5.0
    if config.username is not None:
        client.username_pw_set(config.username, None if config.password is None else config.password.get_secret_value())
    if tls is not None:
        client.tls_set_context(tls)
    return client


def _receive_maximum(config: MqttSection) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.ReceiveMaximum = config.inflight
    return properties


def _tls(config: MqttSection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if config.ca is None else str(config.ca))
        if config.cert is not None:
            context.load_cert_chain(config.cert, config.key)
    except OSError as e:
        raise BrokerError(host=config.host, port=config.port, reason=f"a certificate file cannot be read: {e}") from e
    return context
