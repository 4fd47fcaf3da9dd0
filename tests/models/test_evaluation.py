"""The figures on answers whose error is known."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from building.errors import NotFiniteError
from building.units import CO2, POWER, SHARE, TEMPERATURE
from building.variables import Role, Signature, Variable
from models.evaluation import (
    apart,
    by_output,
    by_zone,
    check_finite,
    coverage,
    figures,
    held_out_ratios,
    r2_pooled,
    r2_within_runs,
    restart,
    restart_hours,
    running_errors,
    total_errors,
    zeros,
)

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


def test_restart_bias_has_a_sign_and_no_restart_is_no_number() -> None:
    true = np.full((1, 4), 10.0)
    found = restart(true, true + np.array([[2.0, -1.0, 50.0, 50.0]]), np.array([[True, True, False, False]]))
    assert (found["hours"], found["error"], found["bias"]) == (2, pytest.approx(0.15), pytest.approx(0.05))
    assert np.isnan(restart(true, true, np.zeros((1, 4), dtype=bool))["error"])


def test_errors_that_cancel_show_in_the_running_error() -> None:
    true = np.full((1, 100, 1), 2.0)
    answer = true + np.where(np.arange(100) < 50, 0.4, -0.4)[None, :, None]
    assert total_errors(true, answer)[0, 0] == pytest.approx(0, abs=1e-12)
    assert running_errors(true, answer)[0, 0] == pytest.approx(0.4 * 50 / 200)


def test_a_group_is_judged_by_its_own_hours_against_the_spread_of_all(truth: np.ndarray) -> None:
    hours = np.zeros(truth.shape[:2], dtype=bool)
    hours[:3, 100:200] = True
    answer = truth.copy()
    answer[hours, :2] -= 0.5
    answer[hours, 4] += 3.0
    found = apart(truth, answer, OUTPUTS, {"those": hours, "others": ~hours, "nobody": np.zeros_like(hours)})
    heating = truth[..., 3:].sum(axis=-1)
    assert list(found) == ["those", "others"]
    assert (found["those"]["hours"], found["those"]["runs"]) == (300, 3)
    assert (found["those"]["temperature_rmse_k"], found["those"]["temperature_bias_k"]) == pytest.approx((0.5, -0.5))
    assert found["those"]["heating_error"] == pytest.approx(3 / heating.std())
    assert found["those"]["heating_bias"] == pytest.approx(3 / heating[hours].mean())
    assert found["others"]["temperature_rmse_k"] == found["others"]["heating_error"] == 0


def test_over_all_hours_the_error_of_a_load_is_the_root_of_what_r2_leaves(truth: np.ndarray, rng: np.random.Generator) -> None:
    answer = truth + rng.normal(size=truth.shape)
    found = apart(truth, answer, OUTPUTS, {"all": np.ones(truth.shape[:2], dtype=bool)})["all"]
    assert found["heating_error"] == pytest.approx(np.sqrt(1 - figures(truth, answer, OUTPUTS, 0)["heating_r2"]))


def test_bias_and_r2_of_a_group_with_hardly_any_load_are_no_number(truth: np.ndarray) -> None:
    hours = np.zeros(truth.shape[:2], dtype=bool)
    hours[0] = True
    truth[0, :, 3:] = 0.01
    found = apart(truth, truth + 1.0, OUTPUTS, {"off": hours})["off"]
    assert np.isnan(found["heating_bias"])
    assert np.isnan(found["heating_r2"])
    assert found["heating_error"] > 0


def test_zones_are_judged_one_by_one(truth: np.ndarray) -> None:
    answer = truth.copy()
    answer[..., 1] += 0.25
    answer[..., 2] -= 30
    found = by_zone(truth, answer, OUTPUTS)
    assert found["b"] == pytest.approx({"temperature_rmse_k": 0.25, "temperature_bias_k": 0.25})
    assert (found["a"]["temperature_rmse_k"], found["a"]["co2_bias_ppm"]) == pytest.approx((0, -30))


def test_zeros_count_false_loads_and_missed_ones_and_their_energy() -> None:
    true = np.array([0, 0, 0, 0, 4, 4, 4, 8], dtype=float)[None, :, None]
    pred = np.array([0, 0, 0.01, 2, 4, 4, 0, 8], dtype=float)[None, :, None]
    assert zeros(true, pred) == pytest.approx(
        {
            "zero_share": 0.5,
            "false_load_share": 0.25,
            "touched_share": 0.5,
            "false_energy": 2.01 / 20,
            "missed_load_share": 0.25,
            "missed_energy": 0.2,
        }
    )


def test_a_power_that_is_always_off_misses_nothing() -> None:
    never = np.zeros((1, 5, 1))
    found = zeros(never, never)
    assert (found["zero_share"], found["false_load_share"]) == (1, 0)
    assert np.isnan(found["missed_load_share"])
    assert np.isnan(found["missed_energy"])


def test_coverage_is_judged_where_an_interval_has_a_width_and_over_all_hours() -> None:
    true = np.array([0.0, 0.0, 5.0, 5.0, 5.0])[None, :, None]
    low = np.array([0.0, 0.0, 4.0, 5.5, 5.0])[None, :, None]
    high = np.array([0.0, 0.0, 6.0, 6.5, 7.0])[None, :, None]
    found = coverage(true, low, high, Signature(OUTPUTS["gas_coil_heat"]))["gas_coil_heat"]
    assert found == pytest.approx({"coverage": 2 / 3, "wide_share": 0.6, "coverage_all_hours": 0.8, "mean_width": 5 / 3})


def test_coverage_of_intervals_without_any_width_is_no_number() -> None:
    true = np.zeros((1, 3, 1))
    found = coverage(true, true, true, Signature(OUTPUTS["gas_coil_heat"]))["gas_coil_heat"]
    assert np.isnan(found["coverage"])
    assert (found["wide_share"], found["coverage_all_hours"]) == (0, 1)


def test_held_out_ratios_compare_errors_and_leave_out_what_only_one_side_has() -> None:
    training = {"zone_temperature_rmse_k": 0.2, "heating_r2": 0.99, "fan_r2": float("nan"), "co2_rmse_ppm": 40.0}
    held_out = {"zone_temperature_rmse_k": 0.3, "heating_r2": 0.96, "fan_r2": 0.9, "cooling_r2": 0.9}
    assert held_out_ratios(held_out, training) == pytest.approx({"zone_temperature_rmse_k": 1.5, "heating_sqrt_1_minus_r2": 2})


def test_an_answer_that_is_no_number_is_refused_with_its_output_and_place(truth: np.ndarray) -> None:
    truth[2, 40, 1] = np.nan
    with pytest.raises(NotFiniteError, match=r"the answer.*1 values.*'b_air_temperature'.*run 2, hour 40"):
        check_finite(truth, OUTPUTS, "the answer")


def test_a_building_without_co2_or_fans_has_no_such_figures(truth: np.ndarray) -> None:
    outputs, y = OUTPUTS.only(["a_air_temperature", "gas_coil_heat"]), truth[..., [0, 3]]
    found = figures(y, y, outputs, 168) | apart(y, y, outputs, {"all": np.ones(y.shape[:2], dtype=bool)})["all"]
    assert {"zone_temperature_rmse_k", "temperature_rmse_k", "heating_r2", "heating_error"} <= set(found)
    assert not [name for name in found if name.startswith(("co2", "fan", "cooling", "electricity"))]


def test_a_building_of_meters_alone_is_judged_by_its_totals(truth: np.ndarray) -> None:
    outputs, y = OUTPUTS.only(["gas_coil_heat"]), truth[..., [3]]
    found = figures(y, 1.1 * y, outputs, 168)
    assert found["total_error_median"] == pytest.approx(0.1)
    assert "zone_temperature_rmse_k" not in found
    assert by_zone(y, y, outputs) == {}


def test_evaluation_and_runtime_import_neither_torch_nor_onnx() -> None:
    code = (
        "import sys; sys.modules.update({n: None for n in ('torch', 'onnx', 'onnxscript', 'pyenergyplus', 'simulation')});"
        "import models.evaluation, models.runtime.bundle, models.runtime.session"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
