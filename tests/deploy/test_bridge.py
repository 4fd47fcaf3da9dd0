"""docs/bridges.md on a simulated Modbus device: register -> bridge -> reading, and setpoint -> rule -> bridge -> register.

The device is pymodbus's server, the bridge modpoll2mqtt, the broker mosquitto, the service `setwise serve`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pages
import pandas as pd
import pytest
from served import ROOT, Served, clean_environment, until

from proof.broker import find_mosquitto, free_port, start_broker

pytest.importorskip("modpoll", reason="modpoll2mqtt comes with the extra 'dev'")
pytestmark = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
DEVICE = """
import sys
from pymodbus.server import StartTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
registers = SimData(0, values=[215, 640, 190, 270], datatype=DataType.REGISTERS)
StartTcpServer(context=SimDevice(id=1, simdata=[registers]), address=("127.0.0.1", int(sys.argv[1])))
"""
OWN = {"heating_setpoint": 20.0, "cooling_setpoint": 26.0}
HEATING, COOLING = 2, 3
HELD = 20.5  # degC, within a ramp of 6 K/h of the own schedule's day (21.0) and night (15.6): the hour does not matter
SILENCE_S = 8


class Plant:
    """The registers of the device, as another master on the bus sees them."""

    def __init__(self, port: int) -> None:
        from pymodbus.client import ModbusTcpClient

        self.client = ModbusTcpClient("127.0.0.1", port=port)
        assert until(self.client.connect, 20)

    def temperature(self, address: int) -> float:
        return self.client.read_holding_registers(address, count=1, device_id=1).registers[0] / 10

    def measures(self, address: int, value: int) -> None:
        self.client.write_register(address, value, device_id=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bridge")


@pytest.fixture(scope="module")
def env(folder: Path) -> dict[str, str]:
    """The environment, with `modpoll` of this Python on the PATH, wherever its script was put."""
    shim = folder / "bin" / "modpoll"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m modpoll "$@"\n')
    shim.chmod(0o755)
    here = clean_environment()
    return here | {"PATH": f"{shim.parent}{os.pathsep}{here['PATH']}"}


@pytest.fixture(scope="module")
def site(folder: Path, env: dict[str, str]) -> Iterator[tuple[Plant, int]]:
    """Device, broker, bridge and rule, the last two started by the commands of the page; the broker's port."""
    device_port = free_port()
    todo = {shlex.split(c)[0] + (" " + shlex.split(c)[1] if "check" in c else ""): c for c in pages.commands("docs/bridges.md")}
    with ExitStack() as stack:
        broker = stack.enter_context(start_broker(kind="mosquitto"))
        instead = {
            "192.0.2.20": f"127.0.0.1 --tcp-port {device_port}",
            "--mqtt-host localhost": f"--mqtt-host localhost --mqtt-port {broker.port}",
            "--rate 60": "--rate 1", "localhost:1883": f"localhost:{broker.port}",
            "cooling_setpoint=26": f"cooling_setpoint=26 --every 1 --silence {SILENCE_S}", "examples/": f"{ROOT}/examples/",
        }  # fmt: skip
        with (folder / "log").open("wb") as log:
            for command in (f"{sys.executable} -c {shlex.quote(DEVICE)} {device_port}", todo["modpoll"], todo["python"]):
                for there, here in instead.items():
                    command = command.replace(there, here)
                one = subprocess.Popen(shlex.split(command), cwd=folder, env=env, stdout=log, stderr=log)
                stack.callback(lambda p=one: (p.kill(), p.wait()))
                if "pymodbus" in command:
                    plant = Plant(device_port)
        yield plant, broker.port


def told(port: int) -> dict[str, str]:
    return {
        "SETWISE_BUILDING__NAME": "two_node", "SETWISE_BUILDING__POINTS": str(ROOT / "examples/bms/modbus/points.toml"),
        "SETWISE_MQTT__PORT": str(port), "SETWISE_PUBLISH__MODE": "auto", "SETWISE_PUBLISH__HEARTBEAT_S": "1",
        "SETWISE_JOBS__PLAN": "never", "SETWISE_JOBS__CALIBRATION": "never",
    }  # fmt: skip


def test_commands_that_need_no_device_do_what_the_page_says(tmp_path: Path, env: dict[str, str]) -> None:
    todo = [c for c in pages.commands("docs/bridges.md") if "--check-config" in c or c.startswith("setwise points")]
    checked, points = pages.run(todo, tmp_path, env, {"examples/": f"{ROOT}/examples/"})
    assert (checked.code, "Validated 1 configuration" in checked.said) == (0, True), checked
    assert "does not measure" in pages.text_of("docs/bridges.md") and "measured=4" in points.said, points


def test_every_command_of_the_page_is_one_of_these() -> None:
    installing = {"python3 -m venv ~/bridge", "~/bridge/bin/pip install 'modpoll2mqtt>=2.4,<3'", "export PATH=~/bridge/bin:$PATH"}
    others = [c for c in pages.commands("docs/bridges.md") if c not in installing]
    assert [c.split()[0] for c in others] == ["modpoll", "modpoll", "setwise", "python"]
    assert "modpoll2mqtt>=2.4,<3" in (ROOT / "pyproject.toml").read_text()  # installed here by the extra dev


def test_register_becomes_a_reading_and_setpoint_a_register_until_the_service_is_killed(site, folder: Path) -> None:
    plant, port = site
    assert until(lambda: plant.temperature(HEATING) == OWN["heating_setpoint"], 60), (folder / "log").read_text()
    with Served(folder, told(port)) as service:
        token = (folder / "state/token.first").read_text().strip()

        def reading(variable: str) -> float | None:
            return next(p["value"] for p in service.get("/v1/points", token) if p["variable"] == variable)

        assert until(lambda: reading("zone_air_temperature") == 21.5 and reading("zone_co2") == 640, 60), service.log.read_text()
        plant.measures(0, 228)
        assert until(lambda: reading("zone_air_temperature") == pytest.approx(22.8), 60)

        order = {"setting": "heating_setpoint", "value": HELD, "until": "2099-01-01T00:00Z", "reason": "bridge test"}
        assert hold(service, token, order) == 422  # longer than guard.max_override_h
        order["until"] = soon()
        assert hold(service, token, order) == 201
        assert until(lambda: plant.temperature(HEATING) == HELD, 60), (folder / "log").read_text()

        def states() -> dict[str, str]:
            return {s["variable"]: s["published"] for s in service.get("/v1/setpoints", token)["settings"]}

        assert until(lambda: states()["heating_setpoint"] == "acknowledged", 60), states()
        os.kill(service.process.pid, signal.SIGKILL)
        assert until(lambda: plant.temperature(HEATING) == OWN["heating_setpoint"], SILENCE_S + 60), (folder / "log").read_text()
    assert plant.temperature(COOLING) == OWN["cooling_setpoint"]


def hold(service: Served, token: str, order: dict[str, object]) -> int:
    """Hold a setting at a value; the status of the answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = urllib.request.Request(service.url + "/v1/overrides", json.dumps(order).encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        return e.code


def soon() -> str:
    return (pd.Timestamp.now(tz="UTC") + pd.Timedelta(hours=1)).isoformat()
