"""The add-on's first process: the Supervisor's options become SETWISE_* variables, root the image's user, then `setwise serve`.

The broker is the one named in the options; where none is, the one that the Supervisor knows (the Mosquitto add-on).
Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

DATA = Path("/data")
CONFIG = Path("/config")
"""The add-on's configuration folder, which people can open: there the first token is left for them."""
USER = 10001
"""That of the gateway image."""

VARIABLES = {
    "building": "SETWISE_BUILDING__NAME",
    "bundle": "SETWISE_BUILDING__BUNDLE",
    "points": "SETWISE_BUILDING__POINTS",
    "mode": "SETWISE_PUBLISH__MODE",
    "log_level": "SETWISE_LOG__LEVEL",
    "mqtt_host": "SETWISE_MQTT__HOST",
    "mqtt_port": "SETWISE_MQTT__PORT",
    "mqtt_tls": "SETWISE_MQTT__IS_TLS",
    "mqtt_username": "SETWISE_MQTT__USERNAME",
    "mqtt_password": "SETWISE_MQTT__PASSWORD",
    "bundle_public_key": "SETWISE_BUNDLE__PUBLIC_KEY",
}
"""Option of config.yaml -> variable of docs/reference/config.md."""


def environment(options: dict, broker: dict) -> dict[str, str]:  # type: ignore[type-arg]
    """Return the variables: where state lies, the Supervisor's broker, and what the options say over it."""
    told = {
        "SETWISE_API__HOST": "0.0.0.0",
        "SETWISE_API__TOKEN_FILE": f"{CONFIG}/token",
        "SETWISE_STORE__URL": f"sqlite:///{DATA}/state/setwise.db",
        "SETWISE_STORE__BACKUPS": f"{DATA}/state/backups",
    }
    known = {
        "mqtt_host": "host",
        "mqtt_port": "port",
        "mqtt_tls": "ssl",
        "mqtt_username": "username",
        "mqtt_password": "password",
    }
    if not options.get("mqtt_host"):
        options = {option: broker[key] for option, key in known.items() if broker.get(key) not in (None, "")} | options
    for option, value in options.items():
        if value not in (None, ""):
            told[VARIABLES[option]] = str(value).lower() if isinstance(value, bool) else str(value)
    return told


def supervisors_broker(url: str = "http://supervisor/services/mqtt") -> dict:  # type: ignore[type-arg]
    """Return host, port, ssl, username and password of the broker that the Supervisor knows; empty where it knows none."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ.get('SUPERVISOR_TOKEN', '')}"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer).get("data") or {}
    except (urllib.error.URLError, OSError, ValueError) as e:
        print(f"the Supervisor names no broker ({e}); set mqtt_host in the options", file=sys.stderr)
        return {}


def main() -> None:
    """Become `setwise serve`."""
    options = json.loads((DATA / "options.json").read_text(encoding="utf-8"))
    told = environment(options, {} if options.get("mqtt_host") else supervisors_broker())
    state = DATA / "state"
    state.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        for path in (CONFIG, *CONFIG.glob("token*"), state, *state.rglob("*")):
            os.chown(path, USER, USER)
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
    os.chdir(state)
    passed = {k: v for k, v in os.environ.items() if k != "SUPERVISOR_TOKEN"}
    os.execvpe("setwise", ["setwise", "serve"], passed | told)


if __name__ == "__main__":
    main()
