"""Play measured hours over MQTT, as the site would have sent them.

Before the readings of an hour leave, the end of that hour goes to the clock topic, so that a service with
``clock.source = "topic"`` lives at the player's speed.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
import pandas as pd
from paho.mqtt.enums import CallbackAPIVersion

from building.description import Building
from building.errors import BrokerError
from proof.site import Site

ACKNOWLEDGED_WITHIN_S = 30.0
HOUR = pd.Timedelta(hours=1)


@dataclass(frozen=True)
class Replay:
    """What `replay` sent."""

    hours: int
    messages: int
    seconds: float


def replay(
    building: Building,
    measured: pd.DataFrame,
    *,
    host: str,
    port: int,
    points_file: Path | None = None,
    hours_per_second: float = 24.0,
    root: str = "setwise",
    clock_until: pd.Timestamp | None = None,
    before_hour: Callable[[pd.Timestamp], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Replay:
    """Play a measured frame hour by hour.

    Args:
        building: whose hours they are.
        measured: hourly, UTC, inside units, columns by variable name.
        host, port: the broker.
        points_file: points.toml; that of the building when None.
        hours_per_second: speed; the hours wait for the broker's acknowledgement in any case.
        root: first level of the clock topic, <root>/<building>/clock.
        clock_until: the clock is turned no further than this; None for the end of the last hour.
        before_hour: called before an hour is played; what a closed loop waits for.
        progress: called with (hours done, hours in all).

    Raises:
        OSError: no points file. BrokerError: no broker, or one that does not acknowledge.
    """
    site = Site(building, points_file)
    told = [name for name in measured.columns if name in site.points]
    clock_topic = f"{root}/{building.name}/clock"
    began, n_messages = time.monotonic(), 0
    client = _connected(host, port)
    try:
        for i, hour in enumerate(pd.DatetimeIndex(measured.index)):
            if before_hour is not None:
                before_hour(hour)
            end = hour + HOUR if clock_until is None else min(hour + HOUR, clock_until)
            sent = [client.publish(clock_topic, end.isoformat(), qos=1)]
            for name in told:
                if math.isfinite(value := float(measured[name].iloc[i])):  # NaN is a silent sensor
                    sent.append(client.publish(*site.measure(name, value, hour), qos=1))
            for one in sent:
                try:
                    one.wait_for_publish(ACKNOWLEDGED_WITHIN_S)
                except (RuntimeError, ValueError) as e:
                    raise BrokerError(host=host, port=port, reason=f"it went away ({e})") from e
                if not one.is_published():
                    raise BrokerError(host=host, port=port, reason=f"no acknowledgement within {ACKNOWLEDGED_WITHIN_S:g} s")
            n_messages += len(sent)
            if progress is not None:
                progress(i + 1, len(measured))
            time.sleep(max(0.0, began + (i + 1) / hours_per_second - time.monotonic()))
    finally:
        client.disconnect()
        client.loop_stop()
    return Replay(len(measured), n_messages, time.monotonic() - began)


def _connected(host: str, port: int) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(200)
    accepted = threading.Event()
    client.on_connect = lambda _client, _data, _flags, code, _properties: None if code.is_failure else accepted.set()
    try:
        client.connect(host, port)
    except OSError as e:
        raise BrokerError(host=host, port=port, reason=f"it cannot be reached ({e})") from e
    client.loop_start()
    if not accepted.wait(10):
        client.loop_stop()
        raise BrokerError(host=host, port=port, reason="it did not accept the connection within 10 s")
    return client
