"""On the toy office of tests/models: a campaign of two windows a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="torch comes with the extra 'train'")

from benchmarks import active, learning_curve
from benchmarks._trained import first_runs, train_runs, validation
from building.units import POWER, TEMPERATURE
from building.variables import Role, Signature, Variable
from simulation.dataset import Dataset, save_dataset

INPUTS = Signature(
    Variable("outdoor_air_temperature", TEMPERATURE, Role.WEATHER, -30, 50),
    Variable("heating_setpoint", TEMPERATURE, Role.SETTING, 14, 24),
)
OUTPUTS = Signature(
    Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="core"),
    Variable("facility_electricity", POWER, Role.CONSUMPTION, 0, 1e5),
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """20 runs of two windows of 24 + 48 h; every fifth run is kept for validation."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 20, (40, 72, 2)).astype(np.float32)
    y = np.stack([0.2 * x[..., 0] + 0.8 * x[..., 1], 10 * np.maximum(x[..., 1] - x[..., 0], 0)], axis=-1)
    run = np.arange(40) // 2
    windows = pd.DataFrame(
        {"run": run, "climate": "toy", "start": pd.Timestamp("2021-01-04", tz="UTC"), "kind": "schedule",
         "split": np.where(run % 5 == 1, "validation", "train")}
    )  # fmt: skip
    return Dataset(INPUTS, OUTPUTS, x, y, windows, 24, {"building": "toy", "exported": "today"})


@pytest.fixture
def campaign(tmp_path: Path, dataset: Dataset) -> Path:
    save_dataset(dataset, tmp_path / "dataset")
    return tmp_path


def test_subsets_are_the_first_whole_runs_and_nested(dataset: Dataset) -> None:
    assert train_runs(dataset).tolist() == [r for r in range(20) if r % 5 != 1]
    assert first_runs(dataset, 6).tolist() == [0, 2, 3]
    assert first_runs(dataset, 7).tolist() == [0, 2, 3]
    assert set(first_runs(dataset, 8)) > set(first_runs(dataset, 6))
    assert not set(validation(dataset).windows["run"]) & set(train_runs(dataset))


def test_both_arms_add_as_many_whole_runs_and_are_compared(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    active.main(f"{campaign} --start 8 --add 6 --pool 18 --steps 2 --ensemble-steps 2 --repeats 1 --json".split())
    said = json.loads(capsys.readouterr().out)
    assert (said["start_windows"], said["added_windows"], said["pool_windows"]) == (8, 6, 18)
    by_arm = {row["arm"]: row["nrmse"] for row in said["rows"]}
    assert said["active_over_sobol"] == pytest.approx(by_arm["active"] / by_arm["sobol"])
    assert said["score_chosen_over_pool"] >= 1 and -1 <= said["score_error_correlation"] <= 1


def test_a_pool_that_is_not_there_is_refused(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        active.main(f"{campaign} --start 30 --add 30 --pool 100".split())
    assert "16 training runs are too few" in capsys.readouterr().err


def test_a_learning_curve_keeps_its_points_and_trains_only_what_is_missing(
    campaign: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f"{campaign / 'dataset'} --windows 4,8 --steps 2"
    learning_curve.main(asked.split())
    kept = campaign / "dataset" / "learning_curve.jsonl"
    assert len(kept.read_text().splitlines()) == 2
    with open(kept, "a") as f:
        f.write('{"windows": 16, "st')  # a kill
    capsys.readouterr()
    monkeypatch.setattr(learning_curve, "trained_on", lambda *a: pytest.fail("trained again"))
    learning_curve.main(asked.split())
    assert re.search(r"windows_points=2 steps_points=1", capsys.readouterr().out)


def test_fewer_windows_than_a_run_are_refused(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        learning_curve.main(f"{campaign / 'dataset'} --windows 1".split())
    assert "less than one run" in capsys.readouterr().err
