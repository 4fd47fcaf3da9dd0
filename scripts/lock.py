"""Write or check deploy/gateway.lock: every dependency of the gateway, pinned, with the hashes of its wheels for amd64 and arm64.

    python scripts/lock.py            resolve pyproject.toml anew and write the lock
    python scripts/lock.py --check    every pin still has wheels for both, and nothing that pyproject.toml wants is missing

Fails where a dependency has no wheel for one of the two: the image installs wheels only, so it compiles nothing, and a release
for arm64 needs no arm64 to be prepared. Needs a package index (pip's own settings say which); standard library and pip only.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pip._vendor.packaging.markers import default_environment
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
from requirements import requirements, tomllib

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "gateway.lock"
PYTHON = "3.13"
"""That of the image (PYTHON_IMAGE in the Dockerfile)."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC = ("2_34", "2_31", "2_28", "2_27", "2_26", "2_24", "2_17")
"""The image's own is 2.41 (Debian 13); a wheel says the oldest it runs on."""

LEFT_OUT = ("matplotlib",)
"""With what only it brings: pymoo and cma would draw with it, the gateway draws in the page. 95 MB less."""


def resolve(arguments: list[str], machine: str) -> list[dict]:  # type: ignore[type-arg]
    """Return what pip would install on `machine` (as uname says it), wheels only. Exits with pip's words where it cannot."""
    tags = [f"manylinux_{g}_{machine}" for g in GLIBC] + [f"manylinux2014_{machine}"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", str(report)]
            + ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp", "--target", f"{folder}/nowhere"]
            + [word for tag in tags for word in ("--platform", tag)]
            + arguments,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            sys.exit(f"{machine}: " + "\n".join(errors or done.stderr.splitlines()[-3:]))
        return json.loads(report.read_text(encoding="utf-8"))["install"]


def not_resolved(found: list[dict], machine: str) -> list[str]:  # type: ignore[type-arg]
    """Return what `found` asks for on `machine` and does not hold: pip reads markers for the machine that it runs on."""
    there = {canonicalize_name(one["metadata"]["name"]) for one in found}
    return sorted({name for one in found for name in asked_by(one, machine)} - there - set(LEFT_OUT))


def asked_by(one: dict, machine: str) -> set[str]:  # type: ignore[type-arg]
    """Return the names of what one line of pip's report requires on `machine`."""
    environment = dict(default_environment()) | {
        "python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "platform_machine": machine, "sys_platform": "linux",
        "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython", "extra": "",
    }  # fmt: skip
    asked = [Requirement(line) for line in one["metadata"].get("requires_dist", [])]
    return {canonicalize_name(r.name) for r in asked if r.marker is None or r.marker.evaluate(environment)}


def needed(found: list[dict], base: list[str], machine: str) -> list[dict]:  # type: ignore[type-arg]
    """Return what is reached from `base` without passing through LEFT_OUT."""
    lines = {canonicalize_name(one["metadata"]["name"]): one for one in found}
    reached: set[str] = set()
    waiting = [canonicalize_name(Requirement(line).name) for line in base]
    while waiting:
        name = waiting.pop()
        if name not in reached and name not in LEFT_OUT and name in lines:
            reached.add(name)
            waiting += asked_by(lines[name], machine)
    return [lines[name] for name in sorted(reached)]


def not_as_wanted(base: list[str], lock: str) -> list[str]:
    """Return the requirements of `base` that the lock does not hold, or holds in a version that they do not allow."""
    pins = dict(line.split()[0].split("==") for line in lock.splitlines() if "==" in line)
    wanted = [Requirement(line) for line in base]
    return [str(r) for r in wanted if not r.specifier.contains(pins.get(canonicalize_name(r.name), "0"))]


def pin(one: dict) -> tuple[str, str]:  # type: ignore[type-arg]
    """Return (name==version, sha256) of one line of pip's report."""
    facts = one["metadata"]
    return f"{canonicalize_name(facts['name'])}=={facts['version']}", one["download_info"]["archive_info"]["hashes"]["sha256"]


def main(arguments: list[str]) -> None:
    """Write or check; the last line says how many wheels there are, and how many of them are the same for both machines."""
    base = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"], [])
    is_check = arguments == ["--check"]
    if arguments and not is_check:
        sys.exit(__doc__)
    if is_check and (odd := not_as_wanted(base, LOCK.read_text(encoding="utf-8"))):
        sys.exit(f"{LOCK.relative_to(ROOT)} is not what pyproject.toml asks for: {', '.join(odd)}; run python scripts/lock.py")
    hashes: dict[str, list[str]] = {}
    for name, machine in MACHINES.items():
        if is_check:
            found = resolve(["--no-deps", "--require-hashes", "--requirement", str(LOCK)], machine)
        else:
            found = needed(resolve(base, machine), base, machine)
        if missing := not_resolved(found, machine):
            sys.exit(f"{name}: asked for and not resolved: {', '.join(missing)}")
        for line, digest in map(pin, found):
            if digest not in hashes.setdefault(line, []):
                hashes[line].append(digest)
        print(f"{name}: {len(found)} wheels for Python {PYTHON}")
    versions = [line.partition("==")[0] for line in hashes]
    if twice := sorted({v for v in versions if versions.count(v) > 1}):
        sys.exit(f"the two machines get different versions of {', '.join(twice)}; narrow them in pyproject.toml")
    if not is_check:
        text = "# Written by `python scripts/lock.py`; do not edit. Wheels for Python "
        text += f"{PYTHON} on Linux, {' and '.join(MACHINES)}.\n"
        text += "".join(
            f"{line} \\\n" + " \\\n".join(f"    --hash=sha256:{h}" for h in hashes[line]) + "\n" for line in sorted(hashes)
        )
        LOCK.write_text(text, encoding="utf-8")
    alike = sum(len(digests) == 1 for digests in hashes.values())
    print(f"dependencies={len(hashes)} alike_on_both={alike} machines={','.join(MACHINES)} lock={LOCK.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
