"""An MQTT broker for demos and tests, in a child process: mosquitto where it is installed, else amqtt.

Only offline code starts a broker; the gateway talks to one that is there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from building.errors import BrokerError

Kind = Literal["mosquitto", "amqtt"]


@dataclass(frozen=True)
class BrokerTls:
    """Certificate files (PEM) of a broker that encrypts."""

    cert: Path
    key: Path
    ca: Path | None = None  # given: clients must show a certificate of this authority (mosquitto only)


class Broker:
    """A running broker. `stop` ends it; `kill` ends it as a power cut would."""

    def __init__(self, kind: Kind, host: str, port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.kind = kind
        self.host = host
        self.port = port
        self.process = process
        self.folder = folder

    def stop(self) -> None:
        """End the broker and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker at once."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        shutil.rmtree(self.folder, ignore_errors=True)


def find_mosquitto() -> str | None:
    """Return the path of mosquitto, or None. Debian keeps it in /usr/sbin, which is not on every user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def start_broker(
    port: int | None = None, kind: Kind | None = None, tls: BrokerTls | None = None, users: dict[str, str] | None = None
) -> Broker:
    """Start a broker on localhost and wait until it answers.

    Args:
        port: None for a free one.
        kind: None for mosquitto where it is installed, else amqtt.
        tls: None for plain TCP.
        users: name and password of those who may connect; None lets everyone in. mosquitto only.

    Raises:
        BrokerError: it did not come up, or it cannot do what was asked.
    """
    port = port or free_port()
    kind = kind or ("mosquitto" if find_mosquitto() else "amqtt")
    folder = Path(tempfile.mkdtemp(prefix="setwise-broker-"))
    said = folder / "log"
    command = _mosquitto(port, folder, tls, users) if kind == "mosquitto" else _amqtt(port, tls, users)
    with said.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=Path(__file__).resolve().parent.parent
        )
    broker = Broker(kind, "127.0.0.1", port, process, folder)
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((broker.host, port), timeout=0.2).close()
        except OSError:
            time.sleep(0.02)
        else:
            return broker
    tail = said.read_text(errors="replace")[-400:].strip()
    broker.kill()
    raise BrokerError(host=broker.host, port=port, reason=f"{kind} did not come up: {tail or 'it said nothing'}")


def free_port() -> int:
    """Return a TCP port of localhost that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _mosquitto(port: int, folder: Path, tls: BrokerTls | None, users: dict[str, str] | None) -> list[str]:
    lines = [f"listener {port} 127.0.0.1", "set_tcp_nodelay true", "max_queued_messages 0", "max_inflight_messages 20000"]
    if users is None:
        lines.append("allow_anonymous true")
    else:
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        maker = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
        for name, password in users.items():
            subprocess.run([maker, "-b", str(passwords), name, password], check=True, capture_output=True)
        lines += ["allow_anonymous false", f"password_file {passwords}"]
    if tls is not None:
        lines += [f"certfile {tls.cert}", f"keyfile {tls.key}"]
        if tls.ca is not None:
            lines += [f"cafile {tls.ca}", "require_certificate true"]
    if os.geteuid() == 0:
        lines.append("user root")  # else it changes to its own user, who may not read our folder
    file = folder / "mosquitto.conf"
    file.write_text("\n".join(lines) + "\n")
    found = find_mosquitto()
    if found is None:
        raise BrokerError(host="127.0.0.1", port=port, reason="mosquitto is not installed")
    return [found, "-c", str(file)]


def _amqtt(port: int, tls: BrokerTls | None, users: dict[str, str] | None) -> list[str]:
    if users is not None or (tls is not None and tls.ca is not None):
        raise BrokerError(host="127.0.0.1", port=port, reason="users and client certificates need mosquitto")
    listener: dict[str, object] = {"type": "tcp", "bind": f"127.0.0.1:{port}"}
    if tls is not None:
        listener |= {"ssl": True, "certfile": str(tls.cert), "keyfile": str(tls.key)}
    config = {
        "listeners": {"default": listener},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    return [sys.executable, "-m", "proof.broker", json.dumps(config)]


def _serve_amqtt(config: dict[str, object]) -> None:
    """Run amqtt until SIGTERM, or until the parent is gone."""
    import asyncio
    import logging

    from amqtt.broker import Broker as Amqtt

    logging.disable(logging.WARNING)  # it formats a debug line per packet otherwise

    async def serve() -> None:
        broker = Amqtt(config)
        await broker.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C ends the parent, and the parent ends us
        parent = os.getppid()
        while not stop.is_set() and os.getppid() == parent:
            try:
                await asyncio.wait_for(stop.wait(), 1.0)
            except TimeoutError:
                continue
        await broker.shutdown()

    asyncio.run(serve())


if __name__ == "__main__":
    _serve_amqtt(json.loads(sys.argv[1]))
