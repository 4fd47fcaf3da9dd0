"""deploy/setwise.service: systemd understands it, it exposes little, and the service lives with what can be tried here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from served import ROOT, Served, clean_environment

UNIT = ROOT / "deploy" / "setwise.service"
TEXT = UNIT.read_text()
EXPOSURE = 14
"""Highest exposure allowed, in tenths; what is left is the network (the broker's address is the site's) and AF_UNIX."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@needs_systemd
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "setwise.service"
    unit.write_text(TEXT.replace("/opt/setwise/bin/setwise", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_unit_exposes_little() -> None:
    asked = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(UNIT)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot judge a file (older than 250)")
    assert done.returncode == 0, done.stdout[-300:]


def test_unit_writes_below_its_state_folder_only_and_stops_in_time() -> None:
    assert "StateDirectory=setwise" in TEXT and "WorkingDirectory=/var/lib/setwise" in TEXT and "ProtectSystem=strict" in TEXT
    assert not re.search(r"^ReadWritePaths=", TEXT, re.M)
    assert "User=setwise" in TEXT and "CapabilityBoundingSet=\n" in TEXT


def test_service_runs_where_memory_is_never_writable_and_executable_and_no_rights_are_gained(tmp_path: Path) -> None:
    # MemoryDenyWriteExecute and NoNewPrivileges, by the kernel's own switches; they pass on to the children that are jobs.
    wrapper = (
        "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.prctl(65, 1, 0, 0, 0) or libc.prctl(38, 1, 0, 0, 0):\n    sys.exit(77)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'setwise', *sys.argv[1:]])\n"
    )
    told = {"SETWISE_BUILDING__BUNDLE": str(ROOT / "bundles/medium_office"), "SETWISE_MQTT__PORT": "9"}
    asked = [sys.executable, "-c", wrapper, "doctor"]
    done = subprocess.run(asked, cwd=tmp_path, env=clean_environment(**told), capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"this kernel ({os.uname().release}) has no PR_SET_MDWE")
    assert "checksums good" in done.stdout, done.stdout + done.stderr  # the bundle was opened: onnxruntime lives with it
    with Served(tmp_path, told, [sys.executable, "-c", wrapper, "serve"]) as served:
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
