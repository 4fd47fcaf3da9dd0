"""The borders of docs/architecture.md hold, and the checker that says so can say no."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("building", "simulation", "models", "calibration", "optim", "proof", "service")

WITHOUT_THE_WORKSHOP = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"{{name}} is not on a gateway", name=name)

sys.meta_path.insert(0, Absent())
"""
OFFLINE = ("torch", "onnx", "onnxscript", "pyenergyplus", "amqtt", "dask", "distributed", "simulation", "proof")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; from importlinter.cli import lint_imports_command; sys.argv = ['lint-imports', '--no-cache']"
    return subprocess.run(
        [sys.executable, "-c", f"{command}; lint_imports_command()"], cwd=folder, capture_output=True, text=True, check=False
    )


def without_the_workshop(code: str) -> subprocess.CompletedProcess[str]:
    blocked = WITHOUT_THE_WORKSHOP.format(blocked=OFFLINE)
    return subprocess.run([sys.executable, "-c", blocked + code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_import_border_is_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("building/units.py", "import service.clock", "building knows nobody"),
        ("service/clock.py", "import torch", "the gateway never reaches torch"),
        ("service/clock.py", "from models import network", "the gateway never reaches torch"),
        ("optim/front.py", "import simulation.dataset", "calibration and optim receive a Predictor"),
        ("calibration/misfit.py", "import optim.front", "calibration and optim do not know each other"),
        ("models/runtime/session.py", "import models.network", "models.runtime is the edge half"),
        ("models/network.py", "import simulation.rc", "models sees data"),
        ("proof/kpis.py", "import service.store", "proof judges from outside"),
    ],
)
def test_an_import_across_a_border_is_caught(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    crossed = tmp_path / module
    crossed.write_text(f"{crossed.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")

    done = lint_imports(tmp_path)

    assert done.returncode == 1
    broken = [row for row in done.stdout.splitlines() if row.rstrip().endswith("BROKEN") or "BROKEN" in row]
    assert any(contract in row for row in broken), done.stdout


def test_the_service_imports_where_torch_onnx_and_energyplus_are_absent() -> None:
    code = "import service.app, service.api, service.operations, service.doctor, service.desk; print('served')"
    done = without_the_workshop(code)
    assert done.stdout.strip() == "served", done.stderr


def test_what_the_jobs_of_a_gateway_import_is_on_the_gateway_too() -> None:
    done = without_the_workshop("import calibration.calibrate, optim.search, optim.choice, models.runtime.session; print('ran')")
    assert done.stdout.strip() == "ran", done.stderr


def test_the_block_used_above_blocks() -> None:
    assert "torch is not on a gateway" in without_the_workshop("import torch").stderr


def test_the_front_door_imports_nothing_heavy_before_a_verb_is_chosen() -> None:
    code = (
        "import sys, json, setwise; setwise.parser();"
        "heavy = {'numpy', 'pandas', 'torch', 'onnxruntime', 'pymoo', 'fastapi', 'sqlalchemy', 'rich'};"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_idle_service_process_does_not_load_the_searchers() -> None:
    code = (
        "import sys, json, service.app;"
        "print(json.dumps(sorted({'pymoo', 'cma', 'onnxruntime', 'matplotlib', 'scipy'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
