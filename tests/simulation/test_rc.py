"""The two-node building against pencil and paper."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from building.description import load_building
from building.errors import MissingColumnError
from building.scenario import Scenario
from simulation import rc
from simulation.rc import RcPredictor, TwoNodes, saturation_humidity_ratio, solve_first_order, solve_two_nodes

BUILDING = load_building("two_node")
PREDICTOR = RcPredictor(BUILDING)
NO_LIMIT = 1e9


def nodes(n_hours: int, **changes: float) -> TwoNodes:
    facts = {
        "air_capacity": 5e3,
        "mass_capacity": 45e3,
        "out_conductance": 800.0,
        "supply_conductance": 0.0,
        "wall_conductance": 400.0,
        "air_to_mass": 9000.0,
        "outdoor_temperature": 0.0,
        "supply_temperature": 15.0,
        "air_gain": 0.0,
        "mass_gain": 0.0,
    } | changes
    return TwoNodes(**{k: np.full((1, n_hours), v) for k, v in facts.items()})


def free_run(n: TwoNodes, air: float, mass: float) -> rc.Trajectory:
    """Setpoints so far apart that nothing heats or cools."""
    hours = n.air_gain.shape
    far = np.full(hours, 1e3)
    return solve_two_nodes(n, (np.array([air]), np.array([mass])), -far, far, far, far)


def frame(n_hours: int = 14 * 24, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2026-02-02", periods=n_hours, freq="h", tz="UTC")
    f = BUILDING.own_schedule().unroll(index, BUILDING.site.time_zone)
    hour = np.arange(n_hours)
    sun = np.clip(np.sin(2 * np.pi * (hour - 12) / 24), 0, None)
    f["outdoor_air_temperature"] = 4 + 8 * np.sin(2 * np.pi * (hour - 15) / 24) + rng.normal(0, 1, n_hours)
    f["outdoor_air_humidity_ratio"] = 0.004 + 0.002 * rng.random(n_hours)
    f["direct_normal_irradiance"] = 500 * sun * rng.random(n_hours)
    f["diffuse_horizontal_irradiance"] = 150 * sun
    return f


def scenario(n_hours: int = 14 * 24, **parameters: float) -> Scenario:
    return Scenario.from_frame(PREDICTOR.inputs, frame(n_hours), BUILDING.parameter_space.defaults() | parameters)


def answer(s: Scenario) -> pd.DataFrame:
    return pd.DataFrame(PREDICTOR.predict(s.values[None])[0], index=s.index, columns=list(PREDICTOR.outputs.names))


def test_free_decay_of_equal_eigenvectors_is_the_exponential_of_the_matrix() -> None:
    n = nodes(48)
    a = np.array([[-(800 + 9000) / 5e3, 9000 / 5e3], [9000 / 45e3, -(9000 + 400) / 45e3]])
    eigenvalues, vectors = np.linalg.eig(a)
    run = free_run(n, 20.0, 22.0)
    for t in (1, 7, 48):
        x = (vectors @ np.diag(np.exp(eigenvalues * t)) @ np.linalg.inv(vectors)) @ [20.0, 22.0]
        assert np.allclose([run.air_end[0, t - 1], run.mass_end[0, t - 1]], x, rtol=1e-11)


def test_hourly_mean_is_the_integral_of_the_decay() -> None:
    run = free_run(nodes(1), 20.0, 22.0)
    a = np.array([[-(800 + 9000) / 5e3, 9000 / 5e3], [9000 / 45e3, -(9000 + 400) / 45e3]])
    eigenvalues, vectors = np.linalg.eig(a)
    times, weights = np.polynomial.legendre.leggauss(20)
    inverse = np.linalg.inv(vectors)
    states = [(vectors @ np.diag(np.exp(eigenvalues * (t + 1) / 2)) @ inverse) @ [20.0, 22.0] for t in times]
    mean = np.einsum("t,ts->s", weights / 2, np.array(states))
    assert np.allclose([run.air_mean[0, 0], run.mass_mean[0, 0]], mean, rtol=1e-12)


def test_steady_state_is_the_resistance_network() -> None:
    n = nodes(24 * 200, air_gain=6000.0, mass_gain=3000.0)
    run = free_run(n, 15.0, 15.0)
    a = np.array([[800 + 9000, -9000], [-9000, 9000 + 400]])
    assert np.allclose([run.air_end[0, -1], run.mass_end[0, -1]], np.linalg.solve(a, [6000, 3000]), rtol=1e-10)


def test_steady_heating_is_losses_minus_gains() -> None:
    n = nodes(24 * 200, air_gain=2000.0)
    hours = n.air_gain.shape
    start, limit = (np.array([20.0]), np.array([20.0])), np.full(hours, NO_LIMIT)
    run = solve_two_nodes(n, start, np.full(hours, 20.0), np.full(hours, 26.0), limit, limit)
    mass = 20.0 * 9000 / 9400
    assert run.heat[0, -1] == pytest.approx(800 * 20.0 + 9000 * (20.0 - mass) - 2000.0, rel=1e-9)
    assert run.air_end[0, -1] == pytest.approx(20.0, abs=1e-9)


def test_capacity_limits_heating_and_the_room_stays_cold() -> None:
    n = nodes(24 * 200)
    hours = n.air_gain.shape
    start, limit = (np.array([20.0]), np.array([20.0])), np.full(hours, 10e3)
    run = solve_two_nodes(n, start, np.full(hours, 20.0), np.full(hours, 26.0), limit, limit)
    assert run.heat.max() <= 10e3
    a = np.array([[800 + 9000, -9000], [-9000, 9000 + 400]])
    assert run.air_end[0, -1] == pytest.approx(np.linalg.solve(a, [10e3, 0])[0], rel=1e-9)


def test_energy_balance_closes_each_hour() -> None:
    n, run = PREDICTOR.balance(scenario().values[None])
    out = n.out_conductance * (n.outdoor_temperature - run.air_mean)
    supply = n.supply_conductance * (n.supply_temperature - run.air_mean)
    wall = n.wall_conductance * (n.outdoor_temperature - run.mass_mean)
    into = out + supply + wall + n.air_gain + n.mass_gain + run.heat
    air = np.concatenate([run.air_start[:, None], run.air_end], axis=1)
    mass = np.concatenate([run.mass_start[:, None], run.mass_end], axis=1)
    stored = n.air_capacity * np.diff(air) + n.mass_capacity * np.diff(mass)
    assert np.abs(into - stored).max() <= 1e-9 * np.abs(into).max()


def test_coils_and_reheat_account_for_all_heat_given_to_outdoor_air_and_zone() -> None:
    s = scenario()
    y, f = answer(s), s.frame()
    _, run = PREDICTOR.balance(s.values[None])
    supply = rc.AIR_HEAT * rc.STREAM_FLOW * f["system_on"] * (f["supply_air_temperature"] - run.air_mean[0]) * BUILDING.floor_area
    fresh = (
        rc.AIR_HEAT
        * f["outdoor_air_flow"]
        * f["system_on"]
        * (run.air_mean[0] - f["outdoor_air_temperature"])
        * BUILDING.floor_area
    )
    sensible = y["gas_coil_heat"] + y["electric_reheat_heat"] - y["coil_cooling"]
    latent = sensible - (supply + fresh + run.heat[0])
    assert (latent <= 1e-6).all()  # what the coil takes out beyond the sensible heat is vapour
    assert np.abs(latent[y["coil_cooling"] == 0]).max() < 1e-6


def test_co2_rises_to_the_level_of_the_mass_balance() -> None:
    rate, source = np.full((1, 200), 0.5), np.full((1, 200), 0.5 * 420 + 300.0)
    end, mean = solve_first_order(rate, source, np.array([420.0]))
    t = np.arange(1, 201)
    assert np.allclose(end[0], 420 + 600 * (1 - np.exp(-0.5 * t)), rtol=1e-12)
    assert mean[0, 0] == pytest.approx(420 + 600 * (1 - (1 - np.exp(-0.5)) / 0.5), rel=1e-12)


def test_humidity_of_a_dry_building_without_people_tends_to_outdoors() -> None:
    f = frame()
    f["outdoor_air_humidity_ratio"], f["occupancy_share"] = 0.005, 0.0
    y = answer(Scenario.from_frame(PREDICTOR.inputs, f, BUILDING.parameter_space.defaults()))
    assert y["mean_humidity_ratio"].iloc[-1] == pytest.approx(0.005, rel=1e-9)


def test_wet_coil_dries_a_humid_building_and_costs_cooling() -> None:
    f = frame()
    f["outdoor_air_temperature"], f["outdoor_air_humidity_ratio"] = 30.0, 0.018
    humid = answer(Scenario.from_frame(PREDICTOR.inputs, f, BUILDING.parameter_space.defaults()))
    f["outdoor_air_humidity_ratio"] = 0.004
    dry = answer(Scenario.from_frame(PREDICTOR.inputs, f, BUILDING.parameter_space.defaults()))
    on = (f["system_on"] == 1) & (f.index >= f.index[168])
    assert humid["mean_humidity_ratio"][on].mean() < 0.014
    assert humid["coil_cooling"][on].mean() > 1.1 * dry["coil_cooling"][on].mean()


def test_saturation_humidity_ratio_of_the_psychrometric_chart() -> None:
    # ASHRAE Fundamentals, moist air at 101.325 kPa: 7.66 g/kg at 10 degC, 14.76 g/kg at 20 degC. The formula leaves out the
    # enhancement factor of moist air, half a per cent.
    assert np.allclose(saturation_humidity_ratio(np.array([10.0, 20.0])), [0.00766, 0.01476], rtol=1e-2)


@pytest.mark.parametrize("name", [p.name for p in BUILDING.parameter_space.parameters])
def test_every_parameter_moves_an_output(name: str) -> None:
    p = BUILDING.parameter_space[name]
    low, high = answer(scenario(**{name: p.low})), answer(scenario(**{name: p.high}))
    assert ((high - low).abs().max() / high.abs().max()).max() > 0.01


@pytest.mark.parametrize("name", PREDICTOR.building.settings.names)
def test_every_setting_moves_an_output(name: str) -> None:
    f = frame()
    moved = f.assign(**{name: f[name] * 0.9})
    defaults = BUILDING.parameter_space.defaults()
    one, other = (answer(Scenario.from_frame(PREDICTOR.inputs, x, defaults)) for x in (f, moved))
    assert ((one - other).abs().max() / one.abs().max()).max() > 0.005


def test_outputs_stay_within_their_declared_bounds_over_the_parameter_space() -> None:
    rng = np.random.default_rng(1)
    space = BUILDING.parameter_space
    x_btc = scenario().batch(space.named(space.from_unit(rng.random((24, len(space))))))
    y = PREDICTOR.predict(x_btc)
    assert np.isfinite(y).all()
    assert (y >= [v.low for v in PREDICTOR.outputs]).all()
    assert (y <= [v.high for v in PREDICTOR.outputs]).all()


def test_a_building_without_its_inputs_is_refused_by_name() -> None:
    facts = BUILDING.facts.model_copy(update={"parameters": {}})
    with pytest.raises(MissingColumnError, match="window_shgc"):
        RcPredictor(type(BUILDING)(facts, BUILDING.folder))
