"""The figures on answers whose error is known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from building.units import CO2, POWER, SHARE, TEMPERATURE
from building.variables import Role, Signature, Variable
from models.evaluation import by_output, figures, r2_pooled, r2_within_runs, restart_hours, total_errors

OUTPUTS = Signature(
    Variable("a_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="a"),
    Variable("b_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60, zone="b"),
    Variable("a_co2", CO2, Role.INDOOR, 300, 20000, zone="a"),
    Variable("gas_coil_heat", POWER, Role.CONSUMPTION, 0, 1e6),
    Variable("electric_reheat_heat", POWER, Role.CONSUMPTION, 0, 1e6),
)


@pytest.fixture
def truth() -> np.ndarray:
    y = np.random.default_rng(0).uniform(10, 30, (6, 168 + 504, 5))
    y[:, ::2, 3] = 0.0
    return y


def test_a_perfect_answer_has_no_error(truth: np.ndarray) -> None:
    f = figures(truth, truth, OUTPUTS, 168)
    assert f["zone_temperature_rmse_k"] == f["co2_rmse_ppm"] == f["total_error_median"] == f["false_load_share"] == 0
    assert f["heating_r2"] == f["heating_r2_within_median"] == 1


def test_known_errors_come_back_as_they_were_put_in(truth: np.ndarray) -> None:
    answer = truth.copy()
    answer[..., 0] += 0.3
    answer[..., 1] -= 0.4
    answer[..., 2] += 50
    answer[..., 3:] *= 1.1
    f = figures(truth, answer, OUTPUTS, 168)
    assert f["zone_temperature_rmse_k"] == pytest.approx(np.sqrt((0.09 + 0.16) / 2))
    assert f["zone_temperature_rmse_worst_k"] == pytest.approx(0.4)
    assert f["co2_rmse_ppm"] == pytest.approx(50)
    assert (f["total_error_median"], f["total_error_worst"]) == pytest.approx((0.1, 0.1))
    assert f["last_over_first_week"] == pytest.approx(1)


def test_warm_up_hours_are_not_judged(truth: np.ndarray) -> None:
    answer = truth.copy()
    answer[:, :168] += 1e4
    assert figures(truth, answer, OUTPUTS, 168)["zone_temperature_rmse_k"] == 0


def test_drift_is_last_week_over_first_week(truth: np.ndarray) -> None:
    answer = truth.copy()
    answer[:, 168:336, :2] += 0.2
    answer[:, -168:, :2] += 0.6
    assert figures(truth, answer, OUTPUTS, 168)["last_over_first_week"] == pytest.approx(3)


def test_heating_is_gas_coil_plus_reheat(truth: np.ndarray) -> None:
    answer = truth.copy()
    answer[..., 3] += 5
    answer[..., 4] -= 5
    assert figures(truth, answer, OUTPUTS, 168)["heating_r2"] == pytest.approx(1)
    assert by_output(truth, answer, OUTPUTS, 168)["gas_coil_heat"]["rmse"] == pytest.approx(5)


def test_false_loads_are_counted_in_hours_of_zero_truth_only(truth: np.ndarray) -> None:
    answer = truth.copy()
    answer[:, 168:420:2, 3] = 5.0
    f = figures(truth, answer, OUTPUTS, 168)
    assert f["false_load_share"] == pytest.approx(0.5)


def test_r2_of_the_mean_is_zero_and_small_runs_are_left_out() -> None:
    true = np.array([[1.0, 3.0], [0.001, 0.003]])
    assert r2_pooled(true, np.full_like(true, true.mean())) == pytest.approx(0)
    assert r2_within_runs(true, true * [[1.0], [50.0]]).tolist() == [1.0]


def test_total_of_a_tiny_run_is_taken_relative_to_a_share_of_the_mean() -> None:
    true = np.array([[100.0], [0.0]])[..., None]
    errors = total_errors(true, true + 1.0)
    np.testing.assert_allclose(errors[:, 0], [0.01, 1 / 2.5])


def test_restart_hours_are_those_after_an_hour_off() -> None:
    inputs = Signature(Variable("system_on", SHARE, Role.SETTING, 0, 1))
    x = np.array([[0, 1, 1, 0, 0.5, 1]], dtype=float)[..., None]
    assert restart_hours(x, inputs)[0].tolist() == [False, True, False, False, True, False]


def test_restart_error_judges_those_hours_alone(truth: np.ndarray) -> None:
    is_restart = np.zeros(truth.shape[:2], dtype=bool)
    is_restart[:, 200::24] = True
    answer = truth.copy()
    answer[is_restart, 4] *= 1.5
    f = figures(truth, answer, OUTPUTS, 168, is_restart)
    heat = truth[is_restart][:, 3:]
    assert f["restart_heating_error"] == pytest.approx(0.5 * heat[:, 1].mean() / heat.sum(axis=1).mean())


def test_evaluation_and_runtime_import_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; sys.modules.update({n: None for n in ('torch', 'onnx', 'onnxscript', 'pyenergyplus', 'simulation')});"
        "import models.evaluation, models.runtime.bundle, models.runtime.session"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
