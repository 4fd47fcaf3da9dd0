"""`setwise serve` as a person starts it: a process of its own, told by the environment, with its page on a free port."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def clean_environment(**told: str) -> dict[str, str]:
    """This process's environment without SETWISE_*, with `setwise` of this environment on the PATH."""
    here = {k: v for k, v in os.environ.items() if not k.startswith("SETWISE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{here['PATH']}"
    return here | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | told


class Served:
    """A service in `folder`; ends with its block. `command` starts it, the way under test."""

    def __init__(self, folder: Path, environ: dict[str, str], command: list[str] | None = None) -> None:
        self.log = folder / "service.log"
        self.environ = clean_environment(SETWISE_API__PORT="0") | environ
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command or [sys.executable, "-m", "setwise", "serve"], cwd=folder, env=self.environ, stdout=out, stderr=out
            )
        until(lambda: "Page and API: " in self.log.read_text() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"Page and API: (https?://\S+?)/?\s", self.log.read_text())
        assert found is not None
        self.url = found[1]

    def get(self, path: str, token: str) -> Any:
        """The answer of the API, from JSON."""
        asked = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.load(answer)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(is_so: Callable[[], bool], limit_s: float) -> bool:
    """Wait until it is so; say whether it came to be within `limit_s`, which is generous: machines are busy."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.1)
    return is_so()
