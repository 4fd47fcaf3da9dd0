"""docs/connect.md: every points file in it loads, and every message under one becomes readings that count."""

from __future__ import annotations

import re
from pathlib import Path

import pages
import paho.mqtt.client as paho
import pandas as pd
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from served import clean_environment

from building.description import Building
from proof.broker import Broker
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


def test_proposal_is_made_refused_until_units_are_confirmed_and_then_checked(broker: Broker, tmp_path: Path) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.publish("bms/outdoor_air_temperature", "4.5", qos=1, retain=True).wait_for_publish(10)
    client.publish("bms/core_mid/co2", "612", qos=1, retain=True).wait_for_publish(10)
    discover, check = pages.commands("docs/connect.md")
    instead = {"localhost:1883": f"{broker.host}:{broker.port}", "--seconds 60": "--seconds 1"}
    said = pages.run([discover, check], tmp_path, clean_environment(), instead)
    client.disconnect()
    client.loop_stop()
    assert said[0].code == 0 and 'unit = "?"' in (tmp_path / "points.toml").read_text(), said
    assert said[1].code == 2 and "nobody has confirmed it yet" in said[1].said, said
    proposed = (tmp_path / "points.toml").read_text()
    (tmp_path / "points.toml").write_text(re.sub(r'unit = "\?"  # guessed ([\w/]+)', r'unit = "\1"  #', proposed))
    (checked,) = pages.run([check], tmp_path, clean_environment())
    assert "measured=2" in checked.said, checked


def test_every_format_has_an_example() -> None:
    assert [e[0] for e in EXAMPLES] == ["Plain numbers", "JSON", "Home Assistant", "Sparkplug B"]
    assert set(re.findall(r'^format = "(\w+)"', PAGE, re.M)) == {"number", "json", "home_assistant", "sparkplug"}
