"""Memory of the gateway: the service of the medium office, and one job beside it, with the bundle that ships.

    python -m benchmarks memory        # some minutes: a calibration, a plan, a what-if question

The store is filled with the four weeks of examples/measured.csv, moved so that they end now; memory is looked at five times a
second.

    service_mb           resident memory of the service, most seen while no job runs
    calibration_job_mb   of a calibration's process, most seen
    plan_job_mb          of a plan search's process
    what_if_mb           of the warm process that answers what-if questions
    service_and_job_mb   service and job together, most seen (resident: what both map is counted twice)
    service_and_job_pss_mb  the same with shared pages counted once, as a container's limit does
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks.gateway import figures_line, wait_for_service
from proof.broker import free_port
from service.store import Reading, SqlStore

ROOT = Path(__file__).resolve().parent.parent
EVERY_S = 0.2


class _Scale:
    """Looks at a process and its children again and again."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.alone_mb = self.child_mb = self.together_mb = self.together_pss_mb = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Scale:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(EVERY_S):
            try:
                own = self._process.memory_full_info()
                children = [
                    c.memory_full_info() for c in self._process.children() if "resource_tracker" not in " ".join(c.cmdline())
                ]
            except psutil.NoSuchProcess:
                continue
            most = max((c.rss for c in children), default=0)
            if not children:
                self.alone_mb = max(self.alone_mb, own.rss / 1e6)
            self.child_mb = max(self.child_mb, most / 1e6)
            self.together_mb = max(self.together_mb, (own.rss + most) / 1e6)
            self.together_pss_mb = max(self.together_pss_mb, (own.pss + max((c.pss for c in children), default=0)) / 1e6)


def measure() -> dict[str, float]:
    """Return the figures of one run."""
    with tempfile.TemporaryDirectory() as place:
        folder, port = Path(place), free_port()
        _fill(f"sqlite:///{folder / 'setwise.db'}")
        told = {
            "SETWISE_STORE__URL": f"sqlite:///{folder / 'setwise.db'}",
            "SETWISE_MQTT__PORT": 9,  # nobody there
            "SETWISE_API__PORT": port,
            "SETWISE_API__TOKEN_FILE": folder / "token",
            "SETWISE_API__IS_OPEN": "true",
            "SETWISE_JOBS__MEMORY_LIMIT_MB": 5000,
            **{f"SETWISE_JOBS__{kind}": "never" for kind in ("CALIBRATION", "PLAN", "COMPACTION", "BACKUP")},
        }
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "setwise", "serve"],
                env={**os.environ, **{k: str(v) for k, v in told.items()}},
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for_service(port, lambda status: True, folder / "log")
            return _through_jobs(service.pid, port)
        finally:
            service.terminate()
            service.wait(30)


def _through_jobs(pid: int, port: int) -> dict[str, float]:
    found: dict[str, float] = {}
    together, pss, alone = 0.0, 0.0, 0.0
    for kind, route in (("calibration", "/v1/calibrations"), ("plan", "/v1/plans")):
        while _ask(port, "/v1/status")["running"]:  # an accepted calibration plans at once
            time.sleep(1)
        with _Scale(pid) as scale:
            for page in ("/v1/status", "/v1/points", "/v1/zones", "/v1/setpoints", "/metrics"):
                _ask(port, page)
            time.sleep(5 * EVERY_S)
            job = _ask(port, route, "POST")["job"]
            while (seen := _ask(port, f"/v1/jobs/{job}"))["ended"] is None:
                time.sleep(1)
        if seen["outcome"] not in ("done", "refused"):
            sys.exit(f"the {kind} {seen['outcome']}: {seen['log']}")
        found[f"{kind}_job_mb"], found[f"{kind}_s"] = scale.child_mb, seen["duration_s"]
        together, pss = max(together, scale.together_mb), max(pss, scale.together_pss_mb)
        alone = max(alone, scale.alone_mb)
    with _Scale(pid) as scale:
        _ask(port, "/v1/what-if", "POST", {"base": "own", "changes": []})
        time.sleep(5 * EVERY_S)
    return {
        "service_mb": alone,
        **found,
        "what_if_mb": scale.child_mb,
        "service_and_job_mb": together,
        "service_and_job_pss_mb": pss,
    }


def _fill(url: str) -> None:
    frame = pd.read_csv(ROOT / "examples" / "measured.csv", index_col="time", parse_dates=True)
    index = pd.DatetimeIndex(frame.index)
    index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
    frame.index = index + (pd.Timestamp.now(tz="UTC").floor("h") - pd.Timedelta(hours=1) - index[-1])
    store = SqlStore(url)
    store.add_readings([Reading(str(name), t, float(v), t) for name in frame for t, v in frame[name].dropna().items()])
    store.close()


def _ask(port: int, route: str, method: str = "GET", body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{route}", method=method)
    if body is not None:
        request.data, request.headers["Content-type"] = json.dumps(body).encode(), "application/json"
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
    except urllib.error.HTTPError as e:
        sys.exit(f"{route} answered {e.code}: {e.read().decode(errors='replace')[:500]}")
    return text if route == "/metrics" else json.loads(text)


def main(arguments: list[str]) -> None:
    """Measure and print one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true")
    print(figures_line(measure(), parser.parse_args(arguments).json))
