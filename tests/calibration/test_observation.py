"""What is kept, blanked, dropped and judged; and how it is weighed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from building.description import Building
from building.errors import MissingColumnError, TooFewDataError
from calibration.calibrate import _warnings
from calibration.candidates import Candidates
from calibration.misfit import Misfit, huber
from calibration.observation import Observation, Rules, observe
from simulation.rc import RcPredictor


def seen(predictor: RcPredictor, building: Building, measured: pd.DataFrame, rules: Rules | None = None) -> Observation:
    return observe(predictor.inputs, predictor.outputs, measured, building.parameter_space.defaults(), rules or Rules())


def test_warm_up_fit_and_held_out_hours_are_apart(predictor: RcPredictor, building: Building, plant: Any) -> None:
    o = seen(predictor, building, plant.measured)
    assert not (o.fit_t & o.held_out_t).any()
    assert not (o.fit_t | o.held_out_t)[:168].any()
    assert o.held_out_t[-168:].all()
    assert o.fit_t[168:504].all()


def test_only_the_last_window_is_used(predictor: RcPredictor, building: Building, make_plant: Callable[..., Any]) -> None:
    long = make_plant(n_hours=1200).measured
    assert len(seen(predictor, building, long).index) == 840
    assert seen(predictor, building, long).index[-1] == long.index[-1]


def test_short_gaps_are_bridged_and_long_ones_are_not_judged(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.copy()
    measured.iloc[300:304, measured.columns.get_loc("outdoor_air_temperature")] = np.nan
    measured.iloc[400:410, measured.columns.get_loc("system_on")] = np.nan
    o = seen(predictor, building, measured)
    x = o.scenario.frame()
    bridged = np.linspace(measured["outdoor_air_temperature"].iloc[299], measured["outdoor_air_temperature"].iloc[304], 6)
    assert np.allclose(x["outdoor_air_temperature"].iloc[299:305], bridged)
    assert o.fit_t[300:304].all()
    assert (x["system_on"].iloc[400:410] == x["system_on"].iloc[399]).all()
    assert not o.fit_t[400:434].any()
    assert o.fit_t[434]


def test_readings_that_cannot_be_true_are_blanked(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.copy()
    column = measured.columns.get_loc("zone_air_temperature")
    measured.iloc[200, column] = 850.0
    measured.iloc[210, column] = np.inf
    measured.iloc[250:290, column] = 19.5
    o = seen(predictor, building, measured)
    values = o.measured()["zone_air_temperature"]
    assert values.iloc[[200, 210, *range(250, 290)]].isna().all()
    assert o.dropped == {}


def test_a_coil_at_rest_is_not_a_stuck_sensor(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.assign(coil_cooling=0.0)
    o = seen(predictor, building, measured)
    assert "coil_cooling" in o.channels
    assert (o.sigma_tc > 0).all()
    stuck = seen(predictor, building, plant.measured.assign(coil_cooling=1234.0))
    assert "stuck" in stuck.dropped["coil_cooling"]


def test_a_setting_that_is_mostly_silent_counts_as_not_measured(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.copy()
    measured.loc[measured.index[::3], "cooling_setpoint"] = np.nan
    assert seen(predictor, building, measured).unmeasured.names == ()
    measured.loc[measured.index[1::3], "cooling_setpoint"] = np.nan
    assert seen(predictor, building, measured).unmeasured.names == ("cooling_setpoint",)


def test_no_output_at_all_is_named(predictor: RcPredictor, building: Building, plant: Any) -> None:
    with pytest.raises(MissingColumnError, match="every output"):
        seen(predictor, building, plant.measured[[c for c in plant.measured if c in predictor.inputs]])


def test_silent_sensors_over_the_last_week_are_too_few_data(predictor: RcPredictor, building: Building, plant: Any) -> None:
    measured = plant.measured.copy()
    measured.loc[measured.index[-160:], list(predictor.outputs.names)] = np.nan
    with pytest.raises(TooFewDataError, match="held-out"):
        seen(predictor, building, measured)


def test_huber_is_a_parabola_then_a_line() -> None:
    assert np.allclose(huber(np.array([0.0, 1.0, -2.0, 3.0, -10.0])), [0, 1, 4, 8, 36])


def test_one_sigma_everywhere_is_a_misfit_of_one(predictor: RcPredictor, building: Building, plant: Any) -> None:
    o = seen(predictor, building, plant.measured)
    misfit = Misfit(o, predictor.outputs)
    y = np.zeros((1, len(o.index), len(predictor.outputs)))
    y[0][:, predictor.outputs.positions(o.channels.names)] = np.nan_to_num(o.measured_tc) + o.sigma_tc
    assert misfit(y)[0] == pytest.approx(1.0)


def test_gaps_and_hours_outside_the_fit_weigh_nothing(predictor: RcPredictor, building: Building, plant: Any) -> None:
    o = seen(predictor, building, plant.measured)
    misfit = Misfit(o, predictor.outputs)
    y = np.zeros((2, len(o.index), len(predictor.outputs)))
    columns = predictor.outputs.positions(o.channels.names)
    is_gap = np.isnan(o.measured_tc) | ~o.fit_t[:, None]
    y[1][:, columns] = np.where(is_gap, 1e9, 0.0)
    values = misfit(y)
    assert values[0] == values[1] > 0


def test_a_prediction_that_is_not_a_number_is_infinitely_bad(predictor: RcPredictor, building: Building, plant: Any) -> None:
    o = seen(predictor, building, plant.measured)
    y = np.zeros((2, len(o.index), len(predictor.outputs)))
    y[1, 300] = np.nan
    assert np.isinf(Misfit(o, predictor.outputs)(y)[1])


def test_candidates_differ_only_in_their_parameters(predictor: RcPredictor, building: Building, plant: Any) -> None:
    o = seen(predictor, building, plant.measured)
    c = Candidates(o.scenario, building.parameter_space, o.unmeasured, "America/Chicago")
    u = np.random.default_rng(0).random((4, len(c.space)))
    x = c.batch(u)
    series = [i for i, v in enumerate(predictor.inputs) if v.name not in building.parameter_space.names]
    assert np.array_equal(x[..., series], np.broadcast_to(o.scenario.values[None], x.shape)[..., series])
    infiltration = predictor.inputs.position("infiltration")
    assert np.allclose(x[:, 0, infiltration], building.parameter_space["infiltration"].from_unit(u[:, 0]))


def test_fitted_setpoints_never_cross(predictor: RcPredictor, building: Building, plant: Any) -> None:
    heating, cooling = predictor.inputs.positions(("heating_setpoint", "cooling_setpoint"))
    for hidden in (["heating_setpoint"], ["cooling_setpoint"], ["heating_setpoint", "cooling_setpoint"]):
        o = seen(predictor, building, plant.measured.drop(columns=hidden))
        c = Candidates(o.scenario, building.parameter_space, o.unmeasured, "America/Chicago")
        u = np.random.default_rng(1).random((64, len(c.space)))
        x = c.batch(u)
        assert (x[..., cooling] - x[..., heating]).min() >= 1 - 1e-9
        profile = c.week_profile(u[0])
        assert profile is not None
        assert set(profile.columns) == set(hidden)


def test_inputs_outside_the_bounds_are_brought_inside_and_the_calibration_says_so(
    predictor: RcPredictor, building: Building, plant: Any
) -> None:
    measured = plant.measured.copy()
    measured.iloc[300:304, measured.columns.get_loc("outdoor_air_temperature")] = -90.0
    o = seen(predictor, building, measured)
    low = predictor.inputs["outdoor_air_temperature"].low
    assert (o.scenario.frame()["outdoor_air_temperature"].iloc[300:304] == low).all()
    assert o.outside["outdoor_air_temperature"].startswith("in 4 of 672 h outside") and len(o.outside) == 1
    assert any(note.startswith("outdoor_air_temperature was in 4 of 672 h outside") for note in _warnings(o, (), ()))
