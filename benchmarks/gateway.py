"""The gateway under load: a real mosquitto, QoS 1, the service pinned to one core, everything else on the others.

    python -m benchmarks gateway                          # 5,000 readings/s for 60 s, then on to 1,000,000 readings
    python -m benchmarks gateway --seconds 10 --total 0 --quiet 5   # a look

One message is one reading: JSON with a value and a stamp, half of the topics in ISO 8601 and half in milliseconds. A generator
publishes at a steady rate and counts what the broker acknowledged; meanwhile the API is read ten times a second as the page does,
over one connection, from the first reading on. Then the rate falls to what a building sends, for `--quiet` seconds.

    readings_per_s          readings in the store by the instants at which they reached the service
    lost                    acknowledged to the generator but not in the store
    commits_per_s           of the store
    api_p99_ms              99th percentile of the reads; p99_<route>_ms of each route
    api_max_ms              the slowest of them
    growth_mb               resident memory of the last tenth of the load less that of the second (medians)
    mb_written_per_million  bytes the service gave to the disk (/proc/PID/io) a reading: WAL, checkpoints, fsync
    mb_written_per_million_quiet  the same at `QUIET_RATE` readings a second: each commit touches the last page of each variable
    core_share              processor time of the service by wall time, API reads included
    cpu_us_per_reading      the same by reading
    load_average            of the machine in the last minute, at the end: how crowded it was
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
from typing import Any

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
QUIET_RATE = 50
"""Readings a second: each point of the office about once in a commit, the most pages a reading can touch."""
SERVICE_CORE = 0


def measure(rate: int = 5000, seconds: float = 60.0, total: int = 1_000_000, quiet_s: float = 30.0) -> dict[str, float]:
    """Return the figures of one run.

    Args:
        rate: readings per second.
        seconds: how long at least.
        total: readings at least.
        quiet_s: so long at `QUIET_RATE` afterwards.
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
            wait_for_service(port, lambda status: status["is_broker_connected"] is True, folder / "log")
            source = [sys.executable, "-m", "benchmarks.gateway", str(broker.port)]
            figures = _under_load(service.pid, port, [*source, str(rate), str(n), *names], store, n)
            if quiet_s > 0:
                few = round(QUIET_RATE * quiet_s)
                quiet = [*source, str(QUIET_RATE), str(few), *names]
                figures["mb_written_per_million_quiet"] = _written_while(service.pid, quiet, store, n + few) / few
            return figures | {"load_average": os.getloadavg()[0]}
        finally:
            service.terminate()
            service.wait(20)


def _under_load(pid: int, port: int, source: list[str], store: Path, n: int) -> dict[str, float]:
    written, commits = _written(pid), _commits(port)
    with subprocess.Popen(source, stdout=subprocess.PIPE, text=True) as generator:
        while generator.poll() is None and not _count(store):
            time.sleep(0.1)
        cpu, start = _cpu_s(pid), time.monotonic()
        reads_ms: list[float] = []
        resident_mb: list[float] = []
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while generator.poll() is None:
            begun = time.perf_counter()
            route = ROUTES[len(reads_ms) % len(ROUTES)]
            line.request("GET", route)
            answer = line.getresponse()
            answer.read()
            reads_ms.append((time.perf_counter() - begun) * 1e3)
            if answer.status != 200:
                sys.exit(f"{route} answered {answer.status}")
            resident_mb.append(_resident_mb(pid))
            time.sleep(max(0.0, READ_EVERY_S - (time.perf_counter() - begun)))
        acknowledged = int((generator.stdout.read() if generator.stdout else "0") or 0)
    cpu_s, loaded_s = _cpu_s(pid) - cpu, time.monotonic() - start
    kept = _drained(store, acknowledged)
    with sqlite3.connect(store) as c:
        first, last = c.execute("SELECT min(received), max(received) FROM readings").fetchone()
    tenth = max(1, len(resident_mb) // 10)
    by_route = {route.partition("?")[0].rpartition("/")[2]: reads_ms[i :: len(ROUTES)] for i, route in enumerate(ROUTES)}
    return {
        "readings": kept,
        "readings_per_s": kept / max(1e-3, (last - first) / 1e3),
        "lost": acknowledged - kept,
        "commits_per_s": (_commits(port) - commits) / max(1.0, (last - first) / 1e3),
        "api_p99_ms": float(np.percentile(reads_ms, 99)),
        "api_p50_ms": float(np.percentile(reads_ms, 50)),
        "api_max_ms": max(reads_ms),
        "api_reads": len(reads_ms),
        **{f"p99_{name}_ms": float(np.percentile(ms, 99)) for name, ms in by_route.items() if ms},
        "growth_mb": float(np.median(resident_mb[-tenth:]) - np.median(resident_mb[tenth : 2 * tenth])),
        "resident_mb": resident_mb[-1],
        "mb_written_per_million": (_written(pid) - written) / max(1, kept),  # bytes a reading are megabytes a million
        "core_share": cpu_s / loaded_s,
        "cpu_us_per_reading": cpu_s / max(1, n) * 1e6,
    }


def _written_while(pid: int, source: list[str], store: Path, wanted: int) -> int:
    """Return the bytes that the service gave to the disk while the generator ran."""
    before = _written(pid)
    subprocess.run(source, stdout=subprocess.DEVNULL, check=True)
    _drained(store, wanted)
    return _written(pid) - before


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


def wait_for_service(port: int, condition: Callable[[dict[str, Any]], bool], log: Path, timeout_s: float = 90.0) -> None:
    """Wait until the service on `port` answers and its status is as wanted; end with its log otherwise."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if condition(_read(port, "/v1/status")):
                return
        time.sleep(0.2)
    sys.exit(f"the service did not come up:\n{log.read_text(errors='replace')[-2000:]}")


def _drained(store: Path, wanted: int) -> int:
    """Return how many readings the store has, once it has `wanted` or nothing came for 20 s."""
    kept, since = -1, time.monotonic()
    while kept < wanted and time.monotonic() - since < 20:
        now = _count(store)
        if now != kept:
            kept, since = now, time.monotonic()
        time.sleep(0.5)
    return kept


def _count(store: Path) -> int:
    with contextlib.closing(sqlite3.connect(store)) as c:
        return int(c.execute("SELECT count(*) FROM readings").fetchone()[0])


def _read(port: int, route: str) -> dict[str, Any]:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    line.request("GET", route)
    return dict(json.loads(line.getresponse().read()))


def _commits(port: int) -> float:
    return float(_read(port, "/v1/status")["counters"]["store_commits_total"])


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
    parser.add_argument("--quiet", type=float, default=30.0, help="seconds at a building's rate afterwards (%(default)s)")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    print(figures_line(measure(chosen.rate, chosen.seconds, chosen.total, chosen.quiet), chosen.json))


def figures_line(figures: dict[str, float], is_json: bool) -> str:
    """Return figures as one line of key=value pairs, or as one JSON object."""
    if is_json:
        return json.dumps(figures)
    return " ".join(f"{k}={v:.4g}" if abs(v) < 1e4 else f"{k}={v:.0f}" for k, v in figures.items())


if __name__ == "__main__":
    print(generate(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
