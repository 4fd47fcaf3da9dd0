"""deploy/home_assistant: keys that the Supervisor knows, options that the service reads, the Supervisor's broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from served import ROOT
from test_packaging import PYPROJECT, script

from service.config import load_config

ADDON = ROOT / "deploy/home_assistant/setwise"
CONFIG: dict[str, Any] = yaml.safe_load((ADDON / "config.yaml").read_text())

KNOWN = {
    "name", "version", "slug", "description", "arch", "machine", "url", "startup", "webui", "boot", "ports",
    "ports_description", "host_network", "host_ipc", "host_dbus", "host_pid", "host_uts", "devices", "homeassistant",
    "hassio_role", "hassio_api", "homeassistant_api", "docker_api", "privileged", "full_access", "apparmor", "map",
    "environment", "audio", "video", "gpio", "usb", "uart", "udev", "devicetree", "kernel_modules", "stdin", "legacy",
    "options", "schema", "image", "timeout", "tmpfs", "discovery", "services", "ingress", "ingress_port", "ingress_entry",
    "ingress_stream", "panel_icon", "panel_title", "panel_admin", "backup", "backup_pre", "backup_post", "backup_exclude",
    "advanced", "stage", "init", "watchdog", "realtime", "journald", "breaking_versions", "auth_api",
}  # fmt: skip
"""Keys of an add-on's config.yaml: docs/add-ons/configuration.md of home-assistant/developers.home-assistant, and what came since
(backup*, journald, realtime, usb, host_uts, ingress_stream, breaking_versions, maps with type and path), recalled."""


@pytest.fixture
def run() -> ModuleType:
    return script("deploy/home_assistant/setwise/run.py")


def test_addon_says_what_the_supervisor_requires_and_nothing_that_it_does_not_know() -> None:
    assert {"name", "version", "slug", "description", "arch"} <= CONFIG.keys() <= KNOWN
    assert CONFIG["version"] == PYPROJECT["project"]["version"]
    assert set(CONFIG["arch"]) == {"amd64", "aarch64"}
    assert CONFIG["startup"] in ("initialize", "system", "services", "application", "once") and CONFIG["boot"] in (
        "auto",
        "manual",
    )
    assert set(yaml.safe_load((ADDON / "build.yaml").read_text())["build_from"]) == set(CONFIG["arch"])


def test_every_option_has_its_schema_its_variable_and_its_words(run: ModuleType) -> None:
    words = yaml.safe_load((ADDON / "translations/en.yaml").read_text())["configuration"]
    assert set(CONFIG["schema"]) == set(run.VARIABLES) == set(words)
    required = {k for k, kind in CONFIG["schema"].items() if not kind.endswith("?")}
    assert set(CONFIG["options"]) == required


def test_every_option_is_read_by_the_service(run: ModuleType) -> None:
    options = CONFIG["options"] | {
        "points": "/config/points.toml", "mqtt_host": "broker", "mqtt_port": 8883, "mqtt_tls": True, "mqtt_username": "gw",
        "mqtt_password": "secret", "bundle_public_key": "a2V5",
    }  # fmt: skip
    config = load_config(environ=run.environment(options, {}))
    assert set(options) == set(run.VARIABLES)
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.is_tls, config.mqtt.username) == ("broker", 8883, True, "gw")
    assert config.mqtt.password is not None and config.mqtt.password.get_secret_value() == "secret"
    assert config.publish.mode == "advise" and config.building.points == Path("/config/points.toml")
    assert config.store.url.get_secret_value() == "sqlite:////data/state/setwise.db"


@pytest.mark.parametrize("mode", ["watch", "advise", "auto", "maintenance"])
def test_every_mode_of_the_list_is_one_of_the_service(run: ModuleType, mode: str) -> None:
    assert f"{mode}" in CONFIG["schema"]["mode"]
    assert load_config(environ=run.environment({"mode": mode}, {})).publish.mode == mode


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Answers as the Supervisor does, to whoever shows the add-on's token."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers["Authorization"] == "Bearer addon"
            self.send_response(200 if is_known else 401)
            self.end_headers()
            broker = {
                "host": "core-mosquitto",
                "port": 1883,
                "ssl": False,
                "username": "addons",
                "password": "p",
                "protocol": "3.1.1",
            }
            self.wfile.write(json.dumps({"result": "ok", "data": broker}).encode() if is_known else b"{}")

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SUPERVISOR_TOKEN", "addon")
    yield f"http://127.0.0.1:{server.server_port}/services/mqtt"
    server.shutdown()


def test_broker_of_the_supervisor_is_taken_where_none_is_named(run: ModuleType, supervisor: str) -> None:
    config = load_config(environ=run.environment(CONFIG["options"], run.supervisors_broker(supervisor)))
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.username, config.mqtt.is_tls) == (
        "core-mosquitto",
        1883,
        "addons",
        False,
    )
    named = run.environment({"mqtt_host": "mine"}, run.supervisors_broker(supervisor))
    assert named["SETWISE_MQTT__HOST"] == "mine" and "SETWISE_MQTT__USERNAME" not in named


def test_supervisor_without_a_broker_is_said_and_not_a_crash(run: ModuleType, supervisor: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SUPERVISOR_TOKEN", "somebody else")
    assert run.supervisors_broker(supervisor) == {}
    assert "mqtt_host" in capsys.readouterr().err
