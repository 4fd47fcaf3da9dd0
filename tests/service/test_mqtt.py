"""The line against real brokers: absent at start, gone in the middle, secured; and the whole way from a message to a row."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pandas as pd
import pytest

from building.description import load_building
from building.errors import BrokerError
from proof.broker import Broker, BrokerTls, find_mosquitto, start_broker
from proof.site import Site
from service import doctor
from service.clock import TurnedClock
from service.config import Config, IngestSection, MqttSection, PublishSection
from service.ingest import Ingest
from service.mqtt import Message, MqttLink, count_in_flight
from service.points import Points
from service.publish import Publisher
from service.store import SqlStore

ROOT = Path(__file__).resolve().parents[2]
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Listener:
    """A link that acknowledges at once and keeps what came."""

    def __init__(self, port: int, *subscriptions: str, **config: object) -> None:
        section = MqttSection(**{"host": "127.0.0.1", "port": port, "reconnect_min_s": 0.05, "reconnect_max_s": 0.2, **config})  # type: ignore[arg-type]
        self.messages: list[Message] = []
        self.link = MqttLink(section, "office", subscriptions, self._take)
        self.link.start()

    def _take(self, message: Message) -> None:
        self.messages.append(message)
        self.link.acknowledge([message])

    def payloads(self) -> list[bytes]:
        return [m.payload for m in self.messages]


class Other:
    """Another client of the same broker: sensors, BMS, or someone who listens."""

    def __init__(self, port: int, *subscriptions: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.on_heard: Callable[[str, bytes], None] = lambda topic, payload: None
        self.is_ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        for topic in subscriptions:  # not on_message: amqtt 0.12 sends a newcomer what is retained for everybody's subscriptions
            self.client.message_callback_add(topic, self._hear)
        self.client.on_subscribe = lambda *_: self.is_ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        if subscriptions:
            self.client.subscribe([(s, 1) for s in subscriptions])
            assert self.is_ready.wait(5)

    def _hear(self, _c: object, _u: object, m: paho.MQTTMessage) -> None:
        self.heard.append((m.topic, bytes(m.payload)))
        self.on_heard(m.topic, bytes(m.payload))

    def say(self, topic: str, payload: bytes | str) -> None:
        self.client.publish(topic, payload, qos=1).wait_for_publish(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_messages_arrive_and_setpoints_are_confirmed_by_the_broker(broker: Broker) -> None:
    listener, other = Listener(broker.port, "in/+"), Other(broker.port, "out/#", "setwise/office/status")
    confirmed: list[int] = []
    listener.link.on_sent = confirmed.append
    assert listener.link.wait_connected(20)
    other.say("in/a", b"1")
    assert until(lambda: listener.payloads() == [b"1"])
    mid = listener.link.publish("out/x", b"20.5")
    assert mid is not None and until(lambda: mid in confirmed and ("out/x", b"20.5") in other.heard)
    listener.link.stop()
    assert until(lambda: other.heard[-1] == ("setwise/office/status", b"offline"))
    assert listener.link.state == "stopped" and listener.link.publish("out/x", b"1") is None
    other.close()


@pytest.mark.faults
def test_broker_absent_at_start_is_waited_for_and_said_once(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.mqtt")
    port = free_port()
    listener = Listener(port, "in/+")
    assert until(lambda: listener.link.n_failures >= 3) and listener.link.state == "disconnected"
    assert listener.link.publish("out/x", b"1") is None
    with start_broker(port, broker.kind):
        assert listener.link.wait_connected(20)
        other = Other(port)
        other.say("in/a", b"1")
        assert until(lambda: listener.payloads() == [b"1"])
        other.close()
        listener.link.stop()
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2 and "trying again" in said[0] and str(port) in said[0] and "connected" in said[1]


@pytest.mark.faults
def test_broker_gone_in_the_middle_is_found_again_and_subscribed_again(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service.mqtt")
    listener = Listener(broker.port, "in/+")
    lines: list[tuple[int, bool]] = []  # the first may be told already
    listener.link.on_connected = lambda _first: lines.append((listener.link.n_connections, listener.link.is_connected))
    assert listener.link.wait_connected(20)
    broker.kill()
    assert until(lambda: listener.link.n_failures >= 3) and not listener.link.is_connected
    assert listener.link.publish("out/x", b"too late") is None
    with start_broker(broker.port, broker.kind):
        assert listener.link.wait_connected(20)
        other = Other(broker.port, "out/#")
        other.say("in/a", b"back")
        assert until(lambda: listener.payloads() == [b"back"])
        assert other.heard == [] and listener.link.n_connections == 2
        assert lines[-1] == (2, False)  # told before anything can be sent: its ids are not mixed up with those of the former line
        other.close()
        listener.link.stop()
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING", "INFO"]


@pytest.mark.faults
def test_service_that_dies_is_called_offline_by_its_will(broker: Broker) -> None:
    other = Other(broker.port, "setwise/office/status")
    code = f"""
        import time
        from service.config import MqttSection
        from service.mqtt import MqttLink
        MqttLink(MqttSection(host="127.0.0.1", port={broker.port}), "office", ["in/+"], lambda m: None).start()
        time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    try:
        assert until(lambda: other.heard == [("setwise/office/status", b"online")], 20)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(5)
    assert until(lambda: other.heard[-1] == ("setwise/office/status", b"offline"), 5)
    other.close()


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x02\x00\x00\x90\x00", b"\x20\x02\x00\x00\x30\x01\xff"]
)
def test_peer_that_does_not_speak_mqtt_is_survived(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            try:
                while True:
                    peer, _ = server.accept()
                    peer.sendall(said)
                    time.sleep(0.1)
                    peer.close()
            except OSError:
                return

        threading.Thread(target=babble, daemon=True).start()
        listener = Listener(server.getsockname()[1], "in/+")
        assert until(lambda: listener.link.n_failures >= 2) and not listener.link.is_connected
        listener.link.stop()


@needs_mosquitto
def test_mqtt_5_carries_messages_and_lets_old_setpoints_expire() -> None:
    with start_broker(kind="mosquitto") as broker:
        listener = Listener(broker.port, "in/+", version="5")
        assert listener.link.wait_connected(20)
        other = Other(broker.port, "out/#")
        other.say("in/a", b"1")
        assert until(lambda: listener.payloads() == [b"1"])
        expiries: list[object] = []
        five = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        five.on_message = lambda c, u, m: expiries.append(getattr(m.properties, "MessageExpiryInterval", None))
        five.connect("127.0.0.1", broker.port)
        five.loop_start()
        five.subscribe("out/#", 1)
        assert until(lambda: bool(listener.link.publish("out/x", b"20", expires_in_s=2700.0)) and len(expiries) > 0)
        assert isinstance(expiries[0], int) and 2600 < expiries[0] <= 2700
        five.disconnect()
        five.loop_stop()
        other.close()
        listener.link.stop()


@needs_mosquitto
def test_wrong_password_is_refused_in_words_and_the_right_one_works(caplog: pytest.LogCaptureFixture) -> None:
    with start_broker(kind="mosquitto", users={"gateway": "sesame"}) as broker:
        for version in ("3.1.1", "5"):
            caplog.clear()
            wrong = Listener(broker.port, version=version, username="gateway", password="simsim")
            assert until(lambda w=wrong: w.link.n_failures >= 2) and wrong.link.n_connections == 0
            wrong.link.stop()
            assert sum("refuses us: Not authorized" in r.getMessage() for r in caplog.records) == 1
            right = Listener(broker.port, version=version, username="gateway", password="sesame")
            assert right.link.wait_connected(20)
            right.link.stop()


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    try:
        for authority in ("ca", "other"):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={authority}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                    "-keyout", f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
        # Python 3.13 verifies by RFC 5280 to the letter: usage of the authority's key, and whose key signed whose.
        (folder / "san").write_text(
            "subjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n"
        )
        for name in ("server", "client"):
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                    "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                    "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return folder


@pytest.mark.parametrize("kind", ["amqtt", pytest.param("mosquitto", marks=needs_mosquitto)])
def test_tls_connects_to_the_certified_broker_only(kind: str, certificates: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = BrokerTls(certificates / "server.pem", certificates / "server.key")
    with start_broker(kind=kind, tls=tls) as broker:  # type: ignore[arg-type]
        trusting = Listener(broker.port, is_tls=True, ca=certificates / "ca.pem")
        assert trusting.link.wait_connected(20)
        trusting.link.stop()
        doubting = Listener(broker.port, is_tls=True, ca=certificates / "other.pem")
        assert until(lambda: doubting.link.n_failures >= 2) and doubting.link.n_connections == 0
        doubting.link.stop()
        assert any("CERTIFICATE_VERIFY_FAILED" in r.getMessage() for r in caplog.records)


@needs_mosquitto
def test_client_certificate_opens_a_broker_that_asks_for_one(certificates: Path) -> None:
    tls = BrokerTls(certificates / "server.pem", certificates / "server.key", certificates / "ca.pem")
    with start_broker(kind="mosquitto", tls=tls) as broker:
        bare = Listener(broker.port, is_tls=True, ca=certificates / "ca.pem")
        assert until(lambda: bare.link.n_failures >= 2) and bare.link.n_connections == 0
        bare.link.stop()
        known = Listener(
            broker.port,
            is_tls=True,
            ca=certificates / "ca.pem",
            cert=certificates / "client.pem",
            key=certificates / "client.key",
        )
        assert known.link.wait_connected(20)
        known.link.stop()


def test_certificate_file_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="certificate file cannot be read"):
        MqttLink(MqttSection(is_tls=True, ca=tmp_path / "nobody.pem"), "office", [], lambda m: None)


# -- the whole way


class Gateway:
    """The data side of the service: link, ingest, publisher, wired as service/app.py does."""

    def __init__(self, port: int, points: Points, store: SqlStore, clock: TurnedClock) -> None:
        config = MqttSection(host="127.0.0.1", port=port, reconnect_min_s=0.05, reconnect_max_s=0.2)
        self.link = MqttLink(config, "medium_office", points.subscriptions, lambda m: self.ingest.take(m))
        self.publisher = Publisher(points, store, self.link, clock, PublishSection())
        self.ingest = Ingest(
            points,
            store,
            clock,
            IngestSection(commit_s=0.2),
            self.link.acknowledge,
            self.publisher.heard,
            {self.link.status_topic},
        )
        self.link.on_sent, self.link.on_connected = self.publisher.sent, self.publisher.reconnected
        self.ingest.start()
        self.link.start()

    def stop(self) -> None:
        self.link.stop()
        self.ingest.stop()


@pytest.fixture
def gateway(broker: Broker, office_points: Points, store: SqlStore, clock: TurnedClock) -> Iterator[Gateway]:
    gateway = Gateway(broker.port, office_points, store, clock)
    assert gateway.link.wait_connected(20)
    yield gateway
    gateway.stop()


def test_two_days_of_an_office_reach_the_store_without_loss(
    broker: Broker, gateway: Gateway, office_points: Points, store: SqlStore, clock: TurnedClock
) -> None:
    site, sensors = Site(load_building("medium_office")), Other(broker.port)
    names = [n for n in office_points.measured.names if n != "hot_water_gas"]  # it has no stamp of its own
    hours = [clock.now() - pd.Timedelta(hours=h) for h in range(48, 0, -1)]
    for i, stamp in enumerate(hours):
        for name in names:
            v = office_points.measured[name]
            value = v.low + (v.high - v.low) * (0.5 + 0.01 * (i % 5))  # a sensor that never moves would be called stuck
            sensors.client.publish(*site.measure(name, value, stamp), qos=1)
    n = len(hours) * len(names)
    assert until(lambda: gateway.ingest.status().n_accepted == n, 30), gateway.ingest.status()
    frame = store.hourly(names, hours[0], clock.now())
    assert frame.shape == (48, len(names)) and not frame.isna().any().any()
    assert gateway.ingest.status().refused == {}
    sensors.close()


def test_played_bms_takes_setpoints_and_its_echo_acknowledges_them(
    broker: Broker, gateway: Gateway, office_points: Points, clock: TurnedClock
) -> None:
    site, bms = Site(load_building("medium_office")), Other(broker.port, "setwise/medium_office/set/+")
    taken: dict[str, float] = {}

    def obey(topic: str, payload: bytes) -> None:
        setting, value, echo = site.obey(topic, payload)
        taken[setting] = value
        if echo is not None:
            bms.client.publish(*echo, qos=1)

    bms.on_heard = obey
    values = {"heating_setpoint": 20.5, "cooling_setpoint": 25.0, "system_on": 1.0}
    gateway.publisher.set(values, clock.now() + pd.Timedelta(minutes=45), plan_id=3)
    assert until(lambda: {p.state for p in gateway.publisher.current().values()} == {"acknowledged"})
    assert taken == values
    bms.close()


@pytest.mark.faults
def test_outage_delays_readings_but_never_delivers_a_late_setpoint(
    broker: Broker, gateway: Gateway, store: SqlStore, clock: TurnedClock
) -> None:
    broker.kill()
    assert until(lambda: not gateway.link.is_connected)
    gateway.publisher.set({"heating_setpoint": 18.0, "system_on": 0.0}, clock.now() + pd.Timedelta(minutes=45), 1)
    clock.turn(clock.now() + pd.Timedelta(minutes=50))
    gateway.publisher.set({"heating_setpoint": 21.0}, clock.now() + pd.Timedelta(minutes=45), 2)
    with start_broker(broker.port, broker.kind):
        bms = Other(broker.port, "setwise/medium_office/set/+")
        assert gateway.link.wait_connected(20)
        assert until(lambda: gateway.publisher.tick() == [] and len(bms.heard) > 0)
        time.sleep(0.2)
        assert [(t.rpartition("/")[2], json.loads(p)["value"]) for t, p in bms.heard] == [("heating_setpoint", 21.0)]
        assert store.last_publications()["system_on"].state == "expired"
        bms.close()
        gateway.stop()


@pytest.mark.faults
@needs_mosquitto
def test_kill_9_of_the_service_loses_nothing_that_a_persistent_broker_took(tmp_path: Path, store: SqlStore) -> None:
    url = f"sqlite:///{tmp_path / 'setwise.db'}"
    code = f"""
        import time
        import pandas as pd
        from building.description import load_building
        from service.clock import TurnedClock
        from service.config import IngestSection, MqttSection
        from service.ingest import Ingest
        from service.mqtt import MqttLink
        from service.points import load_points
        from service.store import SqlStore
        points = load_points(load_building("medium_office"))
        link = MqttLink(MqttSection(host="127.0.0.1", port=PORT), "medium_office", points.subscriptions, lambda m: ingest.take(m))
        clock = TurnedClock(pd.Timestamp("2026-01-08T16:00Z"))
        ingest = Ingest(points, SqlStore({url!r}), clock, IngestSection(commit_s=0.05), link.acknowledge, lambda t, p: None)
        ingest.start()
        link.start()
        time.sleep(120)
    """
    with start_broker(kind="mosquitto") as broker:
        command = [sys.executable, "-c", textwrap.dedent(code).replace("PORT", str(broker.port))]
        status = Other(broker.port, "setwise/medium_office/status")
        child = subprocess.Popen(command, cwd=ROOT)
        assert until(lambda: ("setwise/medium_office/status", b"online") in status.heard, 20)
        time.sleep(0.2)  # subscribed
        sensors, n = Other(broker.port), 3000
        t0 = pd.Timestamp("2026-01-07T10:00Z")
        for i in range(n):
            stamp = (t0 + pd.Timedelta(seconds=i)).isoformat()
            payload = json.dumps({"value": 21.0, "time": stamp})
            sensors.client.publish("setwise/medium_office/core_mid_air_temperature", payload, qos=1)
            if i == n // 2:
                assert until(lambda: store.counts()["readings"] > 100, 20)
                child.send_signal(signal.SIGKILL)
                child.wait(5)
        child = subprocess.Popen(command, cwd=ROOT)
        try:
            assert until(lambda: store.counts()["readings"] == n, 30), store.counts()
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(5)
        sensors.close()
        status.close()


@pytest.mark.faults
@needs_mosquitto
def test_kill_9_between_receipt_and_commit_loses_nothing(tmp_path: Path, store: SqlStore) -> None:
    url, told = f"sqlite:///{tmp_path / 'setwise.db'}", tmp_path / "received"
    code = f"""
        import sys, time
        import pandas as pd
        from building.description import load_building
        from service.clock import TurnedClock
        from service.config import IngestSection, MqttSection
        from service.ingest import Ingest
        from service.mqtt import MqttLink
        from service.points import load_points
        from service.store import SqlStore
        points = load_points(load_building("medium_office"))
        out = open({str(told)!r}, "a")
        def hear(m):
            ingest.take(m)
            print(m.mid, file=out, flush=True)
        link = MqttLink(MqttSection(host="127.0.0.1", port=PORT), "medium_office", points.subscriptions, hear)
        config = IngestSection(commit_s=float(sys.argv[1]), commit_readings=5000)
        clock = TurnedClock(pd.Timestamp("2026-01-08T16:00Z"))
        ingest = Ingest(points, SqlStore({url!r}), clock, config, link.acknowledge, lambda t, p: None)
        ingest.start()
        link.start()
        time.sleep(120)
    """
    with start_broker(kind="mosquitto") as broker:
        command = [sys.executable, "-c", textwrap.dedent(code).replace("PORT", str(broker.port))]
        child = subprocess.Popen([*command, "60"], cwd=ROOT)
        sensors, n, topic = (
            Other(broker.port, "setwise/medium_office/status"),
            50,
            "setwise/medium_office/core_mid_air_temperature",
        )
        assert until(lambda: len(sensors.heard) > 0, 60)
        time.sleep(0.5)  # subscribed
        t0 = pd.Timestamp("2026-01-07T10:00Z")
        for i in range(n):
            sensors.client.publish(topic, json.dumps({"value": 21.0, "time": (t0 + pd.Timedelta(seconds=i)).isoformat()}), qos=1)
        try:
            assert until(lambda: told.exists() and len(told.read_text().split()) >= n, 60)  # received, and nothing committed
            assert store.counts()["readings"] == 0
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(5)
        child = subprocess.Popen([*command, "0.1"], cwd=ROOT)
        try:
            assert until(lambda: len(store.series(["core_mid_air_temperature"], t0, t0 + pd.Timedelta(hours=1))) == n, 60)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait(5)
        sensors.close()


# -- messages in flight


@needs_mosquitto
def test_broker_is_asked_how_many_messages_it_sends_at_once() -> None:
    with start_broker(kind="mosquitto") as broker:
        few = MqttSection(host="127.0.0.1", port=broker.port, version="5", inflight=7)
        assert count_in_flight(few, "office", wanted=30) == 7  # the receive maximum we ask for binds the broker
        many = MqttSection(host="127.0.0.1", port=broker.port)
        assert count_in_flight(many, "office", wanted=300) == 300


def test_doctor_names_a_broker_that_sends_too_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "count_in_flight", lambda mqtt, building, wanted: 20)
    monkeypatch.setattr(doctor, "_broker", lambda config: "it answers")
    config = Config(ingest=IngestSection(commit_readings=10_000))
    (found,) = (f for f in doctor.examine(config) if f.what == "messages in flight")
    assert not found.is_good and "it sends 20 messages before the first is acknowledged" in found.fact
    assert "Raise max_inflight_messages at the broker, or lower commit_readings to 20" in found.fact
    (found,) = (f for f in doctor.examine(Config()) if f.what == "messages in flight")
    assert found.is_good


@needs_mosquitto  # amqtt delivers with the QoS of the subscription, whatever was published
def test_quality_of_service_is_that_of_each_topic_in_and_out() -> None:
    with start_broker(kind="mosquitto") as broker:
        ask_for_quality_of_service(broker)


def ask_for_quality_of_service(broker: Broker) -> None:
    fast, sure = "site/fast", "site/sure"
    heard: list[Message] = []
    link = MqttLink(MqttSection(host=broker.host, port=broker.port), "office", [fast, sure], heard.append, low_qos=[fast])
    link.start()
    assert link.wait_connected(30)
    went: dict[str, int] = {}
    other = paho.Client(paho.CallbackAPIVersion.VERSION2)
    other.on_message = lambda _c, _u, m: went.update({m.topic: m.qos})
    other.connect(broker.host, broker.port)
    other.subscribe("bms/#", 2)
    other.loop_start()
    time.sleep(0.2)
    for topic in (fast, sure):
        other.publish(topic, b"1", qos=1)
    assert until(lambda: len(heard) == 2)
    assert {m.topic: m.qos for m in heard} == {fast: 0, sure: 1}
    link.acknowledge(heard)
    for qos in (0, 1, 2):
        assert link.publish(f"bms/{qos}", b"x", qos=qos) is not None
    assert until(lambda: len(went) == 3)
    assert went == {f"bms/{qos}": qos for qos in (0, 1, 2)}
    other.disconnect()
    other.loop_stop()
    link.stop()
