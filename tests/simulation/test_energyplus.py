from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from building.description import Building
from building.errors import (
    FailedRunError,
    IrregularTimeError,
    MissingColumnError,
    OutsideBoundsError,
    SetpointsCrossError,
    UnknownNameError,
)
from building.scenario import Scenario
from building.sun import sun_position
from simulation.audit import base_run
from simulation.energyplus import SPIN_UP_H, EnergyPlusPredictor, Run, quarter_hours, simulate
from simulation.epw import Morph


def test_a_run_answers_every_input_and_output_for_every_hour(office: Building, winter_week: pd.DataFrame) -> None:
    assert len(winter_week) == 2 * 168
    assert [c for c in winter_week if c in office.inputs] == list(office.inputs.names)
    assert [c for c in winter_week if c in office.outputs] == list(office.outputs.names)
    assert np.isfinite(winter_week.to_numpy()).all()


def test_own_schedule_heats_the_occupied_zones_to_their_setpoint(office: Building, winter_week: pd.DataFrame) -> None:
    monday_afternoon = winter_week.loc["2018-01-15T20:00Z"]  # 14:00 in Chicago
    temperatures = monday_afternoon[[f"{z.name}_air_temperature" for z in office.zones]]
    assert temperatures.between(20.5, 24.5).all()
    assert monday_afternoon["electric_reheat_heat"] + monday_afternoon["gas_coil_heat"] > 1000


def test_rows_are_stamped_with_the_start_of_their_hour(office: Building, winter_week: pd.DataFrame) -> None:
    # The fans start at 06:00 local standard time, 12:00 UTC, on Monday.
    fans = winter_week["fan_electricity"]
    assert fans.loc["2018-01-15T12:00Z"] > 500
    assert winter_week.loc["2018-01-15T12:00Z", "system_on"] == 1
    assert winter_week.loc["2018-01-15T11:00Z", "system_on"] == 0


def test_our_sun_stands_where_the_engine_lets_it_shine(winter_week: pd.DataFrame) -> None:
    index = pd.DatetimeIndex(winter_week.index)
    altitude, _ = sun_position(index + pd.Timedelta(minutes=30), 41.98, -87.92)
    shines = winter_week["direct_normal_irradiance"].to_numpy() > 50
    assert (altitude[shines] > -0.02).all()
    assert winter_week["south_beam_irradiance"].max() > winter_week["north_beam_irradiance"].max()


def test_gas_is_coil_heat_over_burner_efficiency(office: Building, winter_week: pd.DataFrame) -> None:
    promised = winter_week["gas_coil_heat"].sum() / office.efficiency.burner
    assert promised == pytest.approx(winter_week["heating_gas"].sum(), rel=0.005)
    assert winter_week["electric_reheat_heat"].sum() == pytest.approx(winter_week["heating_electricity"].sum(), rel=0.005)


def test_outdoor_air_is_zero_while_off_so_co2_only_leaks_away_at_night(office: Building, winter_week: pd.DataFrame) -> None:
    night = winter_week.loc["2018-01-16T05:00Z":"2018-01-16T10:00Z", "core_mid_co2"]  # 23:00-04:00 local, off since 22:00
    assert (night.diff().dropna().abs() < 30).all()
    morning = winter_week.loc["2018-01-16T14:00Z", "core_mid_co2"]
    assert morning < night.iloc[-1] + 400


def test_a_quarter_hour_plan_runs_as_given(office: Building) -> None:
    hourly = base_run(office, "2018-01-15", hours=24)
    hourly = replace(hourly, series=hourly.series.iloc[-48:])
    quarters = hourly.series.resample("15min").ffill()
    index = pd.date_range(hourly.series.index[0], periods=192, freq="15min")
    quarters = quarters.reindex(index).ffill()
    quarters.loc["2018-01-15T12:00Z":"2018-01-15T12:30Z", "system_on"] = 0.0
    frame = simulate(office, replace(hourly, series=quarters))
    assert frame.loc["2018-01-15T12:00Z", "system_on"] == pytest.approx(0.25)
    whole = simulate(office, hourly)
    assert frame.loc["2018-01-15T12:00Z", "fan_electricity"] < 0.85 * whole.loc["2018-01-15T12:00Z", "fan_electricity"]


def test_a_share_of_an_hour_becomes_whole_quarters_next_to_the_hours_that_run() -> None:
    index = pd.date_range("2018-01-01", periods=5, freq="60min", tz="UTC")
    on = quarter_hours(pd.DataFrame({"system_on": [0.0, 0.25, 1.0, 0.5, 0.0]}, index=index))["system_on"].to_numpy()
    assert on.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_same_run_gives_same_answer_and_morphed_weather_another(office: Building) -> None:
    run = base_run(office, "2018-01-15", hours=24)
    run = replace(run, series=run.series.iloc[-48:])
    first, again = simulate(office, run), simulate(office, run)
    pd.testing.assert_frame_equal(first, again)
    colder = simulate(office, replace(run, morph=Morph(shift_k=-5)))
    gap = colder["outdoor_air_temperature"].mean() - first["outdoor_air_temperature"].mean()
    assert gap == pytest.approx(-5, abs=0.1)


def test_energyplus_is_a_predictor_that_refuses_weather_it_does_not_read(office: Building) -> None:
    run = base_run(office, "2018-01-15", hours=24)
    series = run.series.iloc[-48:]
    seen = simulate(office, replace(run, series=series))
    predictor = EnergyPlusPredictor(office, run.weather, series.index[0])
    scenario = Scenario.from_frame(predictor.inputs, seen)
    x_btc = scenario.batch({"heating_setpoint": np.array([19.0, 21.0])})
    y_bto = predictor.predict(x_btc)
    assert y_bto.shape == (2, 48, len(office.outputs))
    past, future = (
        scenario.between(series.index[0], series.index[24]),
        scenario.between(series.index[24], series.index[-1] + pd.Timedelta(hours=1)),
    )
    given = predictor.given(past).predict(future.batch({}, n=1))
    np.testing.assert_allclose(given[0], seen[list(office.outputs.names)].to_numpy()[24:], rtol=1e-6)
    x_btc[:, :, predictor.inputs.position("outdoor_air_temperature")] += 3
    with pytest.raises(OutsideBoundsError, match="outdoor_air_temperature at 2018"):
        predictor.predict(x_btc[:1])


def test_a_run_that_does_not_start_at_local_midnight_is_refused(office: Building) -> None:
    run = base_run(office, "2018-01-15", hours=24)
    with pytest.raises(IrregularTimeError, match="local standard midnight"):
        simulate(office, replace(run, series=run.series.iloc[1:]))


def test_a_run_over_29_february_is_refused(office: Building) -> None:
    run = base_run(office, "2024-02-28", hours=72)
    with pytest.raises(FailedRunError, match="29 February"):
        simulate(office, run)


def test_crossing_setpoints_missing_series_and_unknown_parameters_are_refused(office: Building) -> None:
    run = base_run(office, "2018-01-15", hours=24)
    crossed = run.series.copy()
    crossed["heating_setpoint"] = crossed["cooling_setpoint"] - 0.5
    with pytest.raises(SetpointsCrossError):
        simulate(office, replace(run, series=crossed))
    with pytest.raises(MissingColumnError, match="plug_share"):
        simulate(office, replace(run, series=run.series.drop(columns="plug_share")))
    with pytest.raises(UnknownNameError, match="infiltration"):
        simulate(office, replace(run, parameters={"infiltrations": 1.0}))
    hot = run.series.copy()
    hot["supply_air_temperature"] = 55.0
    with pytest.raises(OutsideBoundsError, match="supply_air_temperature = 55 degC"):
        simulate(office, replace(run, series=hot))


def test_an_engine_that_takes_too_long_is_killed(office: Building) -> None:
    with pytest.raises(FailedRunError, match="longer than 0.3 s"):
        simulate(office, base_run(office, "2018-01-15"), timeout_s=0.3)


def test_the_spin_up_is_a_week() -> None:
    assert SPIN_UP_H == 168


def test_a_run_is_a_value_that_survives_pickling(office: Building) -> None:
    import pickle

    run = base_run(office, "2018-01-15", hours=24)
    assert isinstance(pickle.loads(pickle.dumps(run)), Run)
