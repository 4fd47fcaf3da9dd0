"""docs/connect.md: every points file in it loads, and every message under one becomes readings that count."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from building.description import Building
from service.points import AgeLimits, load_points
from service.quality import USABLE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "connect.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```toml\n(.*?)```\n(?:\n```messages\n(.*?)```)?", PAGE, re.M | re.S)
NOW = pd.Timestamp("2026-01-07T15:01Z")
LIMITS = AgeLimits(pd.Timedelta(minutes=5), pd.Timedelta(days=35))


@pytest.mark.parametrize(("title", "text", "messages"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_example_loads_and_its_messages_are_read(title: str, text: str, messages: str, tmp_path: Path, office: Building) -> None:
    file = tmp_path / "points.toml"
    file.write_text(text)
    points = load_points(office, file)
    heard: set[str] = set()
    for line in messages.splitlines():
        topic, _, payload = line.partition(" ")
        readings, refused = points.read_message(topic, payload.encode(), NOW, LIMITS)
        assert refused == [] and readings and all(r.flag in USABLE for r in readings), line
        heard |= {r.variable.removesuffix(".counter") for r in readings}
    assert heard == set(points.measured.names) or title == "Sparkplug B"


def test_every_format_has_an_example() -> None:
    assert [e[0] for e in EXAMPLES] == ["Plain numbers", "JSON", "Home Assistant", "Sparkplug B"]
    assert set(re.findall(r'^format = "(\w+)"', PAGE, re.M)) == {"number", "json", "home_assistant", "sparkplug"}
