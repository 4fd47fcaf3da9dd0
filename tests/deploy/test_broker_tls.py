"""The broker with TLS of compose.tls.yaml and scripts/broker_secrets.py: a real mosquitto, a real service, and a BMS."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from served import ROOT, Served, until

from proof.broker import find_mosquitto, free_port

pytestmark = pytest.mark.skipif(find_mosquitto() is None or which("openssl") is None, reason="needs mosquitto and openssl")


@dataclass
class Site:
    secrets: Path
    port: int


def make_secrets(folder: Path, *more: str) -> str:
    script = [sys.executable, str(ROOT / "scripts/broker_secrets.py"), str(folder), *more]
    return subprocess.run(script, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The broker of deploy/, its paths and port those of a folder here."""
    folder, port = tmp_path_factory.mktemp("broker"), free_port()
    make_secrets(folder / "secrets")
    text = (ROOT / "deploy/mosquitto-tls.conf").read_text()
    for there, here in {
        "listener 8883": f"listener {port} 127.0.0.1", "/mosquitto/secrets": str(folder / "secrets/broker"),
        "/mosquitto/config/acl": str(ROOT / "deploy/mosquitto.acl"), "/mosquitto/data/": f"{folder}/",
    }.items():  # fmt: skip
        assert there in text
        text = text.replace(there, here)
    (folder / "mosquitto.conf").write_text(text + "user root\n")
    broker = subprocess.Popen([str(find_mosquitto()), "-c", str(folder / "mosquitto.conf")], stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    assert broker.poll() is None, broker.stderr and broker.stderr.read()
    yield Site(folder / "secrets", port)
    broker.kill()
    broker.wait()


class Bms:
    """A client of the broker with the files that were handed to it."""

    def __init__(
        self, site: Site, name: str = "bms", has_certificate: bool = True, password: str | None = None, patience_s: float = 20
    ) -> None:
        mine = site.secrets / name
        tls = ssl.create_default_context(cafile=str(mine / "ca.crt"))
        if has_certificate:
            tls.load_cert_chain(mine / "client.crt", mine / "client.key")
        self.heard: dict[str, bytes] = {}
        self.answer = ""
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"test-{name}")
        self.client.tls_set_context(tls)
        self.client.username_pw_set(name, password or (mine / "password").read_text().strip())
        self.client.on_message = lambda _c, _u, m: self.heard.__setitem__(m.topic, m.payload)
        self.client.on_connect = lambda _c, _u, _f, code, _p: setattr(self, "answer", str(code))
        self.client.connect("localhost", site.port)
        self.client.loop_start()
        until(lambda: bool(self.answer), patience_s)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_gateway_and_bms_understand_each_other_over_tls_with_certificates_and_passwords(site: Site, tmp_path: Path) -> None:
    composed = yaml.safe_load((ROOT / "compose.tls.yaml").read_text())["services"]["gateway"]
    (mount,) = composed["volumes"]
    assert mount == "./secrets/setwise:/run/secrets/mqtt:ro"
    told = {k: str(v).replace("/run/secrets/mqtt", str(site.secrets / "setwise")) for k, v in composed["environment"].items()}
    assert told["SETWISE_MQTT__PORT"] == "8883"
    told |= {
        "SETWISE_MQTT__HOST": "localhost", "SETWISE_MQTT__PORT": str(site.port),
        "SETWISE_BUILDING__BUNDLE": str(ROOT / "bundles/medium_office"),
        "SETWISE_JOBS__PLAN": "never", "SETWISE_JOBS__CALIBRATION": "never", "SETWISE_PUBLISH__MODE": "auto",
    }  # fmt: skip
    bms = Bms(site)
    assert bms.answer == "Success"
    bms.client.subscribe([("setwise/#", 1)])
    with Served(tmp_path, told) as served:
        token = (tmp_path / "state/token.first").read_text().strip()
        assert until(lambda: b"online" in bms.heard.get("setwise/medium_office/status", b""), 30), served.log.read_text()
        bms.client.publish("setwise/medium_office/gas_coil_heat", json.dumps({"power": 12.0, "ts": int(time.time())}), qos=1)
        assert until(lambda: last(served, token, "gas_coil_heat") == 12_000, 30), served.log.read_text()
        assert until(lambda: "setwise/medium_office/set/heating_setpoint" in bms.heard, 60), served.log.read_text()
        command = json.loads(bms.heard["setwise/medium_office/set/heating_setpoint"])
        assert 15 <= command["value"] <= 24 and command["valid_until"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        assert until(lambda: "setwise/medium_office/heartbeat" in bms.heard, 90)
    assert until(lambda: bms.heard["setwise/medium_office/status"] == b"offline", 20)
    bms.close()


def last(served: Served, token: str, variable: str) -> float | None:
    return next(row["value"] for row in served.get("/v1/points", token) if row["variable"] == variable)


def test_client_without_certificate_or_with_a_wrong_password_is_turned_away(site: Site) -> None:
    wrong = Bms(site, password="guessed")
    assert wrong.answer == "Not authorized"
    wrong.close()
    try:
        bare = Bms(site, has_certificate=False, patience_s=2)
    except OSError:
        return
    bare.close()  # TLS 1.3 may tell of it after the handshake: then there is no answer, and never a welcome
    assert bare.answer == ""


def test_bms_cannot_say_setpoints_in_the_gateways_place(site: Site) -> None:
    bms, gateway = Bms(site), Bms(site, "setwise")
    gateway.client.subscribe([("setwise/#", 1)])
    time.sleep(0.2)
    for topic in ("set/heating_setpoint", "echo/heating_setpoint"):  # in this order on one line
        bms.client.publish(f"setwise/medium_office/{topic}", "x", qos=1)
    assert until(lambda: "setwise/medium_office/echo/heating_setpoint" in gateway.heard, 20)
    assert "setwise/medium_office/set/heating_setpoint" not in gateway.heard
    bms.close()
    gateway.close()


def test_secrets_are_private_kept_and_added_to(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert "made=authority,broker,setwise,bms" in make_secrets(folder, "--host", "broker.example", "--host", "192.0.2.10")
    first = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "passwords"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in (folder, *folder.rglob("*")))
    assert "made=meter" in make_secrets(folder, "--client", "meter")
    assert all(p.read_bytes() == kept for p, kept in first.items())
    names = [line.split(":")[0] for line in (folder / "broker/passwords").read_text().splitlines()]
    assert names == ["bms", "meter", "setwise"]
    text = subprocess.run(
        ["openssl", "x509", "-in", str(folder / "broker/server.crt"), "-noout", "-ext", "subjectAltName,extendedKeyUsage"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "DNS:broker.example" in text and "IP Address:192.0.2.10" in text and "DNS:mosquitto" in text and "Server" in text
