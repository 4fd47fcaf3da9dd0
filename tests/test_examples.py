"""The examples run as a reader would run them: each in a process of its own, from another folder, and say something true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from building.description import load_building
from building.plan import DEADBAND_K

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = sorted(p.name for p in EXAMPLES.glob("*.py"))


def run(script: str, folder: Path, *arguments: str) -> tuple[str, dict[str, str]]:
    """Run an example in `folder`; return all it printed, and the pairs of its last line."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SETWISE_")} | {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    return done.stdout, dict(pair.split("=", 1) for pair in last.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="module")
def calibrated(folder: Path) -> tuple[str, dict[str, str]]:
    return run("calibrate_from_csv.py", folder, "--evaluations", "1200")


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_is_short_and_says_what_it_does_and_how_to_run_it(script: str) -> None:
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert f"python examples/{script}" in text.split('"""')[1]
    assert f"`{script}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_a_csv_is_fitted_and_accepted_near_the_building_that_was_hidden(
    calibrated: tuple[str, dict[str, str]], folder: Path
) -> None:
    text, pairs = calibrated
    assert pairs["is_accepted"] == "1"
    assert "silent in 100% of the hours" in text
    found = json.loads((folder / "calibration.json").read_text())["parameters"]
    # The truth of seed 5, which the script never saw.
    assert found["infiltration"] == pytest.approx(2.34, rel=0.25)
    assert found["occupant_density"] == pytest.approx(0.0835, rel=0.1)
    assert found["heating_capacity"] == pytest.approx(53.7, rel=0.1)


def test_a_week_is_planned_that_saves_and_may_be_run(calibrated: tuple[str, dict[str, str]], folder: Path) -> None:
    text, pairs = run("plan_a_week.py", folder, "--generations", "12")
    assert "no worse than" in text
    assert 0.05 < float(pairs["saving"]) < 0.7
    plan = pd.read_csv(folder / "plan.csv", index_col="time", parse_dates=True)
    week = pd.read_csv(EXAMPLES / "week.csv", index_col="time", parse_dates=True)
    settings = load_building("medium_office").settings
    assert list(plan.columns) == list(settings.names) and plan.index.equals(week.index)
    for v in settings:
        assert plan[v.name].between(v.low - 1e-3, v.high + 1e-3).all()
    assert (plan["cooling_setpoint"] - plan["heating_setpoint"]).min() >= DEADBAND_K - 2e-3


def test_a_service_is_asked_for_a_plan_and_answers_with_setpoints(folder: Path) -> None:
    text, pairs = run("ask_the_api.py", folder)
    assert pairs["outcome"] == "done"
    assert float(pairs["saving"]) > 0
    assert all(name in text for name in load_building("medium_office").settings.names)
    assert "until 2026-03-04T06:45" in text


@pytest.mark.engine
def test_the_measured_csv_is_what_its_script_says(folder: Path) -> None:
    pytest.importorskip("pyenergyplus", reason="EnergyPlus comes with the extra 'simulate'")
    _, pairs = run("measure_a_building.py", folder, "--out", ".")
    for name in ("measured.csv", "week.csv"):
        made, kept = (pd.read_csv(f / name, index_col="time") for f in (folder, EXAMPLES))
        assert list(made.columns) == list(kept.columns) and list(made.index) == list(kept.index)
        gap = (made - kept).abs().mean() / (kept.abs().mean() + 1e-9)
        assert gap.max(skipna=True) < 0.01
        np.testing.assert_array_equal(made.isna(), kept.isna())
    assert kept.notna().all().all() and pairs["silent_sensor"] == "perimeter_mid_zn_3_co2"
