"""What stands before the API: headers on every answer, no other origin, limits of size and time, HTTPS; no secret in sight."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sites import NOW, open_rc, two_node_config

from building.errors import BadDescriptionError
from service.access import create_token, make_token
from service.api import create_api
from service.app import Service
from service.clock import TurnedClock
from service.config import load_config
from service.diagnostics import collect

HERE = Path(__file__).parent
PASSWORD = "hunter2-and-more"


@pytest.fixture
def client(tmp_path):
    service = Service(two_node_config(tmp_path, api__max_body_kb="4"), TurnedClock(NOW), open_rc)
    headers = {"Authorization": f"Bearer {make_token(tmp_path / 'token')}"}
    yield TestClient(create_api(service.sources()), headers=headers, raise_server_exceptions=False)
    service.store.close()


@pytest.mark.parametrize("path", ["/", "/docs", "/dashboard/page.js", "/v1/status", "/v1/nothing", "/openapi.json", "/healthz"])
def test_every_answer_carries_the_headers(client, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe-inline" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers
    assert ("no-store" in headers.get("cache-control", "")) == path.startswith("/v1")


def test_pages_hold_no_inline_script_or_style_and_no_outside_host(client) -> None:
    for path in ("/", "/docs"):
        page = client.get(path).text
        assert "<style" not in page and " style=" not in page and "onclick" not in page and "http://" not in page
        scripts = re.findall("<script[^>]*>", page)
        assert scripts or path == "/docs"
        assert all(' src="/' in tag for tag in scripts)


def test_page_of_another_origin_may_neither_read_nor_act(client) -> None:
    foreign = {"Origin": "http://evil.example"}
    asked = client.options("/v1/mode", headers={**foreign, "Access-Control-Request-Method": "PUT"})
    assert asked.status_code >= 400 and "access-control-allow-origin" not in asked.headers
    answer = client.put("/v1/mode", json={"mode": "watch", "reason": "evil"}, headers=foreign)
    assert answer.status_code == 403 and answer.json()["error"] == "ForeignOriginError"
    own = client.put("/v1/mode", json={"mode": "watch", "reason": "good"}, headers={"Origin": "http://testserver"})
    assert own.status_code == 200


def test_request_larger_than_allowed_is_413_whatever_its_header_says(client) -> None:
    assert client.post("/v1/forecasts", content=b"x" * 5000).status_code == 413

    def pieces():
        for _ in range(50):
            yield b"x" * 1000

    answer = client.post("/v1/forecasts", content=pieces())
    assert answer.status_code == 413 and answer.json()["error"] == "RequestTooLargeError"


def test_answer_to_a_fault_of_ours_tells_nothing_of_the_inside(client, monkeypatch) -> None:
    monkeypatch.setattr("service.api.zones_now", lambda _sources: 1 / 0)
    answer = client.get("/v1/zones")
    assert answer.status_code == 500 and "ZeroDivision" not in answer.text and "nosniff" in answer.headers.values()


# -- idempotency keys


def forecast() -> dict:
    return {"issued": "2026-02-02T15:00Z", "start": "2026-02-02T16:00Z", "series": {"outdoor_air_temperature": [-3.1, -3.4]}}


def test_same_key_and_request_are_done_once_and_answered_alike(client) -> None:
    first, again = (client.post("/v1/forecasts", json=forecast(), headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201) and first.json() == again.json()
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert client.get("/v1/audit").json()["n"] == 1


def test_key_that_stood_for_another_request_is_refused(client) -> None:
    client.post("/v1/forecasts", json=forecast(), headers={"Idempotency-Key": "k"})
    other = {**forecast(), "issued": "2026-02-02T14:00Z"}
    answer = client.post("/v1/forecasts", json=other, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422 and answer.json()["error"] == "KeyReusedError"


def test_refused_request_keeps_no_answer_and_may_be_sent_again(client) -> None:
    body = {"setting": "heating_setpoint", "value": 99, "until": "2026-02-02T18:00Z", "reason": "meeting"}
    assert client.post("/v1/overrides", json=body, headers={"Idempotency-Key": "k"}).status_code == 422
    assert client.post("/v1/overrides", json={**body, "value": 20}, headers={"Idempotency-Key": "k"}).status_code == 201


def test_new_token_is_shown_once_and_not_kept_for_its_key(client, tmp_path) -> None:
    body = {"name": "wall screen", "role": "viewer", "days": 30}
    first, again = (client.post("/v1/tokens", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    secret = first.json()["token"]
    assert again.json() == {**first.json(), "token": None}
    seen = TestClient(client.app).get("/v1/me", headers={"Authorization": f"Bearer {secret}"}).json()
    assert seen == {"name": "wall screen", "role": "viewer"}
    assert all(secret.encode() not in f.read_bytes() for f in tmp_path.iterdir() if f.is_file())


# -- as a process


class Running:
    """A service in a process of its own, with a password for its broker; ends with its block."""

    def __init__(self, folder: Path, **environ: str) -> None:
        (folder / "mqtt").write_text(PASSWORD)
        told = {"api__port": "0", **environ}
        program = folder / "serve.py"
        program.write_text(
            f"import sys\nfrom pathlib import Path\nsys.path.insert(0, {str(HERE)!r})\nimport logging, sites\n"
            "from service.app import serve\nlogging.basicConfig(level=logging.DEBUG)\nif __name__ == '__main__':\n"
            f"    config = sites.two_node_config(Path({str(folder)!r}), **{told!r})\n"
            f"    mqtt = config.mqtt.model_copy(update={{'username': 'gw', 'password': type(config.store.url)({PASSWORD!r})}})\n"
            "    serve(config.model_copy(update={'mqtt': mqtt}), lambda text: print(text, flush=True), sites.open_rc)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
        self.log = folder / "log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen([sys.executable, str(program)], stdout=out, stderr=out, env=environment)
        deadline = time.monotonic() + 120
        while "Page and API: " not in self.log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        self.url = self.log.read_text().partition("Page and API: ")[2].split()[0]
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_no_secret_is_in_the_log_or_in_ps(tmp_path) -> None:
    with Running(tmp_path) as running:
        token = (tmp_path / "token.first").read_text().strip()
        assert (tmp_path / "token.first").stat().st_mode & 0o077 == 0
        for shown in (token, "wrong-token-0123456789"):
            request = urllib.request.Request(running.url + "v1/me", headers={"Authorization": f"Bearer {shown}"})
            try:
                urllib.request.urlopen(request, timeout=30).read()
            except urllib.error.HTTPError as e:
                assert e.code == 401
        command = Path(f"/proc/{running.process.pid}/cmdline").read_bytes().decode()
        said = running.log.read_text()
    for secret in (token, "wrong-token-0123456789", PASSWORD, *(t["hash"] for t in _kept(tmp_path))):
        assert secret not in said and secret not in command


def _kept(folder: Path) -> list[dict[str, str]]:
    import json

    return json.loads((folder / "token").read_text())["tokens"]


@pytest.mark.faults("slow client")
def test_client_that_dawdles_is_cut_off_and_others_are_served(tmp_path, recovery) -> None:
    with Running(tmp_path, api__request_limit_s="1.5") as running:
        lines = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
        for i, line in enumerate(lines):
            line.sendall((b"GET /heal", b"POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")[i % 2])
        with recovery:
            assert urllib.request.urlopen(running.url + "healthz", timeout=30).read() == b"ok\n"
        for i, line in enumerate(lines):
            line.settimeout(30)
            said = line.recv(1000)
            assert said.startswith(b"HTTP/1.1 408") if i % 2 else said == b""
            line.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_service_with_a_certificate_speaks_https_only(tmp_path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    with Running(tmp_path, api__cert=str(cert), api__key=str(key)) as running:
        assert running.url.startswith("https://")
        answer = urllib.request.urlopen(running.url + "healthz", timeout=30, context=ssl.create_default_context(cafile=cert))
        assert answer.read() == b"ok\n" and "max-age" in answer.headers["Strict-Transport-Security"]
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(running.url + "healthz", timeout=30)
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(running.url.replace("https", "http") + "healthz", timeout=30)


# -- secrets by file, and out of the diagnostics


def test_secret_comes_from_a_file_and_does_not_show(tmp_path) -> None:
    (tmp_path / "secret").write_text(PASSWORD + "\n")
    config = load_config(None, {"SETWISE_MQTT__PASSWORD_FILE": str(tmp_path / "secret")})
    assert config.mqtt.password is not None and config.mqtt.password.get_secret_value() == PASSWORD
    assert PASSWORD not in repr(config) and PASSWORD not in config.model_dump_json()
    with pytest.raises(BadDescriptionError, match="SETWISE_MQTT__PASSWORD_FILE"):
        load_config(None, {"SETWISE_MQTT__PASSWORD_FILE": str(tmp_path / "none")})


def test_diagnostics_hold_what_helps_and_no_secret(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SETWISE_MQTT__PASSWORD", PASSWORD)
    weather = "https://weather.example/?apikey=0123456789abcdef"
    config = two_node_config(tmp_path, mqtt__password=PASSWORD, mqtt__username="gw", weather__url=weather)
    record, token = create_token(config.api.token_file, "anna", "admin")
    service = Service(config, TurnedClock(NOW), open_rc)
    service.store.close()
    names = collect(config, tmp_path / "out.zip")
    assert {"config.json", "doctor.json", "store.json", "packages.json", "tokens.json"} <= set(names)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "out.zip").read_bytes())) as z:
        whole = "\n".join(z.read(n).decode() for n in z.namelist())
    assert "anna" in whole and "SETWISE_MQTT__PASSWORD" in whole and '"readings": 0' in whole
    for secret in (PASSWORD, token, record.hash, config.store.url.get_secret_value(), "0123456789abcdef"):
        assert secret not in whole
    logging.getLogger().debug("done")
