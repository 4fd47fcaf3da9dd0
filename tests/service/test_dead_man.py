"""The dead man's rule: when the service dies, the building's own schedule is back within minutes, nobody helping."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import paho.mqtt.client as paho
import pandas as pd
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sites import two_node_config
from test_web import Running

from proof.bms import SILENCE_S, DeadMan
from proof.broker import start_broker

FLOW = Path(__file__).resolve().parents[2] / "examples" / "bms" / "node_red_flow.json"
NOW = pd.Timestamp("2026-02-02T15:00Z")
LATER = "2026-02-02T15:45:00Z"

STORIES: list[tuple[list[tuple[float, str, str]], float, float]] = [
    ([], 0, 20.0),  # nobody ever spoke
    ([(0, "beat", ""), (1, "set", json.dumps({"value": 23.0, "valid_until": LATER}))], 10, 23.0),
    ([(1, "set", json.dumps({"value": 23.0, "valid_until": LATER}))], 10, 20.0),  # no heartbeat
    ([(0, "beat", ""), (1, "set", json.dumps({"value": 23.0, "valid_until": LATER}))], 179, 23.0),
    ([(0, "beat", ""), (1, "set", json.dumps({"value": 23.0, "valid_until": LATER}))], 181, 20.0),  # the heart stopped
    ([(0, "set", json.dumps({"value": 23.0, "valid_until": LATER})), (2690, "beat", "")], 2699, 23.0),
    ([(0, "set", json.dumps({"value": 23.0, "valid_until": LATER})), (2690, "beat", "")], 2701, 20.0),  # valid_until passed
    ([(0, "beat", ""), (1, "set", json.dumps({"value": 23.0, "valid_until": LATER})), (2, "set", "")], 10, 20.0),  # cleared
    ([(0, "beat", ""), (1, "set", json.dumps({"value": None, "valid_until": LATER}))], 10, 20.0),  # released
]
"""What arrived when [s], the moment of the question [s], and what the plant must get (own schedule: 20)."""


@pytest.mark.parametrize(("messages", "at_s", "wanted"), STORIES)
def test_setpoint_is_followed_only_while_somebody_stands_behind_it(messages, at_s, wanted) -> None:
    rule = DeadMan(20.0)
    for when_s, kind, payload in messages:
        if kind == "beat":
            rule.beat(when_s)
        else:
            rule.command(payload.encode())
    assert rule.value(at_s, NOW + pd.Timedelta(seconds=at_s))[0] == wanted


def test_silence_that_ends_a_setpoint_is_three_beats() -> None:
    assert SILENCE_S == 3 * 60


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the function of the Node-RED flow")
def test_node_red_flow_in_the_examples_is_the_same_rule() -> None:
    function = next(node["func"] for node in json.loads(FLOW.read_text()) if node["type"] == "function")
    program = """
const [func, start, stories] = JSON.parse(require('fs').readFileSync(0));
const rule = new Function('msg', 'context', 'flow', 'Date', func);
console.log(JSON.stringify(stories.map(([messages, at]) => {
  const kept = new Map(); let now = 0;
  const context = { get: k => kept.get(k), set: (k, v) => kept.set(k, v) };
  const flow = { get: () => 20.0 };
  const clock = { now: () => start + now * 1000, parse: Date.parse };
  const ask = (topic, payload) => rule({ topic, payload }, context, flow, clock).payload;
  for (const [s, kind, payload] of messages) {
    now = s; ask(kind === 'beat' ? 'setwise/x/heartbeat' : 'setwise/x/set/heating_setpoint', payload);
  }
  now = at; return ask('tick', '');
})));
"""
    told = json.dumps([function, NOW.timestamp() * 1000, [[messages, at_s] for messages, at_s, _ in STORIES]])
    done = subprocess.run(["node", "-e", program], input=told, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [wanted for _, _, wanted in STORIES]


@pytest.mark.faults("service dead")
def test_kill_9_of_the_service_brings_the_own_schedule_back_when_three_beats_are_missing(tmp_path, recovery) -> None:
    every_s = 1.0
    two_node_config(tmp_path)
    rule = DeadMan(own=12.5, silence_s=3 * every_s)
    with start_broker(kind="amqtt") as broker:
        client = paho.Client(CallbackAPIVersion.VERSION2)

        def heard(_c: object, _u: object, message: paho.MQTTMessage) -> None:
            if message.topic.endswith("heartbeat"):
                rule.beat(time.monotonic())
            else:
                rule.command(bytes(message.payload))

        client.on_message = heard
        client.connect(broker.host, broker.port)
        client.subscribe([("setwise/two_node/heartbeat", 1), ("site/heating_setpoint/set", 1)])
        client.loop_start()
        told = {"mqtt__port": str(broker.port), "mqtt__host": broker.host, "publish__heartbeat_s": str(every_s)}
        try:
            with Running(tmp_path, **told) as running:
                assert _until(lambda: _source(rule) == "setwise", 60), "the setpoint never arrived"
                time.sleep(2 * every_s)
                assert _source(rule) == "setwise"
                running.process.kill()
                killed = time.monotonic()
                assert _until(lambda: _source(rule) == "own", 30)
                recovery.took(time.monotonic() - killed)
                assert rule.value(time.monotonic(), pd.Timestamp.now(tz="UTC")) == (12.5, "own")
        finally:
            client.disconnect()
            client.loop_stop()


def _source(rule: DeadMan) -> str:
    return rule.value(time.monotonic(), pd.Timestamp.now(tz="UTC"))[1]


def _until(is_so, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.05)
    return False
