"""A gateway for demos: `setwise serve` as its own process, commissioned for a plant and asked over HTTP as users ask it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from building.errors import ServiceFailedError
from building.plan import WeekProfile
from proof.broker import Broker, free_port
from proof.plants import WEEK_H, Plant

VALID_FOR = pd.Timedelta(minutes=90)
"""How long a setpoint holds after the start of its hour; a BMS reads from it which hour it was for."""
COMMIT_S = 2.0
START_LIMIT_S = 60.0
STEP_LIMIT_S = 30.0
JOB_LIMIT_S = 2000.0
"""More than the service itself gives a job: it ends one that hangs, and says so in the journal."""


class Gateway:
    """`setwise serve` as its own process, asked over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int, token_file: Path) -> None:
        self._process = process
        self._token_file = token_file
        self._log = log
        self.address = f"http://127.0.0.1:{port}/"

    @property
    def token(self) -> str:
        """The access token, as the service left it in a file at its first start."""
        return self._token_file.read_text(encoding="utf-8").strip() if self._token_file.exists() else ""

    def get(self, path: str) -> Any:
        """Return the JSON of a GET."""
        return self._ask(urllib.request.Request(self.address + path.lstrip("/")))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the JSON of a POST."""
        data = json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(self.address + path.lstrip("/"), data, headers, method="POST"))

    def _ask(self, request: urllib.request.Request) -> Any:
        request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            raise ServiceFailedError(reason=f"{request.full_url} answered {e.code}: {e.read().decode()[:400]}") from e
        except OSError as e:
            raise ServiceFailedError(reason=f"{request.full_url}: {e}. {self.last_words()}") from e

    def wait_until_up(self) -> None:
        """Wait for /healthz. Raises ServiceFailedError with the service's last words."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.address + "healthz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise ServiceFailedError(reason=f"it did not come up. {self.last_words()}")

    def wait_for_readings(self, until: pd.Timestamp) -> None:
        """Wait until the last hour before `until` is in the store."""
        wanted = until - pd.Timedelta(hours=1)
        deadline = time.monotonic() + STEP_LIMIT_S
        while time.monotonic() < deadline:
            last = self.get("/v1/status")["last_reading"]
            if last is not None and pd.Timestamp(last) >= wanted:
                time.sleep(COMMIT_S)  # what arrived with it is committed within this time
                return
            time.sleep(0.2)
        raise ServiceFailedError(reason=f"the readings of {wanted} did not arrive within {STEP_LIMIT_S:g} s")

    def newest_job(self, kind: str) -> int:
        """Return the newest job of a kind, waiting for it to appear."""
        deadline = time.monotonic() + STEP_LIMIT_S
        while time.monotonic() < deadline:
            jobs = self.get(f"/v1/jobs?kind={kind}&limit=1")
            if jobs:
                return int(jobs[0]["id"])
            time.sleep(0.2)
        raise ServiceFailedError(reason=f"no {kind} job was started")

    def follow(self, job: int) -> str:
        """Wait for a job and return its outcome: done or refused. Raises ServiceFailedError for any other end."""
        deadline = time.monotonic() + JOB_LIMIT_S
        while time.monotonic() < deadline:
            found = self.get(f"/v1/jobs/{job}")
            if found["outcome"] in ("done", "refused"):
                return str(found["outcome"])
            if found["outcome"] != "running":
                raise ServiceFailedError(reason=f"job {job} ({found['kind']}) ended as {found['outcome']}: {found['log'][-600:]}")
            time.sleep(0.3)
        raise ServiceFailedError(reason=f"job {job} took longer than {JOB_LIMIT_S:g} s")

    def last_words(self) -> str:
        """Return the end of the service's log."""
        return "Its last words: " + self._log.read_text(encoding="utf-8", errors="replace")[-800:].strip()


@contextmanager
def commissioned(folder: Path, plant: Plant, broker: Broker, bundle: Path) -> Iterator[Gateway]:
    """Commission and start the service: the building's description with its operator's own schedule, the bundle, the broker."""
    site = folder / plant.building.name
    shutil.copytree(plant.building.folder, site)
    (site / "baseline.toml").write_text(_toml(plant.habits), encoding="utf-8")
    port = free_port()
    environment = os.environ | {
        "SETWISE_BUILDING__NAME": str(site),
        "SETWISE_BUILDING__BUNDLE": str(bundle.resolve()),
        "SETWISE_MQTT__HOST": broker.host,
        "SETWISE_MQTT__PORT": str(broker.port),
        "SETWISE_STORE__URL": f"sqlite:///{folder / 'setwise.db'}",
        "SETWISE_API__PORT": str(port),
        "SETWISE_API__TOKEN_FILE": str(folder / "token"),
        "SETWISE_JOBS__CALIBRATION": "never",
        "SETWISE_JOBS__PLAN": "never",
        "SETWISE_JOBS__COMPACTION": "never",
        "SETWISE_JOBS__BACKUP": "never",
        "SETWISE_JOBS__SAVINGS": "never",
        "SETWISE_JOBS__WEATHER": "never",
        "SETWISE_JOBS__THREADS": str(os.cpu_count() or 1),
        "SETWISE_GUARD__MAX_PLAN_AGE_H": str(WEEK_H + 1),
        "SETWISE_PUBLISH__STEP_MIN": "60",
        "SETWISE_PUBLISH__VALID_FOR_MIN": str(int(VALID_FOR / pd.Timedelta(minutes=1))),
        "SETWISE_CLOCK__SOURCE": "topic",
    }
    log = folder / "service.log"
    with open(log, "wb") as out:
        command = [sys.executable, "-m", "setwise", "serve"]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        service = Gateway(process, log, port, folder / "token.first")
        service.wait_until_up()
        yield service
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _toml(profile: WeekProfile) -> str:
    tables = profile.to_dict()
    return "\n".join(
        f"[{name}]\n" + "".join(f"{day} = {hours}\n" for day, hours in days.items()) for name, days in tables.items()
    )
