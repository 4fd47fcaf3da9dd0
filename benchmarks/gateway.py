"""The gateway under load: a real mosquitto, QoS 1, the service pinned to one core, everything else on the others.

    python -m benchmarks gateway                          # 5,000 readings/s for 60 s, then on to 1,000,000 readings
    python -m benchmarks gateway --seconds 5 --total 0    # a look

One message is one reading: JSON with a value and a stamp, half of the topics in ISO 8601 and half in milliseconds. A generator
publishes at a steady rate and counts what the broker acknowledged; meanwhile the API is read ten times a second as the page does.

    readings_per_s          readings by the instants at which they reached the service
    lost                    acknowledged to the generator but not in the store
    commits_per_s           of the store
    api_p99_ms              99th percentile of the reads, connection kept open
    growth_mb               resident memory at the end less that after the first tenth
    mb_written_per_million  bytes the service gave to the disk (/proc/PID/io), WAL and checkpoints included
    cpu_us_per_reading      user and system time of the service, API reads included
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from building.description import load_building
from building.variables import Role
from proof.broker import find_mosquitto, free_port, start_broker

ROUTES = (
    "/v1/status",
    "/v1/zones",
    "/v1/points",
    "/v1/setpoints",
    "/v1/series?variable=core_mid_air_temperature&variable=outdoor_air_temperature",
    "/healthz",
)
READ_EVERY_S = 0.1
SERVICE_CORE = 0


def measure(rate: int = 5000, seconds: float = 60.0, total: int = 1_000_000) -> dict[str, float]:
    """Return the figures of one run.

    Args:
        rate: readings per second.
        seconds: how long at least.
        total: readings at least.
    """
    others = sorted(os.sched_getaffinity(0) - {SERVICE_CORE})
    if not others or find_mosquitto() is None:
        sys.exit("the benchmark needs two cores and mosquitto")
    os.sched_setaffinity(0, others)  # this process, and with it broker and generator
    n = max(round(rate * seconds), total)
    with tempfile.TemporaryDirectory() as place, start_broker(kind="mosquitto") as broker:
        folder, port = Path(place), free_port()
        store = folder / "setwise.db"
        names = _write_points(folder / "points.toml")
        told = {
            "SETWISE_BUILDING__POINTS": folder / "points.toml",
            "SETWISE_STORE__URL": f"sqlite:///{store}",
            "SETWISE_MQTT__HOST": "127.0.0.1",
            "SETWISE_MQTT__PORT": broker.port,
            "SETWISE_API__PORT": port,
            "SETWISE_API__TOKEN_FILE": folder / "token",
            "SETWISE_API__IS_OPEN": "true",
            "SETWISE_JOBS__CALIBRATION": "never",
            "SETWISE_JOBS__PLAN": "never",
            "SETWISE_INGEST__COMMIT_READINGS": 2 * rate,
        }
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "setwise", "serve"],
                env={**os.environ, **{k: str(v) for k, v in told.items()}},
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, {SERVICE_CORE}),
            )
        try:
            _wait(lambda: _read(port, "/v1/status").get("is_broker_connected") is True, 60, folder / "log")
            return _under_load(service.pid, port, broker.port, store, names, rate, n)
        finally:
            service.terminate()
            service.wait(20)


def _under_load(pid: int, port: int, broker_port: int, store: Path, names: list[str], rate: int, n: int) -> dict[str, float]:
    written, cpu, commits = _written(pid), _cpu_s(pid), _commits(port)
    command = [sys.executable, "-m", "benchmarks.gateway", str(broker_port), str(rate), str(n), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
        reads_ms: list[float] = []
        resident_mb: list[float] = []
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while generator.poll() is None:
            start = time.perf_counter()
            line.request("GET", ROUTES[len(reads_ms) % len(ROUTES)])
            answer = line.getresponse()
            answer.read()
            if answer.status != 200:
                sys.exit(f"{ROUTES[len(reads_ms) % len(ROUTES)]} answered {answer.status}")
            reads_ms.append((time.perf_counter() - start) * 1e3)
            resident_mb.append(_resident_mb(pid))
            time.sleep(max(0.0, READ_EVERY_S - (time.perf_counter() - start)))
        acknowledged = int((generator.stdout.read() if generator.stdout else "0") or 0)
    kept = _drained(store, acknowledged)
    with sqlite3.connect(store) as c:
        first, last = c.execute("SELECT min(received), max(received) FROM readings").fetchone()
    tenth = max(1, len(resident_mb) // 10)
    return {
        "readings_per_s": kept / max(1e-3, (last - first) / 1e3),
        "lost": acknowledged - kept,
        "commits_per_s": (_commits(port) - commits) / max(1.0, (last - first) / 1e3),
        "api_p99_ms": float(np.percentile(reads_ms, 99)),
        "api_p50_ms": float(np.percentile(reads_ms, 50)),
        "api_reads": len(reads_ms),
        "growth_mb": float(np.median(resident_mb[-tenth:]) - np.median(resident_mb[tenth : 2 * tenth])),
        "resident_mb": resident_mb[-1],
        "mb_written_per_million": (_written(pid) - written) / max(1, kept),  # bytes a reading are megabytes a million
        "cpu_us_per_reading": (_cpu_s(pid) - cpu) / max(1, kept) * 1e6,
        "readings": kept,
    }


def _write_points(file: Path) -> list[str]:
    building = load_building("medium_office")
    variables = [v for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER]
    lines = ['building = "medium_office"', 'listen = ["load/+"]', "[points]"]
    for i, v in enumerate(variables):
        lines.append(
            f'{v.name} = {{ topic = "load/{v.name}", value = "v", time = "t", time_format = "{"ms" if i % 2 else "iso"}" }}'
        )
    file.write_text("\n".join(lines))
    return [f"{v.name}={(v.low + v.high) / 2!r}={(v.high - v.low) / 100!r}" for v in variables]


def generate(port: int, rate: int, n: int, names: list[str]) -> int:
    """Publish `n` messages at `rate` per second with QoS 1; return how many the broker acknowledged.

    MQTT 3.1.1 by hand: a generator that costs more than the service would measure itself.
    """
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client = b"load"
    line.sendall(b"\x10" + bytes([12 + len(client)]) + b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack(">H", len(client)) + client)
    if line.recv(4)[:1] != b"\x20":
        sys.exit("the broker refuses the generator")
    line.setblocking(False)
    variables = [(f"load/{name}".encode(), float(middle), float(step)) for name, middle, step in (x.split("=") for x in names)]
    start, begun_ms = time.monotonic(), time.time_ns() // 1_000_000
    sent = acknowledged = 0
    out = b""
    while acknowledged < n and time.monotonic() - start < n / rate + 60:
        due = min(n, int((time.monotonic() - start) * rate))
        packets = [out]
        for i in range(sent, min(due, sent + 2000)):
            topic, middle, step = variables[i % len(variables)]
            turn = i // len(variables)
            value, stamp = middle + step * (turn % 40 - 20), begun_ms + turn * 1000 * len(variables) // rate
            if i % len(variables) % 2:
                told = f'{{"v": {value:.4f}, "t": {stamp}}}'
            else:
                second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(stamp // 1000))
                told = f'{{"v": {value:.4f}, "t": "{second}.{stamp % 1000:03d}Z"}}'
            body = struct.pack(">H", len(topic)) + topic + struct.pack(">H", i % 65535 + 1) + told.encode()
            packets.append(
                b"\x32" + (bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])) + body
            )
            sent += 1
        out = b"".join(packets)
        with contextlib.suppress(BlockingIOError):
            out = out[line.send(out) :] if out else b""
        try:
            acknowledged += (
                len(line.recv(65536)) // 4
            )  # nothing but PUBACKs, four bytes each; a split one is counted with the next
        except BlockingIOError:
            time.sleep(0.005)
    return acknowledged


def _wait(condition: Callable[[], bool], timeout_s: float, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    sys.exit(f"the service did not come up:\n{log.read_text(errors='replace')[-2000:]}")


def _drained(store: Path, wanted: int) -> int:
    """Return how many readings the store has, once it has `wanted` or nothing came for 20 s."""
    with sqlite3.connect(store) as c:
        kept, since = -1, time.monotonic()
        while kept < wanted and time.monotonic() - since < 20:
            now = int(c.execute("SELECT count(*) FROM readings").fetchone()[0])
            if now != kept:
                kept, since = now, time.monotonic()
            time.sleep(0.5)
    return kept


def _read(port: int, route: str) -> dict[str, object]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    line.request("GET", route)
    return dict(json.loads(line.getresponse().read()))


def _commits(port: int) -> float:
    counters = _read(port, "/v1/status")["counters"]
    return float(counters["store_commits_total"]) if isinstance(counters, dict) else 0.0


def _written(pid: int) -> int:
    lines = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(lines["write_bytes"])


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: list[str]) -> None:
    """Measure and print one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gateway", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=5000, help="readings per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="at least so long (%(default)s)")
    parser.add_argument("--total", type=int, default=1_000_000, help="at least so many readings (%(default)s)")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    figures = measure(chosen.rate, chosen.seconds, chosen.total)
    print(
        json.dumps(figures)
        if chosen.json
        else " ".join(f"{k}={v:.4g}" if v < 1e4 else f"{k}={v:.0f}" for k, v in figures.items())
    )


if __name__ == "__main__":
    print(generate(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
