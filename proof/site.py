"""The site's side of points.toml: what the sensors and the BMS of a played building say, in their own words and units.

Written from the file alone, not from service/points.py: if the two disagree on what a topic means, the tests see it.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from building.description import Building


class Site:
    """Encodes measurements and decodes commands of one building.

    Args:
        building: whose points.toml.
        file: another points file; None for that in the building's folder.
    """

    def __init__(self, building: Building, file: Path | None = None) -> None:
        facts = tomllib.loads((file or building.folder / "points.toml").read_text(encoding="utf-8"))
        self.points: dict[str, dict[str, Any]] = facts["points"]
        self.commands: dict[str, dict[str, Any]] = facts["commands"]
        self._quantities = {v.name: v.quantity for v in (*building.inputs, *building.outputs)}
        self._settings = {c["topic"]: name for name, c in self.commands.items()}

    def measure(self, variable: str, value: float, stamp: pd.Timestamp) -> tuple[str, bytes]:
        """Return topic and payload of one measurement.

        Args:
            variable: one of `points`.
            value: inside unit.
            stamp: the start of its hour (UTC). A point that sends no stamp must be sent `-shift_min` later.
        """
        point, quantity = self.points[variable], self._quantities[variable]
        unit = point.get("unit", quantity.unit)
        told = round(float(quantity.to_unit(value, unit)), 7)
        if "value" not in point:
            return point["topic"], repr(told).encode()
        data: dict[str, Any] = {}
        _put(data, point["value"], told)
        if "unit_path" in point:
            _put(data, point["unit_path"], unit)
        if "time" in point:
            sent = stamp - pd.Timedelta(minutes=point.get("shift_min", 0))
            kind = point.get("time_format", "iso")
            iso = sent.tz_convert("UTC").isoformat().replace("+00:00", "Z")
            _put(data, point["time"], iso if kind == "iso" else sent.timestamp() * (1000 if kind == "ms" else 1))
        return point["topic"], json.dumps(data).encode()

    def obey(self, topic: str, payload: bytes) -> tuple[str, float, tuple[str, bytes] | None]:
        """Read one command as a BMS would.

        Returns:
            Setting, value (inside unit), and topic and payload of the echo, or None when this BMS confirms nothing.
        """
        setting = self._settings[topic]
        command, quantity = self.commands[setting], self._quantities[setting]
        data = json.loads(payload)
        value = float(data["value"] if isinstance(data, dict) else data)
        inside = float(quantity.from_unit(value, command.get("unit", quantity.unit)))
        echo = command.get("echo")
        if echo is None:
            return setting, inside, None
        told = float(quantity.to_unit(inside, echo.get("unit", quantity.unit)))
        if "value" not in echo:
            return setting, inside, (echo["topic"], repr(told).encode())
        answer: dict[str, Any] = {}
        _put(answer, echo["value"], told)
        return setting, inside, (echo["topic"], json.dumps(answer).encode())


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    for key in way:
        data = data.setdefault(key, {})
    data[last] = value
