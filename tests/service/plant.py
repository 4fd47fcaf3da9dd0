"""A plant that talks to a broker while the service is broken: sensors that know what was acknowledged, a watcher of setpoints."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pandas as pd
import sqlalchemy as sa
from children import serve_for_good
from sites import fill, lived

from building.description import load_building
from building.plan import Plan
from proof.broker import find_mosquitto, free_port
from service.store import SqlStore, Store

STREAMS = ("zone_air_temperature", "zone_co2", "outdoor_air_temperature", "facility_electricity")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["service.app", "service.store.backup", "alembic.command", "simulation.rc"])
"""Children are forked from a process that has imported the service already: fifty starts cost fifty starts, not fifty imports."""

Rows = set[tuple[str, int, float]]


def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Wait for what `condition` returns, if it is true in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    found = condition()
    assert found, "it did not happen in time"
    return found


class Mosquitto:
    """A broker that comes back as it was, on the same port, its queue and sessions on disk when it is ended in order."""

    def __init__(self, folder: Path) -> None:
        self.port, self._folder = free_port(), folder
        folder.mkdir()
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true", "max_queued_messages 0"]
        lines += ["max_inflight_messages 20000", "persistence true", f"persistence_location {folder}/", "user root"]
        (folder / "mosquitto.conf").write_text("\n".join(lines if os.geteuid() == 0 else lines[:-1]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(find_mosquitto()), "-c", str(self._folder / "mosquitto.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._answers, 15)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=0.2).close()
        except OSError:
            return False
        return True

    def end(self, how: signal.Signals) -> None:
        """End it: SIGTERM in order, SIGKILL as a power cut would."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None

    def forget(self) -> None:
        """Lose what it kept on disk."""
        (self._folder / "mosquitto.db").unlink(missing_ok=True)


class Sensors:
    """Four sensors, QoS 1, a stamp and a value of their own each time; what the broker acknowledged is `acknowledged`."""

    def __init__(self, port: int, per_s: float = 200.0) -> None:
        self.sent = 0
        self._acknowledged: Rows = set()
        self._waiting: dict[int, tuple[str, int, float]] = {}
        self._answers: deque[int] = deque()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._pause_s = 1 / per_s
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="sensors", clean_session=False)
        self.client.on_publish = lambda _c, _u, mid, *_: self._answers.append(mid)  # paho holds a lock here: only noted
        self.client.max_inflight_messages_set(1000)
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def acknowledged(self) -> Rows:
        """Return what the broker has acknowledged."""
        with self._lock:
            for _ in range(len(self._answers)):
                mid = self._answers.popleft()
                row = self._waiting.pop(mid, None)
                if row is None:
                    self._answers.append(mid)  # it came before `say` had noted what it is about
                else:
                    self._acknowledged.add(row)
            return set(self._acknowledged)

    def _run(self) -> None:
        while not self._is_over.wait(self._pause_s):
            self.say()

    def say(self) -> None:
        """Send one reading."""
        now_ms, name = time.time_ns() // 1_000_000, STREAMS[self.sent % len(STREAMS)]
        value = 400.0 + self.sent % 97 if name == "zone_co2" else 18.0 + self.sent % 83 / 16
        stamp = pd.Timestamp(now_ms, unit="ms", tz="UTC").isoformat()
        self.sent += 1
        mid = self.client.publish(f"site/{name}", json.dumps({"value": value, "time": stamp}), qos=1).mid
        with self._lock:
            self._waiting[mid] = (name, now_ms, value)

    def stop_talking(self) -> Rows:
        """End the stream; return all that was sent, once the broker has acknowledged it."""
        self._is_over.set()
        self._thread.join()
        until(lambda: self.acknowledged and not self._waiting)
        return self.acknowledged

    def __enter__(self) -> Sensors:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.client.disconnect()
        self.client.loop_stop()


class Watcher:
    """Hears every setpoint; `faults` are those no plant should get: none at all, beyond its limits, crossed, or out of time."""

    def __init__(self, port: int, clock: Callable[[], pd.Timestamp] = lambda: pd.Timestamp.now(tz="UTC")) -> None:
        self.settings = {v.name: v for v in load_building("two_node").settings}
        self.faults: list[str] = []
        self.heard: list[tuple[str, float, str]] = []
        self.last: dict[str, float] = {}
        self.n_beats = 0
        self._clock = clock
        self._is_ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="watcher", clean_session=False)
        self.client.on_connect = lambda c, *_: c.subscribe([("site/+/set", 1), ("setwise/+/heartbeat", 0)])
        self.client.on_subscribe = lambda *_: self._is_ready.set()
        self.client.on_message = self._hear
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._is_ready.wait(20)

    def _hear(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        if message.topic.endswith("heartbeat"):
            self.n_beats += 1
            return
        try:
            said, name = json.loads(message.payload), message.topic.split("/")[1]
            if said["value"] is None:  # released: nothing holds any more
                return
            limits, value, until_when = self.settings[name], float(said["value"]), pd.Timestamp(said["valid_until"])
            if not limits.low <= value <= limits.high:
                self.faults.append(f"{name} = {value} is outside {limits.low} .. {limits.high}")
            ahead = until_when - self._clock()
            if not pd.Timedelta(0) < ahead <= pd.Timedelta(hours=2):
                self.faults.append(f"{name} holds until {until_when}, {ahead} from now")
            self.last[name] = value
            self.heard.append((name, value, str(said["plan"])))
            if self.last.get("heating_setpoint", 0.0) > self.last.get("cooling_setpoint", 99.0):
                self.faults.append(f"crossed: {self.last}")
        except Exception as e:
            self.faults.append(f"{message.topic} {message.payload[:80]!r}: {type(e).__name__} {e}")

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class Served:
    """The real service (`service.app.serve`) in a process of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder, self.environ = folder, {"api__port": "0", "api__is_open": "true", **environ}
        self.start()

    def start(self) -> None:
        """Start it; returns at once."""
        self._receiver, sender = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=serve_for_good, args=(self.folder, self.environ, sender), daemon=False)
        self.process.start()
        sender.close()

    def url(self) -> str:
        """Return the address of the API, once there is one."""
        while True:
            said: str = self._receiver.recv()
            if said.startswith("Page"):
                return said.split()[-1]

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        self._receiver.close()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.kill()


def with_a_plan(store: Store) -> None:
    """Fill a store so that an optimised plan is in force now."""
    now = pd.Timestamp.now(tz="UTC")
    fill(store, lived(now, hours=24))
    store.add_calibration({"parameters": {}}, now, is_accepted=True)
    index = pd.date_range(now.floor("h"), periods=168, freq="h")
    row = {"heating_setpoint": 19.0, "cooling_setpoint": 26.0, "system_on": 1.0, "outdoor_air_flow": 3.0}
    store.add_plan(Plan(pd.DataFrame({**row, "supply_air_temperature": 15.0}, index=index), "optimised", now), now)


def kept(url: str) -> Rows:
    """Return what the store holds of the sensors' readings, believed."""
    engine = sa.create_engine(url)
    try:
        with engine.connect() as c:
            rows = c.exec_driver_sql("SELECT variable, stamp, value FROM readings WHERE flag IN ('good', 'late')").all()
    finally:
        engine.dispose()
    return {(r[0], r[1], r[2]) for r in rows if r[0] in STREAMS}


def damage_plan(file: Path) -> None:
    """Put the newest plan far beyond every limit, as a broken program or a hostile hand could; twice puts it right again."""
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as c:
        (text,) = c.execute("SELECT json FROM plans ORDER BY id DESC LIMIT 1").fetchone()
        data = json.loads(text)
        heating = np.array(data["settings"]["heating_setpoint"])
        data["settings"]["heating_setpoint"] = (19.0 if heating[0] > 50 else 80.0) + 0 * heating
        data["settings"]["heating_setpoint"] = data["settings"]["heating_setpoint"].tolist()
        c.execute("UPDATE plans SET json = ? WHERE id = (SELECT max(id) FROM plans)", (json.dumps(data),))
        c.commit()


@contextlib.contextmanager
def small_disk(folder: Path, mb: int) -> Iterator[Path]:
    """Give a file system of `mb` MB of its own. Raises OSError where we may not mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mb}m", "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"no file system of our own can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def fill_up(folder: Path) -> Path:
    """Take all the room of a file system; return the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            if not out.write(b"\0" * 4096):
                break
    return ballast


def store_in(folder: Path) -> SqlStore:
    """Return the store of the site in `folder` (sites.two_node_config)."""
    return SqlStore(f"sqlite:///{folder / 'setwise.db'}")
