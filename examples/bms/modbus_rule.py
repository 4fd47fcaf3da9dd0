"""The dead man's rule between setwise and a Modbus bridge: the device gets setwise's setpoints while setwise stands behind them.

    python examples/bms/modbus_rule.py --building two_node --device ahu1 heating_setpoint=20 cooling_setpoint=26

A register has no `valid_until`: it keeps the last value for ever. So nothing of setwise's goes to the bridge directly. This
program hears the commands and the heartbeat, decides every --every seconds by the rule of docs/commissioning.md, and tells the
bridge (modpoll2mqtt) what the plant gets: setwise's value, or that of the own schedule, given here by setting. Where the device
has a watchdog register of its own, use that as well: nobody watches this program.
"""

from __future__ import annotations

import argparse
import json
import time

import paho.mqtt.client as paho
import pandas as pd
from paho.mqtt.enums import CallbackAPIVersion

from proof.bms import SILENCE_S, DeadMan

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("own", nargs="+", help="SETTING=VALUE of the building's own schedule; the reference of that name is written")
parser.add_argument("--broker", default="localhost:1883", help="host:port (%(default)s)")
parser.add_argument("--building", required=True, help="whose heartbeat: setwise/<building>/heartbeat")
parser.add_argument(
    "--device", required=True, help="name of the device in the bridge's CSV; commands: site/<device>/<setting>/set"
)
parser.add_argument("--every", type=float, default=10.0, help="seconds between decisions (%(default)s)")
parser.add_argument("--silence", type=float, default=SILENCE_S, help="longest seconds without a heartbeat (%(default)s)")
a = parser.parse_args()

rules = {name: DeadMan(float(value), a.silence) for name, value in (pair.split("=") for pair in a.own)}
commands = {f"site/{a.device}/{name}/set": rule for name, rule in rules.items()}
heartbeat = f"setwise/{a.building}/heartbeat"


def heard(_client: object, _data: object, message: paho.MQTTMessage) -> None:
    """A heartbeat is every rule's, a command that of its setting. What cannot be read changes nothing."""
    if message.topic == heartbeat:
        for rule in rules.values():
            rule.beat(time.monotonic())
    else:
        try:
            commands[message.topic].command(message.payload)
        except (ValueError, TypeError, KeyError) as e:
            print(f"{message.topic}: {e}", flush=True)


client = paho.Client(CallbackAPIVersion.VERSION2)
client.on_message = heard
client.on_connect = lambda c, *_: c.subscribe([(topic, 1) for topic in (heartbeat, *commands)])
host, _, port = a.broker.partition(":")
client.connect(host, int(port or 1883))
client.loop_start()
said: dict[str, tuple[float, str]] = {}
while True:
    now = {name: rule.value(time.monotonic(), pd.Timestamp.now(tz="UTC")) for name, rule in rules.items()}
    client.publish(f"modpoll/{a.device}/set", json.dumps({name: round(value, 1) for name, (value, _) in now.items()}), qos=1)
    for name, (value, whose) in now.items():
        if said.get(name) != (value, whose):
            print(f"{name} = {value:g} ({whose})", flush=True)
    said = now
    time.sleep(a.every)
