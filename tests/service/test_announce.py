"""What is told for people and displays, and Home Assistant's device discovery: real brokers, templates rendered."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import jinja2
import paho.mqtt.client as paho
import pandas as pd
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sites import NOW, fill, lived, open_rc, two_node_config

from proof.broker import Broker
from service import operations
from service.announce import Announcer
from service.app import Service
from service.clock import TurnedClock

ROOT = "setwise/two_node"


class Watcher:
    """A display: hears all, remembers the last word on each topic."""

    def __init__(self, broker: Broker) -> None:
        self.last: dict[str, str] = {}
        self.retained: set[str] = set()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._hear
        self._client.connect(broker.host, broker.port)
        self._client.subscribe("#", 1)
        self._client.loop_start()

    def _hear(self, _c: object, _u: object, m: paho.MQTTMessage) -> None:
        self.last[m.topic] = m.payload.decode()
        if m.retain:
            self.retained.add(m.topic)

    def wait(self, is_so: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, sorted(self.last)
            time.sleep(0.05)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def service_on(broker: Broker, tmp_path, **environ: str) -> Service:
    told = {"mqtt__host": broker.host, "mqtt__port": str(broker.port), "mqtt__discovery": "homeassistant"}
    service = Service(two_node_config(tmp_path, **told | environ), TurnedClock(NOW), open_rc)
    fill(service.store, lived(hours=24))
    index = pd.date_range(NOW.floor("h"), periods=48, freq="h")
    row = {"heating_setpoint": 18.0, "cooling_setpoint": 26.0, "system_on": 1.0, "outdoor_air_flow": 3.0}
    meta = {"saving": {"own": 0.25}}
    plan = operations.Plan(pd.DataFrame({**row, "supply_air_temperature": 15.0}, index=index), "optimised", NOW, meta)
    service.store.add_calibration({"parameters": {}}, NOW, is_accepted=True)
    service.store.add_plan(plan, NOW)
    return service


def rendered(template: str, payload: str) -> str:
    return jinja2.Environment().from_string(template).render(value_json=json.loads(payload))


def test_home_assistant_finds_one_device_whose_entities_have_values_ids_and_availability_by_last_will(broker, tmp_path) -> None:
    service, watcher = service_on(broker, tmp_path), Watcher(broker)
    service.start()
    topic = "homeassistant/device/setwise-two_node/config"
    watcher.wait(lambda: topic in watcher.last and f"{ROOT}/state" in watcher.last)
    found = json.loads(watcher.last[topic])
    assert found["device"]["identifiers"] == ["setwise-two_node"]
    (availability,) = found["availability"]
    assert watcher.last[availability["topic"]] == availability["payload_available"] == "online"
    ids = [c["unique_id"] for c in found["components"].values()]
    assert len(ids) == len(set(ids)) and set(service.building.settings.names) < set(found["components"])
    shown = {name: rendered(c["value_template"], watcher.last[c["state_topic"]]) for name, c in found["components"].items()}
    assert float(shown["heating_setpoint"]) == 18.0 and float(shown["system_on"]) == 100.0
    assert (shown["mode"], shown["origin"], shown["plan_saving"], shown["problem"]) == ("auto", "optimised", "25.0", "OFF")
    assert pd.Timestamp(shown["plan_until"]) == NOW.floor("h") + pd.Timedelta(hours=48)
    assert found["components"]["heating_setpoint"]["expire_after"] == 45 * 60
    watcher.close()

    late = Watcher(broker)  # a display that comes later finds all of it
    late.wait(lambda: {topic, f"{ROOT}/setpoints", f"{ROOT}/plan", f"{ROOT}/state"} <= late.retained)
    service.stop()
    late.wait(
        lambda: late.last[f"{ROOT}/setpoints"] == late.last[f"{ROOT}/plan"] == "" and late.last[f"{ROOT}/status"] == "offline"
    )
    assert late.last[topic], "the device stays known, and is shown as unavailable"
    late.close()


def test_in_watch_nothing_is_ordered_and_all_is_told(broker, tmp_path) -> None:
    service, watcher = service_on(broker, tmp_path, publish__mode="watch", mqtt__discovery=""), Watcher(broker)
    service.start()
    watcher.wait(lambda: f"{ROOT}/setpoints" in watcher.last and f"{ROOT}/state" in watcher.last)
    told = json.loads(watcher.last[f"{ROOT}/setpoints"])
    assert told["mode"] == "watch" and not any(s["is_sent"] for s in told["settings"].values())
    assert not [t for t in watcher.last if t.endswith("/set") or t.startswith("homeassistant/")]
    service.stop()
    watcher.close()


class Kept:
    """A broker in memory."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_up = True

    def __call__(self, topic: str, _text: str) -> bool:
        if self.is_up:
            self.sent.append(topic.rpartition("/")[2])
        return self.is_up


def test_only_what_changed_is_told_again_and_all_of_it_on_a_new_line(tmp_path) -> None:
    service, line = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc), Kept()
    announcer = Announcer(service.config, service.building, line)
    line.is_up = False

    def tell(minutes: int = 0, mode: str = "auto") -> list[str]:
        line.sent.clear()
        until = NOW + pd.Timedelta(minutes=minutes)
        announcer.tell(service.decide(), {}, mode, until, None, [])
        return sorted(line.sent)

    assert tell() == []  # no line
    line.is_up = True
    assert tell() == ["plan", "setpoints", "state"]
    assert tell() == []
    assert tell(minutes=15) == ["setpoints"]
    assert tell(minutes=15, mode="watch") == ["setpoints", "state"]
    announcer.reconnected()
    assert tell(minutes=15, mode="watch") == ["plan", "setpoints", "state"]
    line.sent.clear()
    announcer.clear()
    assert sorted(line.sent) == ["plan", "setpoints", "state"]
    service.store.close()


def test_our_own_topics_are_no_readings(tmp_path) -> None:
    service = Service(two_node_config(tmp_path), TurnedClock(NOW), open_rc)
    assert {f"{ROOT}/{name}" for name in ("setpoints", "plan", "state", "status", "heartbeat")} <= set(service.ingest.ignored)
    service.store.close()


@pytest.mark.parametrize("client_id", ["", "gate way/1"])
def test_ids_are_letters_home_assistant_takes(tmp_path, client_id: str) -> None:
    service = Service(two_node_config(tmp_path, mqtt__client_id=client_id, mqtt__discovery="ha"), TurnedClock(NOW), open_rc)
    assert re.fullmatch(r"ha/device/[A-Za-z0-9_-]+/config", service.announcer.discovery_topic)
    service.store.close()
