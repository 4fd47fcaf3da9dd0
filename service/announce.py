"""What is told on MQTT besides setpoints, for people and displays: setpoints with their reason, the plan, the state of the parts.

Three retained topics, JSON, under <root>/<building>/: ``setpoints``, ``plan``, ``state``. They are information, no orders: they
are told in every mode, and cleared on a clean stop. With `[mqtt] discovery` Home Assistant is told of them as one device (its
device discovery, since 2024.11): every entity has a unique id, is available while <root>/<building>/status says online (offline
is the last will), and a setpoint's expires with its ``valid_until``.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import pandas as pd

from building.description import Building
from building.variables import Variable
from service.config import Config
from service.guard import Guarded
from service.health import Part
from service.store import PlanRecord

HOME_ASSISTANT_UNITS: Mapping[str, tuple[str, str | None, float]] = {
    "degC": ("°C", "temperature", 1.0),
    "W": ("W", "power", 1.0),
    "Pa": ("Pa", "pressure", 1.0),
    "m/s": ("m/s", "wind_speed", 1.0),
    "ppm": ("ppm", "carbon_dioxide", 1.0),
    "1": ("%", None, 100.0),
    "m3/h.m2": ("m³/(h·m²)", None, 1.0),
}
"""Of an inside unit: Home Assistant's spelling, device class and factor."""
TOPICS = ("setpoints", "plan", "state")

Send = Callable[[str, str], bool]
"""Hands a retained message to the broker; False when there is no line."""


class Announcer:
    """Tells each topic when its content changed, and all of them again on a new line. Thread-safe.

    Args:
        config: roots and validity.
        building: its settings.
        send: the broker.
    """

    def __init__(self, config: Config, building: Building, send: Send) -> None:
        self.config = config
        self.building = building
        self._send = send
        self._told: dict[str, str] = {}
        self._is_stale = threading.Event()

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are told; nothing that arrives there is a reading."""
        return tuple(self._topic(name) for name in TOPICS)

    @property
    def is_stale(self) -> bool:
        """Whether everything is to be told again."""
        return self._is_stale.is_set()

    def reconnected(self) -> None:
        """Tell everything again at the next turn: a new broker knows nothing. Only noted; called from the line's thread."""
        self._is_stale.set()

    def tell(
        self,
        guarded: Guarded,
        leaving: Mapping[str, float],
        mode: str,
        until: pd.Timestamp,
        plan: PlanRecord | None,
        parts: Sequence[Part],
    ) -> None:
        """Tell what changed.

        Args:
            guarded: settings in force, after the guard.
            leaving: those that are sent to the BMS.
            mode: in force.
            until: until when the setpoints hold.
            plan: the stored plan in force, or None.
            parts: of /v1/status.
        """
        if self._is_stale.is_set():
            self._is_stale.clear()
            self._told.clear()
        if self.config.mqtt.discovery:
            self._tell(self.discovery_topic, self.discovery())
        settings = {
            name: {"value": value, "unit": self.building.settings[name].quantity.unit, "source": guarded.sources[name],
                   "is_sent": name in leaving}
            for name, value in guarded.settings.items()
        }  # fmt: skip
        notes = [str(a) for a in guarded.actions]
        now = {"mode": mode, "origin": guarded.origin, "valid_until": _iso(until), "notes": notes, "settings": settings}
        self._tell(self._topic("setpoints"), now)
        self._tell(self._topic("plan"), _plan(plan))
        states = {p.name: {"state": p.state, "since": None if p.since is None else _iso(p.since), "fact": p.fact} for p in parts}
        problems = [p.name for p in parts if p.state == "fault"]
        self._tell(self._topic("state"), {"mode": mode, "problems": problems, "parts": states})

    def clear(self) -> None:
        """Take everything back but the discovery: a broker must not go on telling what nobody stands behind."""
        for topic in self.topics:
            if topic in self._told:
                self._send(topic, "")
        self._told.clear()

    def _tell(self, topic: str, facts: Mapping[str, Any]) -> None:
        text = json.dumps(facts, allow_nan=False, sort_keys=True)
        if self._told.get(topic) != text and self._send(topic, text):
            self._told[topic] = text

    def _topic(self, name: str) -> str:
        return f"{self.config.mqtt.root}/{self.building.name}/{name}"

    # -- Home Assistant

    @property
    def discovery_topic(self) -> str:
        """Where Home Assistant looks for the device."""
        return f"{self.config.mqtt.discovery}/device/{self._id}/config"

    @property
    def _id(self) -> str:
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.config.mqtt.client_id or f"setwise-{self.building.name}")

    def discovery(self) -> dict[str, Any]:
        """Return the discovery message of the device: a sensor per setting, mode, who decides, plan and problem."""
        components: dict[str, dict[str, Any]] = {}

        def add(name: str, platform: str, title: str, topic: str, template: str, **more: Any) -> None:
            components[name] = {
                "platform": platform,
                "unique_id": f"{self._id}_{name}",
                "name": title,
                "state_topic": self._topic(topic),
                "value_template": template,
                **more,
            }

        def attributes(topic: str, template: str) -> dict[str, str]:
            return {"json_attributes_topic": self._topic(topic), "json_attributes_template": template}

        lasts_s = self.config.publish.valid_for_min * 60
        for v in self.building.settings:
            unit, kind, factor = HOME_ASSISTANT_UNITS.get(v.quantity.unit, (v.quantity.unit, None, 1.0))
            more = {"unit_of_measurement": unit, "state_class": "measurement", "expire_after": lasts_s}
            value = f"value_json.settings.{v.name}.value"
            template = f"{{{{ {value} }}}}" if factor == 1 else f"{{{{ {value} * {factor:g} }}}}"
            add(v.name, "sensor", _title(v), "setpoints", template, **more | ({"device_class": kind} if kind else {}))
        add("mode", "sensor", "Mode", "setpoints", "{{ value_json.mode }}")
        notes = attributes("setpoints", "{{ {'notes': value_json.notes} | tojson }}")
        add("origin", "sensor", "Schedule followed", "setpoints", "{{ value_json.origin }}", **notes)
        add("plan_until", "sensor", "Plan until", "plan", "{{ value_json.end }}", device_class="timestamp")
        saving = "{{ (value_json.saving * 100) | round(1) if value_json.saving is not none else none }}"
        add("plan_saving", "sensor", "Saving promised", "plan", saving, unit_of_measurement="%")
        parts = attributes("state", "{{ value_json.parts | tojson }}")
        problem = "{{ 'ON' if value_json.problems else 'OFF' }}"
        add("problem", "binary_sensor", "Problem", "state", problem, device_class="problem", **parts)
        title = self.building.facts.title
        return {
            "device": {"identifiers": [self._id], "name": title, "manufacturer": "setwise", "sw_version": version("setwise")},
            "origin": {"name": "setwise", "sw_version": version("setwise")},
            "availability": [
                {"topic": self._topic("status"), "payload_available": "online", "payload_not_available": "offline"},
            ],
            "qos": 1,
            "components": components,
        }


def _title(v: Variable) -> str:
    return v.name.replace("_", " ").capitalize()


def _plan(record: PlanRecord | None) -> dict[str, Any]:
    if record is None:
        return dict.fromkeys(("id", "origin", "issued", "start", "end", "saving")) | {"settings": {}, "stamps": []}
    plan = record.plan
    savings = plan.meta.get("saving") or {}
    saving = savings.get("own_raised", savings.get("own"))
    return {
        "id": record.id,
        "origin": plan.origin,
        "issued": _iso(record.issued),
        "start": _iso(plan.start),
        "end": _iso(plan.end),
        "saving": saving if saving is not None and math.isfinite(saving) else None,
        "stamps": [_iso(t) for t in pd.DatetimeIndex(plan.frame.index)],
        "settings": {str(n): [round(float(x), 4) for x in plan.frame[n]] for n in plan.frame.columns},
    }


def _iso(instant: pd.Timestamp) -> str:
    return instant.isoformat().replace("+00:00", "Z")
