"""A broker is listened to and a points file proposed, on the four layouts that buildings use; no unit is believed unasked."""

from __future__ import annotations

import json
import threading
import time
import tomllib
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import setwise
from building.description import Building, load_building
from building.errors import BadDescriptionError, BrokerError
from proof.broker import Broker, free_port
from service.config import MqttSection
from service.discover import Seen, candidates, hear, propose
from service.points import load_points
from service.sparkplug import Payload

T_MS = 1_767_798_000_000


def heard(*messages: tuple[str, object]) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    for topic, said in messages:
        payload = said if isinstance(said, bytes) else said.encode() if isinstance(said, str) else json.dumps(said).encode()
        seen.setdefault(topic, Seen()).payloads.append(payload)
    return seen


def proposed(office: Building, *messages: tuple[str, object]) -> tuple[dict[str, dict[str, str]], str]:
    text = propose(office, heard(*messages))
    return tomllib.loads(text).get("points", {}), text


def own_layout() -> list[tuple[str, object]]:
    return [
        ("setwise/office/core_mid/air_temperature", {"value": 21.3, "time": "2026-01-07T15:00:00Z"}),
        ("setwise/office/core_top/co2", "612"),
        ("setwise/office/outdoor/air_temperature", {"value": 41.0, "time": "2026-01-07T15:00:00Z", "unit": "degF"}),
        ("setwise/office/door/count", "3"),
    ]


def openems() -> list[tuple[str, object]]:
    return [
        ("openems/edge/fems1/channel/meterFacility/ElectricityPower", "48210"),
        ("openems/edge/fems1/channel/meterFacility/lastUpdate", "2026-01-07T15:00:00Z"),
        ("openems/edge/fems1/channel/weather0/OutdoorAirTemperature", "278.4"),
        ("openems/edge/fems1/edgeConfig", "{}"),
    ]


def home_assistant() -> list[tuple[str, object]]:
    components = {
        "t": {
            "platform": "sensor", "unique_id": "a", "name": "Core mid air temperature", "device_class": "temperature",
            "unit_of_measurement": "°F", "state_topic": "zigbee/0x01", "value_template": "{{ value_json.temperature }}",
        }
    }  # fmt: skip
    return [
        ("homeassistant/device/0x01/config", {"device": {"name": "x"}, "components": components}),
        ("zigbee/0x01", {"temperature": 70.2, "battery": 93, "linkquality": 120}),
        (
            "homeassistant/sensor/oat/config",
            {"~": "ha/oat", "stat_t": "~/state", "unit_of_meas": "°C", "name": "Outdoor air temperature"},
        ),
        ("ha/oat/state", "unavailable"),
        ("ha/oat/state", "4.5"),
        ("statestream/sensor/core_top_co2/state", "580"),
        ("statestream/sensor/core_top_co2/last_changed", '"2026-01-07T15:00:00+00:00"'),
        ("statestream/sensor/core_top_co2/unit_of_measurement", '"ppm"'),
    ]


def sparkplug() -> list[tuple[str, object]]:
    birth = Payload(timestamp=T_MS, seq=0)
    device = Payload(timestamp=T_MS, seq=1)
    one = device.metrics.add(name="Core Mid/Zone Air Temp", alias=4, datatype=10, double_value=70.5)
    one.properties.keys.append("engUnit")
    one.properties.values.add(type=12, string_value="°F")
    data = Payload(timestamp=T_MS, seq=2)
    data.metrics.add(alias=4, double_value=71.0)
    base = "spBv1.0/plant/{}/edge1"
    return [
        (base.format("DDATA") + "/ahu1", data.SerializeToString()),
        (base.format("DBIRTH") + "/ahu1", device.SerializeToString()),
        (base.format("NBIRTH"), birth.SerializeToString()),
    ]


def test_own_layout_is_matched_and_a_unit_in_the_message_is_used(office: Building) -> None:
    points, text = proposed(office, *own_layout())
    assert points["core_mid_air_temperature"] == {
        "topic": "setwise/office/core_mid/air_temperature", "format": "json", "value": "value", "time": "time", "unit": "?",
    }  # fmt: skip
    assert points["core_top_co2"]["format"] == "number" and points["core_top_co2"]["unit"] == "?"
    assert points["outdoor_air_temperature"]["unit_path"] == "unit" and "unit" not in points["outdoor_air_temperature"]
    assert 'nobody\'s: "setwise/office/door/count"' in text and "#   perimeter_mid_zn_1_co2" in text


def test_openems_layout_is_matched_and_kelvins_are_guessed_from_the_values(office: Building) -> None:
    points, text = proposed(office, *openems())
    assert points["facility_electricity"]["topic"].endswith("ElectricityPower")
    assert points["outdoor_air_temperature"]["unit"] == "?"
    assert "guessed K, because the values fit temperature in K only; seen 278.4" in text
    assert "guessed W, because the values fit power in W" in text


def test_home_assistant_discovery_names_units_paths_and_states(office: Building) -> None:
    points, text = proposed(office, *home_assistant())
    assert points["core_mid_air_temperature"] == {"topic": "zigbee/0x01", "format": "json", "value": "temperature", "unit": "?"}
    assert points["outdoor_air_temperature"] == {"topic": "ha/oat/state", "format": "home_assistant", "unit": "?"}
    assert points["core_top_co2"]["topic"] == "statestream/sensor/core_top_co2/state"
    assert "guessed degF, because the discovery message says so" in text
    assert "guessed ppm, because the topic unit_of_measurement beside it says so" in text and "battery" not in text


def test_sparkplug_births_name_metrics_and_units_whatever_came_first(office: Building) -> None:
    points, text = proposed(office, *sparkplug())
    assert points == {
        "core_mid_air_temperature": {
            "topic": "spBv1.0/plant/DDATA/edge1/ahu1", "format": "sparkplug", "value": "Core Mid/Zone Air Temp", "unit": "?",
        }
    }  # fmt: skip
    assert "guessed degF, because the birth's engUnit says so; seen 70.5 .. 71" in text


def test_proposal_is_refused_until_its_units_are_confirmed_and_then_loads(tmp_path: Path, office: Building) -> None:
    file = tmp_path / "points.toml"
    everything = [*own_layout()[:2], *openems(), *sparkplug()]
    file.write_text(propose(office, heard(*everything)))
    with pytest.raises(BadDescriptionError, match="nobody has confirmed it yet"):
        load_points(office, file)
    lines = file.read_text().splitlines()
    confirmed = [
        f'unit = "{line.partition("guessed ")[2].partition(",")[0]}"' if 'unit = "?"' in line else line for line in lines
    ]
    file.write_text("\n".join(confirmed))
    found = load_points(office, file)
    assert {"core_top_co2", "facility_electricity", "outdoor_air_temperature"} <= set(found.measured.names)


def test_nobody_said_anything_is_a_file_that_says_so(office: Building) -> None:
    points, text = proposed(office)
    assert points == {} and "Heard from nobody" in text


def test_hostile_topics_and_units_stay_inside_their_strings_and_comments(office: Building) -> None:
    evil = 'x"\n[commands.heating_setpoint]\ntopic = "evil'
    points, text = proposed(
        office,
        (f"{evil}/core_mid_air_temperature", "21"),
        ("homeassistant/sensor/x/config", {"state_topic": "core_top/co2", "unit_of_measurement": evil}),
        ("core_top/co2", "600"),
        (evil, {evil: 3}),
    )
    assert set(tomllib.loads(text)) == {"building", "points"} and points["core_mid_air_temperature"]["topic"].startswith('x"\n')


OFFICE = load_building("medium_office")


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12), st.lists(st.binary(max_size=40) | st.just(b'{"a": [1, {"t": 2}]}'), max_size=3)
    )
)
def test_whatever_is_heard_the_proposal_is_a_file(said: dict[str, list[bytes]]) -> None:
    tomllib.loads(propose(OFFICE, {topic: Seen(list(p), len(p)) for topic, p in said.items()}))


def test_verb_listens_to_a_broker_and_writes_the_proposal(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    is_over = threading.Event()

    def talk() -> None:
        while not is_over.is_set():
            client.publish("site/core_mid/air_temperature", "21.5")
            time.sleep(0.1)

    talker = threading.Thread(target=talk)
    talker.start()
    out = tmp_path / "points.toml"
    told = ["points", "discover", "medium_office", "--broker", f"127.0.0.1:{broker.port}", "--seconds", "3", "--out", str(out)]
    try:
        assert setwise.main(told) == 0
    finally:
        is_over.set()
        talker.join()
        client.disconnect()
        client.loop_stop()
    assert "points=1" in capsys.readouterr().out and "[points.core_mid_air_temperature]" in out.read_text()


def test_broker_that_is_not_there_is_said() -> None:
    with pytest.raises(BrokerError, match="ConnectionRefusedError"):
        hear(MqttSection(host="127.0.0.1", port=free_port()), 0.1)


def test_values_of_the_sender_itself_are_no_candidates() -> None:
    found = candidates(heard(("a/b", {"temperature": 20, "battery": 50, "rssi": -70}), ("a/c", "text"), ("a/d", b"\xff")))
    assert [c.value for c in found] == ["temperature"]
