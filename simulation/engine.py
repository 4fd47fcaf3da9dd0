"""One EnergyPlus process per run: a crash, a hang or a leak of the engine ends with its child process.

Run as a script this file *is* the child (it imports nothing but the engine: 0.2 s, 190 MB). `run_engine` is the parent's side.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

if __name__ != "__main__":
    from building.errors import FailedRunError


def run_engine(arguments: list[str], folder: Path, timeout_s: float = 300) -> str:
    """Run the engine in a child process and return its own words (warnings aside) from `eplusout.err`.

    Args:
        arguments: those of the energyplus command line.
        folder: where it writes.
        timeout_s: wall seconds until the child is killed.

    Raises:
        FailedRunError: killed by time or signal (a dangling schedule name is a segmentation fault), or a non-zero code.
    """
    command = [sys.executable, "-s", "-P", __file__, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=folder, check=False)
    except subprocess.TimeoutExpired as e:
        raise FailedRunError(reason=f"it took longer than {timeout_s:g} s and was killed", engine=engine_words(folder)) from e
    words = engine_words(folder)
    if done.returncode < 0:
        raise FailedRunError(reason=f"the engine died of signal {-done.returncode}", engine=words or done.stderr[-400:])
    if done.returncode:
        raise FailedRunError(reason=f"code {done.returncode}", engine=words or (done.stdout + done.stderr)[-400:].strip())
    return words


def engine_words(folder: Path) -> str:
    """Return the severe and fatal lines of `eplusout.err`, or nothing."""
    err = folder / "eplusout.err"
    if not err.exists():
        return ""
    kept, keep = [], False
    for line in err.read_text(encoding="utf-8", errors="replace").splitlines():
        if "** Severe" in line or "**  Fatal" in line:
            keep = True
        elif "~~~" not in line:
            keep = False
        if keep:
            kept.append(line.replace("*", "").replace("~", "").strip())
    return " | ".join(kept[:8])


def _be_the_engine() -> int:
    from pyenergyplus.api import EnergyPlusAPI

    api = EnergyPlusAPI()
    state = api.state_manager.new_state()
    api.runtime.set_console_output_status(state, False)
    return int(api.runtime.run_energyplus(state, sys.argv[1:]))


if __name__ == "__main__":
    code = _be_the_engine()
    # Skip the interpreter's own teardown: the library's destructors cost 50 ms and have nothing left to say.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
