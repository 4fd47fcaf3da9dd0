"""The building's side of the commands: a BMS that hears setpoints over MQTT, echoes them and remembers them."""

from __future__ import annotations

import json
import threading

import paho.mqtt.client as paho
import pandas as pd
from paho.mqtt.enums import CallbackAPIVersion

from building.description import Building
from building.errors import BrokerError
from proof.broker import Broker
from proof.site import Site

STEP_LIMIT_S = 30.0
SILENCE_S = 180.0
"""Without a heartbeat for so long a BMS returns to its own schedule (three beats)."""


def is_released(payload: bytes) -> bool:
    """Say whether a command says that nothing holds any more: an empty message, or JSON without a value."""
    if not payload.strip():
        return True
    data = json.loads(payload)
    return isinstance(data, dict) and data.get("value") is None


class DeadMan:
    """The BMS-side rule of docs/commissioning.md, for one setting: follow a setpoint only while somebody stands behind it.

    The silence is counted by the BMS's own clock, so that no two clocks must agree; `valid_until` is the second lock.
    examples/bms/node_red_flow.json is the same rule as a Node-RED function.

    Args:
        own: the value of the BMS's own schedule.
        silence_s: longest time without a heartbeat.
    """

    def __init__(self, own: float, silence_s: float = SILENCE_S) -> None:
        self._own = own
        self._silence_s = silence_s
        self._setpoint: tuple[float, pd.Timestamp | None] | None = None
        self._beaten_s: float | None = None

    def beat(self, at_s: float) -> None:
        """A heartbeat arrived, at the BMS's own time."""
        self._beaten_s = at_s

    def command(self, payload: bytes) -> None:
        """A message arrived on the command topic."""
        if is_released(payload):
            self._setpoint = None
            return
        data = json.loads(payload)
        if isinstance(data, dict):
            self._setpoint = (float(data["value"]), pd.Timestamp(data["valid_until"]))
        else:
            self._setpoint = (float(data), None)

    def value(self, at_s: float, now: pd.Timestamp) -> tuple[float, str]:
        """Return what the plant gets now, and whose it is: ``setwise`` or ``own``."""
        if self._setpoint is None or self._beaten_s is None or at_s - self._beaten_s > self._silence_s:
            return self._own, "own"
        value, until = self._setpoint
        return (self._own, "own") if until is not None and now >= until else (value, "setwise")


class Bms:
    """Hears setpoints, echoes them, remembers for which hour they were.

    Args:
        building: whose commands, as its points.toml says.
        broker: where they arrive.
        valid_for: how long a setpoint holds after the start of its step, as the service is configured.
    """

    def __init__(self, building: Building, broker: Broker, valid_for: pd.Timedelta) -> None:
        self._broker = broker
        self._valid_for = valid_for
        self._site = Site(building)
        self._settings = building.settings.names
        self._heard: dict[tuple[pd.Timestamp, str], float] = {}
        self._news = threading.Condition()
        self.n_heard = 0
        self.n_planned = 0  # of those, how many came from a plan
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        topics = [c["topic"] for c in self._site.commands.values()]
        for topic in topics:  # not on_message: amqtt 0.12 sends a newcomer what is retained for everybody's subscriptions
            self._client.message_callback_add(topic, self._on_message)
        self._client.connect(broker.host, broker.port)
        self._client.subscribe([(topic, 1) for topic in topics])

    def __enter__(self) -> Bms:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        if is_released(bytes(message.payload)):
            return
        setting, value, echo = self._site.obey(message.topic, bytes(message.payload))
        told = json.loads(message.payload)
        until = pd.Timestamp(told["valid_until"]).tz_convert("UTC")
        with self._news:
            self.n_planned += told["plan"] != "own"
            self._heard[(until - self._valid_for).floor("h"), setting] = value
            self.n_heard += 1
            self._news.notify_all()
        if echo is not None:
            self._client.publish(*echo, qos=1)

    def wait_for(self, hour: pd.Timestamp) -> None:
        """Wait until every setting of an hour has arrived. Raises BrokerError when one does not."""
        with self._news:
            arrived = self._news.wait_for(lambda: all((hour, n) in self._heard for n in self._settings), STEP_LIMIT_S)
        if not arrived:
            missing = [n for n in self._settings if (hour, n) not in self._heard]
            raise BrokerError(
                host=self._broker.host,
                port=self._broker.port,
                reason=f"no setpoint of {', '.join(missing)} for {hour} within {STEP_LIMIT_S:g} s",
            )

    def settings(self, hours: pd.DatetimeIndex) -> pd.DataFrame:
        """Return what was heard for each hour."""
        return pd.DataFrame({n: [self._heard[hour, n] for hour in hours] for n in self._settings}, index=hours)
