"""Calibration end to end on the two-node building."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from building.description import Building
from building.errors import CalibrationRefusedError, IrregularTimeError, MissingColumnError, TooFewDataError, UnknownNameError
from building.scenario import Scenario
from calibration.calibrate import calibrate
from calibration.linear import DAMPINGS
from calibration.present import present
from calibration.report import Calibration, text_report
from calibration.search import Budget, Progress
from simulation.rc import RcPredictor

ZONE = "America/Chicago"


class CountingPredictor(RcPredictor):
    def __init__(self, building: Building) -> None:
        super().__init__(building)
        self.batches: list[int] = []

    def predict(self, x_btc: Any) -> Any:
        self.batches.append(len(x_btc))
        return super().predict(x_btc)


@pytest.fixture(scope="module")
def fitted(predictor: RcPredictor, building: Building, plant: Any) -> Calibration:
    budget = Budget(population=16, max_evaluations=2400, max_restarts=0)
    return calibrate(predictor, plant.measured, building.parameter_space, seed=3, time_zone=ZONE, budget=budget)


def test_parameters_of_a_noisy_plant_are_recovered_within_their_spread(
    fitted: Calibration, building: Building, plant: Any
) -> None:
    space = building.parameter_space
    assert fitted.is_accepted, fitted.refusals
    for s in fitted.spreads:
        distance = float(space[s.name].to_unit(s.value)) - float(space[s.name].to_unit(plant.truth[s.name]))
        assert abs(distance) < 4 * s.sd_unit, s
    identified = [s for s in fitted.spreads if s.state == "identified"]
    assert len(identified) >= 6
    for s in identified:
        distance = float(space[s.name].to_unit(s.value)) - float(space[s.name].to_unit(plant.truth[s.name]))
        assert abs(distance) < 0.12, s


def test_a_perfect_predictor_is_as_far_off_as_its_sensors(fitted: Calibration) -> None:
    temperature = next(f for f in fitted.indoor if f.name == "zone_air_temperature")
    assert 0.15 < temperature.rmse < 0.25
    assert all(f.passes for f in fitted.energy if f.is_judged)
    assert {f.name for f in fitted.energy} == {"facility_electricity", "heating", "cooling"}


def test_a_dead_and_a_silent_sensor_are_dropped_with_their_reason(
    predictor: RcPredictor, building: Building, plant: Any, quick: Budget
) -> None:
    measured = plant.measured.copy()
    measured["zone_co2"] = 733.0
    measured["fan_electricity"] = np.nan
    c = calibrate(predictor, measured, building.parameter_space, seed=3, time_zone=ZONE, budget=quick)
    assert c.is_accepted
    assert "stuck" in c.dropped["zone_co2"]
    assert "silent" in c.dropped["fan_electricity"]
    assert all(f.name != "zone_co2" for f in c.indoor)


def test_same_seed_same_answer_and_global_random_state_is_left_alone(
    predictor: RcPredictor, building: Building, plant: Any
) -> None:
    budget = Budget(population=12, max_evaluations=240, max_restarts=0)
    answers = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]  # noqa: NPY002
        answers.append(calibrate(predictor, plant.measured, building.parameter_space, seed=9, time_zone=ZONE, budget=budget))
        assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    assert answers[0].parameters == answers[1].parameters
    assert answers[0] == answers[1]
    other = calibrate(predictor, plant.measured, building.parameter_space, seed=10, time_zone=ZONE, budget=budget)
    assert other.parameters != answers[0].parameters


def test_one_generation_is_one_predict(building: Building, plant: Any) -> None:
    counting = CountingPredictor(building)
    seen: list[Progress] = []
    budget = Budget(population=10, max_evaluations=50, max_restarts=0)
    c = calibrate(counting, plant.measured, building.parameter_space, seed=1, time_zone=ZONE, budget=budget, progress=seen.append)
    assert counting.batches[: c.generations] == [10] * 5
    assert set(counting.batches[c.generations :]) == {2 * 8 + 1, len(DAMPINGS), 1}  # polish and spread, then figures
    assert [p.generation for p in seen] == [1, 2, 3, 4, 5]
    assert all(later.best <= earlier.best for earlier, later in pairwise(seen))


def test_start_from_the_last_calibration_is_better_at_once(predictor: RcPredictor, building: Building, plant: Any) -> None:
    budget = Budget(population=12, max_evaluations=12, max_restarts=0, sigma=0.02)
    best = []
    for start in (None, plant.truth):
        seen: list[Progress] = []
        calibrate(
            predictor, plant.measured, building.parameter_space,
            seed=1, time_zone=ZONE, budget=budget, start=start, progress=seen.append,
        )  # fmt: skip
        best.append(seen[0].best)
    assert best[1] < 0.5 * best[0]


def test_calibration_survives_json(fitted: Calibration) -> None:
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert again.to_dict() == fitted.to_dict()


def test_the_report_tells_people_verdict_figures_and_spread(fitted: Calibration) -> None:
    text = text_report(fitted)
    for words in ("accepted", "facility_electricity", "CV(RMSE)", "wall_insulation", "one standard deviation"):
        assert words in text


def test_the_report_keeps_its_columns_for_long_names_and_says_dash_for_a_figure_that_does_not_exist(fitted: Calibration) -> None:
    nothing = {"cv_rmse": math.nan, "nmbe": math.nan, "cv_rmse_daily": math.nan, "is_judged": False, "passes": False}
    heating = next(e for e in fitted.energy if e.name == "heating")
    zone = next(f for f in fitted.indoor if f.name == "zone_air_temperature")
    long = replace(zone, name="perimeter_top_zn_4_air_temperature_of_a_long_name")
    text = text_report(
        replace(fitted, energy=(*fitted.energy[:1], replace(heating, **nothing)), indoor=(zone, long), day_ahead={})
    )
    assert "nan" not in text
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith("  heating ")).split()[1:4] == ["-", "-", "-"]
    head, *rows = lines[(begin := next(i for i, line in enumerate(lines) if "held-out indoor" in line)) : begin + 3]
    ends = [match.end() for match in re.finditer(r"RMSE|bias|24 h ahead|with last errors", head)]
    for row, figure in zip(rows, (zone, long), strict=True):
        assert row.startswith(f"  {figure.name} ")
        assert [row[:end].split()[-1] for end in ends] == [f"{figure.rmse:.3g}", f"{figure.bias:+.2g}", "-", "-"]


@pytest.fixture(scope="module")
def fitted_blind(predictor: RcPredictor, building: Building, plant: Any) -> Calibration:
    """Nobody measured heating setpoint, system_on, outdoor air; two parameters and the schedule are searched."""
    measured = plant.measured.drop(columns=["heating_setpoint", "system_on", "outdoor_air_flow"])
    space = building.parameter_space.only("infiltration", "heating_capacity")
    fixed = {n: v for n, v in plant.truth.items() if n not in space.names}
    budget = Budget(population=20, max_evaluations=2500, max_restarts=0)
    return calibrate(predictor, measured, space, seed=2, time_zone=ZONE, fixed=fixed, budget=budget)


def test_a_schedule_nobody_measured_is_fitted(fitted_blind: Calibration, building: Building) -> None:
    assert fitted_blind.profile is not None
    assert fitted_blind.profile.columns == ("heating_setpoint", "system_on", "outdoor_air_flow")
    own = building.own_schedule()
    weekday = fitted_blind.profile.values[0]
    on = own.values[0, :, own.columns.index("system_on")]
    assert np.abs(weekday[:, 1] - on).sum() <= 1.5  # hours of the weekday that differ
    assert weekday[12, 0] == pytest.approx(21.0, abs=0.4)
    assert weekday[2, 0] == pytest.approx(15.6, abs=0.8)
    assert weekday[12, 2] == pytest.approx(2.42, abs=0.4)
    assert any("nobody measured heating_setpoint" in w for w in fitted_blind.warnings)


def test_measured_settings_are_never_fitted(fitted: Calibration, building: Building) -> None:
    assert fitted.profile is None
    assert tuple(s.name for s in fitted.spreads) == building.parameter_space.names


def test_a_building_that_the_predictor_cannot_follow_is_refused(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.copy()
    measured["facility_electricity"] = np.roll(measured["facility_electricity"].to_numpy(), 9)
    budget = Budget(population=12, max_evaluations=240, max_restarts=0)
    c = calibrate(predictor, measured, building.parameter_space, seed=1, time_zone=ZONE, budget=budget)
    assert not c.is_accepted
    assert any("facility_electricity has CV(RMSE)" in reason for reason in c.refusals)
    with pytest.raises(CalibrationRefusedError, match="facility_electricity"):
        c.require_accepted()
    assert "REFUSED" in text_report(c)


def test_a_parameter_that_leans_hard_on_its_bound_is_a_refusal(
    predictor: RcPredictor, building: Building, make_plant: Callable[..., Any], quick: Budget
) -> None:
    plant = make_plant(seed=4, truth={"occupant_density": 0.11})
    space = building.parameter_space.narrowed({"occupant_density": (0.025, 0.06)})
    c = calibrate(predictor, plant.measured, space, seed=1, time_zone=ZONE, budget=quick)
    assert any("occupant_density leans on its bound" in reason for reason in c.refusals)


def test_no_electricity_meter_is_a_refusal(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.drop(columns="facility_electricity")
    budget = Budget(population=8, max_evaluations=40, max_restarts=0)
    c = calibrate(predictor, measured, building.parameter_space, seed=1, time_zone=ZONE, budget=budget)
    assert any("facility_electricity was not measured" in reason for reason in c.refusals)


def test_a_meter_silent_on_the_held_out_hours_is_a_refusal_in_words(
    predictor: RcPredictor, building: Building, plant: Any
) -> None:
    measured = plant.measured.copy()
    measured.loc[measured.index[-168:], "facility_electricity"] = np.nan
    budget = Budget(population=8, max_evaluations=40, max_restarts=0)
    c = calibrate(predictor, measured, building.parameter_space, seed=1, time_zone=ZONE, budget=budget)
    assert any("facility_electricity has 0 readings" in reason for reason in c.refusals)
    assert "nan" not in text_report(c)


def test_too_short_a_frame_is_refused_with_the_hours_needed(predictor: RcPredictor, building: Building, plant: Any) -> None:
    with pytest.raises(TooFewDataError, match="300 good hours, at least 384"):
        calibrate(predictor, plant.measured.iloc[:300], building.parameter_space, seed=1, time_zone=ZONE)


def test_weather_that_was_not_measured_is_named(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.assign(direct_normal_irradiance=np.nan).drop(columns="outdoor_air_temperature")
    with pytest.raises(MissingColumnError, match="outdoor_air_temperature, direct_normal_irradiance"):
        calibrate(predictor, measured, building.parameter_space, seed=1, time_zone=ZONE)


def test_a_parameter_without_a_value_is_named(predictor: RcPredictor, building: Building, plant: Any) -> None:
    with pytest.raises(MissingColumnError, match="window_shgc"):
        calibrate(predictor, plant.measured, building.parameter_space.only("infiltration"), seed=1, time_zone=ZONE)


def test_a_start_that_is_no_parameter_is_named(predictor: RcPredictor, building: Building, plant: Any) -> None:
    with pytest.raises(UnknownNameError, match="infiltration"):
        calibrate(predictor, plant.measured, building.parameter_space, seed=1, time_zone=ZONE, start={"infiltratoin": 1.0})


def test_a_frame_in_local_time_is_refused(predictor: RcPredictor, building: Building, plant: Any) -> None:
    with pytest.raises(IrregularTimeError, match="UTC"):
        calibrate(predictor, plant.measured.tz_convert(ZONE), building.parameter_space, seed=1, time_zone=ZONE)


def test_the_present_brings_a_biased_thermometer_into_the_forecast(
    predictor: RcPredictor, building: Building, plant: Any, fitted: Calibration
) -> None:
    horizon = plant.measured.index[-24:]
    past_frame = plant.measured.iloc[:-24].copy()
    past_frame["zone_air_temperature"] += 1.0  # since yesterday's new sensor, say
    fadings = {"zone_air_temperature": {"time_constant_h": 48.0, "pattern_share": 0.0}}
    biased = Calibration.from_dict(fitted.to_dict() | {"residual": {"time_zone": ZONE, "fadings": fadings}})
    past, correct = present(predictor, biased, past_frame, horizon, ZONE)
    assert past.index[-1] + pd.Timedelta(hours=1) == horizon[0]
    assert past.parameters() == pytest.approx(dict(fitted.parameters))
    future = Scenario.from_frame(predictor.inputs, plant.measured.iloc[-24:], fitted.parameters)
    free = predictor.given(past).predict(future.values[None])
    offset = (correct(free) - free)[0]
    zone = predictor.outputs.position("zone_air_temperature")
    assert offset[0, zone] == pytest.approx(1.0, abs=0.35)
    assert 0 < offset[-1, zone] < offset[0, zone]
    assert np.abs(np.delete(offset, zone, axis=1)).max() == 0


def test_the_present_unrolls_the_fitted_schedule(predictor: RcPredictor, plant: Any, fitted_blind: Calibration) -> None:
    blind = plant.measured.drop(columns=["heating_setpoint", "system_on", "outdoor_air_flow"])
    past, _ = present(predictor, fitted_blind, blind.iloc[:-24], blind.index[-24:], ZONE)
    setpoint = past.frame()["heating_setpoint"]
    assert setpoint.max() == pytest.approx(21.0, abs=0.5)
    assert setpoint.min() < 17


def test_too_short_a_past_is_refused(predictor: RcPredictor, plant: Any, fitted: Calibration) -> None:
    with pytest.raises(TooFewDataError, match="recent past"):
        present(predictor, fitted, plant.measured.iloc[-100:], plant.measured.index[-24:], ZONE)
