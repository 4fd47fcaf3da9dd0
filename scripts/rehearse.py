"""Rehearse the Dockerfile's gateway target in a bare Debian root, where no container engine exists; then serve from it.

    sudo python3 scripts/rehearse.py [--keep FOLDER]           or: make rehearse

The steps (ENV, WORKDIR, RUN, COPY, USER, HEALTHCHECK, ENTRYPOINT, CMD) are read from the Dockerfile, so they cannot drift from
it. What stands in for the base image is Debian 13 by debootstrap, minimal, with Debian's own Python 3.13 and pip; it is kept in
~/.cache/setwise for the next rehearsal. Then the image's command runs as its user on a read-only root, as compose.yaml starts
it: /state and /tmp alone can be written, no capability, no new privileges, a network with nothing but loopback. It must become
healthy, hold its token back from others, leave nothing else writable, and stop within 10 s of SIGTERM.

Needs root, debootstrap, and the package registries that the Dockerfile needs (PIP_* and certificate variables are passed on).
Skips, saying why, with exit code 0 where it cannot run. Prints what weighs; fails above the budget of 700 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITE, PACKAGES = "trixie", "python3,python3-venv,python3-pip,ca-certificates"
BUDGET_MB = 700
PLAIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PASSED_ON = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_PROXY",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "HTTPS_PROXY",
    "HTTP_PROXY",
)
STATE = ("ENV", "WORKDIR", "USER")
SAID = ("HEALTHCHECK", "ENTRYPOINT", "CMD", "VOLUME", "EXPOSE", "STOPSIGNAL")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


@dataclass
class Stage:
    """One FROM of the Dockerfile: its folder, and what ENV, WORKDIR and the rest said so far."""

    folder: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PLAIN_PATH})
    workdir: str = "/"
    user: str = "0"
    said: dict[str, str] = field(default_factory=dict)


def steps(dockerfile: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of each line, continuations joined, comments dropped."""
    flat = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.M))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in flat.splitlines() if line.strip()]


def why_not() -> str | None:
    """Say what is missing here, or None."""
    if os.geteuid() != 0:
        return "it needs root (debootstrap and chroot)"
    if missing := [tool for tool in ("debootstrap", "unshare", "chroot", "setpriv", "ip") if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed (apt-get install debootstrap util-linux iproute2)"
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "--net", "true"], capture_output=True).returncode:
        return "namespaces cannot be made here (unshare is refused)"
    return None


def base_root() -> Path:
    """Return the stand-in for the base image, made once."""
    kept = Path.home() / ".cache" / "setwise" / SUITE
    if not (kept / "made").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        print(f"debootstrap {SUITE} -> {kept} (minutes, once)", flush=True)
        fast = ["eatmydata"] if shutil.which("eatmydata") else []
        call([*fast, "debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(kept / "root")], quiet=True)
        (kept / "root/usr/bin/python").symlink_to("python3")
        # The official image has no such mark: there pip may install beside the system.
        for mark in (kept / "root/usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
            mark.unlink()
        for waste in ("root/var/cache/apt/archives", "root/var/lib/apt/lists"):
            shutil.rmtree(kept / waste, ignore_errors=True)
        (kept / "made").touch()
    return kept / "root"


def call(command: list[str], quiet: bool = False) -> None:
    """Run; exit with the end of what it said where it fails."""
    done = subprocess.run(command, capture_output=quiet, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:] if quiet else ""
        sys.exit(f"{said}\nfailed with {done.returncode}: {shlex.join(command)[:300]}")


def run_in(stage: Stage, command: str) -> None:
    """Run one RUN step as Docker would: sh -c, as the stage's user, in its folder and environment, with our network."""
    env = stage.env | {"HOME": "/root"} | {k: os.environ[k] for k in PASSED_ON if k in os.environ}
    lent = []
    for variable in CERTIFICATES:  # this machine's authorities, for the time of the step
        if (file := os.environ.get(variable)) and Path(file).is_file():
            env[variable] = "/run/authorities.pem"
            lent.append((file, "run/authorities.pem"))
    lent.append(("/etc/resolv.conf", "etc/resolv.conf"))
    for source, target in lent:
        shutil.copyfile(source, stage.folder / target)
    inside = f"cd {stage.workdir} && exec sh -c {shlex.quote(command)}"
    contained = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", 'mount -t proc proc "$1/proc" && shift && exec "$@"', "sh"]
    variables = [f"{k}={v}" for k, v in env.items()]
    rooted = ["chroot", f"--userspec={stage.user}", str(stage.folder), "sh", "-c", inside]
    call([*contained, str(stage.folder), "env", "-i", *variables, *rooted])
    for _, target in lent:
        (stage.folder / target).unlink(missing_ok=True)


def copy_in(stage: Stage, stages: dict[str, Stage], rest: str) -> None:
    """Do one COPY, from the checkout (what git knows of it) or from another stage."""
    words = rest.split()
    source_root = ROOT
    if words[0].startswith("--from="):
        source_root = stages[words.pop(0).removeprefix("--from=")].folder
    *sources, target = words
    place = stage.folder / (target if target.startswith("/") else f"{stage.workdir}/{target}").lstrip("/")
    for source in sources:
        found = source_root / source.lstrip("/")
        to = place / found.name if target.endswith("/") else place
        to.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(
                found,
                place,
                symlinks=True,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns(".git") if source_root != ROOT else shutil.ignore_patterns("__pycache__", "*.pyc"),
            )
        else:
            shutil.copy2(found, to)


def build(place: Path, target: str) -> Stage:
    """Run the steps of `target` and of the stages it copies from."""
    stages: dict[str, Stage] = {}
    all_steps = steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    wanted = {target} | {found[1] for _, rest in all_steps if (found := re.match(r"--from=(\w+)", rest))}
    stage: Stage | None = None
    for word, rest in all_steps:
        if word == "FROM":
            base, name = rest.split(" AS ")
            stage = None
            if name in wanted:
                stage = stages[name] = Stage(place / name)
                if base != "${PYTHON_IMAGE}":
                    sys.exit(f"stage {name} stands on {base}; this script knows ${{PYTHON_IMAGE}} only")
                call(["cp", "-a", str(base_root()), str(stage.folder)])
        elif stage is None:
            continue
        elif word == "ENV":
            for pair in shlex.split(rest):
                key, value = pair.split("=", 1)
                stage.env[key] = value.replace("$PATH", stage.env["PATH"])
        elif word == "WORKDIR":
            stage.workdir = rest
            (stage.folder / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "RUN":
            print(f"{name}: RUN {rest[:110]}", flush=True)
            run_in(stage, rest)
        elif word == "COPY":
            copy_in(stage, stages, rest)
        elif word in SAID:
            stage.said[word] = rest
        else:
            sys.exit(f"this script does not know the instruction {word}")
    return stages[target]


def size_mb(folder: Path) -> float:
    """Return what a folder holds on disk [MB], other file systems left out."""
    said = subprocess.run(["du", "-sxk", str(folder)], capture_output=True, text=True, check=True).stdout
    return int(said.split()[0]) * 1.024e-3


SERVE = r"""
set -eu
root=$1 state=$2 uid=$3; shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=0755,nosuid,noexec tmpfs "$root/dev"
mkdir "$root/dev/shm"; mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev,noexec tmpfs "$root/dev/shm"
for node in null zero full random urandom; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mount -t tmpfs -o mode=1777,size=64m,nosuid,nodev,noexec tmpfs "$root/tmp"
mount --bind "$state" "$root/state"
mount -o remount,bind,ro "$root"
ip link set lo up
exec chroot "$root" setpriv --reuid="$uid" --regid="$uid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
"""What `read_only`, `tmpfs: /tmp`, `cap_drop: ALL`, `no-new-privileges` and `user` of compose.yaml come to."""


def serve(stage: Stage, extra: list[str]) -> dict[str, float]:
    """Start the image's command; return the seconds until healthy, the memory [MB], and the seconds to stop."""
    uid = stage.user
    state = stage.folder.parent / "volume"
    shutil.copytree(stage.folder / "state", state)  # a new named volume begins as the image's folder
    for path in [state, *state.rglob("*")]:
        kept = (stage.folder / "state").stat()
        os.chown(path, kept.st_uid, kept.st_gid)
    env = stage.env | dict(pair.split("=", 1) for pair in extra) | {"HOME": "/state"}
    command = json.loads(stage.said["ENTRYPOINT"]) + json.loads(stage.said["CMD"])
    log = stage.folder.parent / "serve.log"
    contained = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", SERVE, "sh"]
    variables = [f"{k}={v}" for k, v in env.items()]
    rooted = ["sh", "-c", f"cd {stage.workdir} && exec {shlex.join(command)}"]
    whole = [*contained, str(stage.folder), str(state), uid, "env", "-i", *variables, *rooted]
    with log.open("w") as out:
        process = subprocess.Popen(whole, stdout=out, stderr=subprocess.STDOUT)

    def inside(*words: str) -> subprocess.CompletedProcess[str]:
        """Run in the container of the service, as its user."""
        whole = [
            "nsenter",
            "--target",
            str(pid),
            "--mount",
            "--pid",
            "--net",
            "--root",
            "--wd",
            f"--setuid={uid}",
            f"--setgid={uid}",
        ]
        return subprocess.run(
            [*whole, "env", "-i", *(f"{k}={v}" for k, v in env.items()), *words], capture_output=True, text=True, check=False
        )

    try:
        began = time.monotonic()
        pid = None
        check = json.loads(stage.said["HEALTHCHECK"].split("CMD ", 1)[1])
        while True:
            if process.poll() is not None or time.monotonic() - began > 120:
                sys.exit(f"the service did not become healthy:\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
            pid = pid or child_of(process.pid)
            if pid and inside(*check).returncode == 0:
                break
        healthy_s = time.monotonic() - began
        status = dict(re.findall(r"^(\w+):\s+(\S+)", Path(f"/proc/{pid}/status").read_text(), flags=re.M))
        facts = {k: status[k] for k in ("Uid", "CapEff", "CapBnd", "NoNewPrivs")}
        if facts != {"Uid": uid, "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}:
            sys.exit(f"the service has more rights than it should: {facts}")
        lent = ["(", "-path", "/state", "-o", "-path", "/tmp", "-o", "-path", "/dev", "-o", "-path", "/proc", ")", "-prune"]
        free = inside("find", "/", *lent, "-o", "-writable", "-not", "-type", "l", "-print").stdout.split()
        if free or inside("touch", "/opt/setwise/here").returncode == 0:
            sys.exit(f"the root file system is not read-only: {free[:5]}")
        for where in ("/state", "/tmp"):
            if inside("touch", f"{where}/here").returncode:
                sys.exit(f"{where} cannot be written")
        if oct((state / "token").stat().st_mode & 0o777) != "0o600":
            sys.exit("others can read the token")
        jobs = inside("python", "-c", "import calibration.search, optim.search, service.operations")
        doctor = inside("setwise", "doctor")
        if jobs.returncode or jobs.stderr or "checksums good" not in doctor.stdout:
            sys.exit(f"a job would not run: {jobs.stderr[-500:]}{doctor.stdout[-1500:]}{doctor.stderr[-500:]}")
        rss_mb = int(re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), flags=re.M)[1]) * 1.024e-3  # type: ignore[index]
        before = time.monotonic()
        os.kill(pid, 15)
        process.wait(timeout=10)
        return {"healthy_s": healthy_s, "rss_mb": rss_mb, "stopped_s": time.monotonic() - before}
    finally:
        process.kill()
        process.wait()


def child_of(pid: int) -> int | None:
    """Return the process that `unshare --fork` started."""
    said = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(said[0]) if said else None


def main() -> None:
    """Build, weigh, serve; the last line is key=value pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="leave the roots and the log in this folder")
    parser.add_argument(
        "--env", action="append", default=["SETWISE_BUILDING__NAME=medium_office"], help="NAME=VALUE for the service"
    )
    arguments = parser.parse_args()
    if reason := why_not():
        print(f"rehearsal skipped: {reason}")
        return
    place = arguments.keep or Path(tempfile.mkdtemp(prefix="setwise-rehearsal-"))
    place.mkdir(parents=True, exist_ok=True)
    os.chmod(place, 0o755)
    try:
        gateway = build(place, "gateway")
        whole = size_mb(gateway.folder)
        parts = sorted(
            ((size_mb(p), p.name) for p in (gateway.folder / "opt/setwise/lib").glob("python3*/site-packages/*")), reverse=True
        )
        print(f"\n{'MB':>7}  what the image weighs, unpacked")
        rows = [
            (size_mb(base_root()), "base: Debian 13 with Python 3.13 (stands in for the image)"),
            (size_mb(gateway.folder / "opt/setwise"), "environment:"),
        ]
        rows += [(mb, f"    {name}") for mb, name in parts[:14]] + [(sum(mb for mb, _ in parts[14:]), "    everything else")]
        rows += [(size_mb(gateway.folder / name), name) for name in ("buildings", "bundles")]
        print("\n".join(f"{mb:7.1f}  {what}" for mb, what in rows))
        found = serve(gateway, arguments.env)
    finally:
        if arguments.keep is None:
            shutil.rmtree(place, ignore_errors=True)
    print(" ".join([f"size_mb={whole:.0f}", f"budget_mb={BUDGET_MB}", *(f"{k}={v:.1f}" for k, v in found.items())]))
    if whole > BUDGET_MB:
        sys.exit(f"{whole:.0f} MB are more than the budget of {BUDGET_MB} MB")


if __name__ == "__main__":
    main()
