"""Runs beside answers whose error is known: in which group it shows, and what chaining windows does to it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from formula import Answering, failure, outcome, warmer

from building.description import Building
from building.errors import NotFiniteError
from building.units import TEMPERATURE
from building.variables import Role, Signature
from proof.compare import chain_windows, groups_of, judge, within_bounds
from proof.fresh import as_runs
from simulation.rc import RcPredictor


def test_hours_and_seasons_are_those_of_local_standard_time(office: Building) -> None:
    runs = as_runs([outcome(office, 0)], office)
    groups = groups_of(runs, office)
    assert str(runs.local[0]) == "2021-01-08 00:00:00"
    assert np.flatnonzero(groups["hour of day"]["06-07"][0])[:2].tolist() == [6, 30]
    assert [name for name, hours in groups["season"].items() if hours.any()] == ["DJF"]


def test_every_judged_hour_is_in_one_group_of_a_kind(office: Building) -> None:
    runs = as_runs([outcome(office, 0), outcome(office, 1, climate="usa_co_denver", kind="odd")], office)
    for kind, groups in groups_of(runs, office).items():
        assert (sum(hours.astype(int) for hours in groups.values()) == 1).all(), kind


def test_an_error_of_the_cold_hours_shows_in_their_band_alone(office: Building) -> None:
    runs = as_runs([outcome(office, n) for n in range(2)], office)
    zones = office.outputs.positions(office.outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)

    def cold_error(y: np.ndarray) -> np.ndarray:
        is_cold = y[..., zones[0]] < 20 + 0.5 * 5  # the truth there is 20 + outdoor / 2
        y[..., zones] += np.where(is_cold, 0.4, 0.0)[..., None]
        return y

    bands = judge(Answering(office, cold_error), office, runs, "x").apart["outdoor temperature"]
    assert bands["-5 to 5 degC"]["temperature_rmse_k"] == pytest.approx(0.4, abs=2e-2)
    assert bands["5 to 15 degC"]["temperature_rmse_k"] == pytest.approx(0, abs=2e-2)


def test_gas_at_the_meter_and_hvac_energy_are_judged_beside_the_outputs(office: Building) -> None:
    runs = as_runs([outcome(office, 0)], office)
    gas, water = office.outputs.positions(["gas_coil_heat", "hot_water_gas"])

    def error(y: np.ndarray) -> np.ndarray:
        y[..., gas] *= 1.1
        y[..., water] *= 0.9
        return y

    energy = judge(Answering(office, error), office, runs, "x").energy
    burner = 1 / office.efficiency.burner
    assert energy["heating gas at the burner"]["bias"] == pytest.approx(0.1, rel=1e-3)
    assert energy["all gas"]["bias"] == pytest.approx((0.1 * burner - 0.1) / (burner + 1), rel=1e-3)
    assert energy["HVAC energy"]["bias"] == pytest.approx(0.1 * burner / (burner + 3), rel=1e-3)


def test_restart_hours_are_judged_apart_from_the_later_hours_on(office: Building) -> None:
    runs = as_runs([outcome(office, 0)], office)
    first_hours = np.arange(840) % 24 == 6

    def error(y: np.ndarray) -> np.ndarray:
        y[:, first_hours, office.outputs.position("coil_cooling")] *= 0.7
        return y

    found = judge(Answering(office, error), office, runs, "x")
    cooling = found.restart["cooling"]
    assert (cooling["hours"], cooling["later_hours"]) == (28, 28 * 13)
    assert (cooling["error"], cooling["bias"], cooling["later_error"]) == pytest.approx((0.3, -0.3, 0), abs=1e-3)
    assert found.overall["restart_cooling_bias"] == cooling["bias"]


def test_intervals_are_judged_by_how_often_they_hold_the_truth(office: Building) -> None:
    runs = as_runs([outcome(office, 0)], office)
    found = judge(Answering(office, warmer(0.3)), office, runs, "x", around=lambda y, x: (y - 0.2, y + 0.2))
    assert found.coverage["core_mid_air_temperature"]["coverage"] == 0
    assert found.coverage["core_mid_co2"]["coverage"] == 1
    assert (found.figures()["coverage_min"], found.figures()["coverage_max"]) == (0, 1)
    assert "coverage_min" not in judge(Answering(office), office, runs, "x").figures()


def test_an_answer_that_is_no_number_is_refused_by_name(office: Building) -> None:
    def error(y: np.ndarray) -> np.ndarray:
        y[0, 500, office.outputs.position("core_mid_co2")] = np.nan
        return y

    with pytest.raises(NotFiniteError, match=r"the answer of bundles/x.*'core_mid_co2'.*run 0, hour 500"):
        judge(Answering(office, error), office, as_runs([outcome(office, 0)], office), "bundles/x")


def test_the_two_node_building_is_judged_by_the_same_words(two_node: Building) -> None:
    found = judge(RcPredictor(two_node), two_node, as_runs([outcome(two_node, 0)], two_node), "two_node")
    assert list(found.by_zone) == ["zone"]
    assert set(found.restart) == {"heating", "cooling", "fan", "electricity"}


def test_a_building_without_co2_fans_or_meters_is_judged_by_what_it_has(office: Building) -> None:
    class Narrow(Answering):
        outputs: Signature

        def predict(self, x_btc: np.ndarray) -> np.ndarray:
            return super().predict(x_btc)[..., office.outputs.positions(self.outputs.names)]

    narrow = Narrow(office)
    narrow.outputs = office.outputs.only(["core_mid_air_temperature", "gas_coil_heat"])
    found = judge(narrow, office, as_runs([outcome(office, 0)], office), "x")
    assert list(found.energy) == ["gas_coil_heat"]
    assert list(found.restart) == ["heating"]
    assert found.by_zone["core_mid"].keys() == {"temperature_rmse_k", "temperature_bias_k"}


def test_chained_windows_show_an_error_that_grows(office: Building) -> None:
    zones = office.outputs.positions(office.outputs.having(Role.INDOOR, quantity=TEMPERATURE).names)

    def drifts(y: np.ndarray) -> np.ndarray:
        y[..., zones] += 0.001 * np.arange(y.shape[1])[:, None]
        return y

    runs = as_runs([outcome(office, n, n_windows=3) for n in range(2)], office)
    chain = chain_windows(Answering(office, drifts), office, runs)
    first, last = (np.sqrt(np.mean((0.001 * np.arange(s, s + 672)) ** 2)) for s in (168, 168 + 2 * 672))
    assert chain.ratio == pytest.approx(last / first, rel=1e-3)
    assert chain.over_alone == pytest.approx(last / first, rel=1e-3)
    assert chain.gap == 0
    alone = chain.windows["window 3 alone"]["temperature_rmse_k"]
    assert alone == pytest.approx(chain.windows["window 1 chained"]["temperature_rmse_k"], rel=1e-3)


def test_a_predictor_that_forgets_its_past_shows_in_the_gap(office: Building) -> None:
    class Forgetful(Answering):
        def given(self, past: object) -> Forgetful:
            return Forgetful(office, warmer(0.5))

    runs = as_runs([outcome(office, 0, n_windows=3)], office)
    gap = chain_windows(Forgetful(office), office, runs).gap
    zones = runs.y_nto[:, 168:, office.outputs.position("core_mid_air_temperature")]
    assert gap == pytest.approx(0.5 / zones.std(), rel=1e-6)


def test_chains_that_all_failed_give_no_ratio_but_their_reasons(office: Building) -> None:
    chain = chain_windows(Answering(office), office, as_runs([failure(0)], office))
    assert np.isnan(chain.ratio)
    assert (chain.windows, chain.failures) == ({}, (("usa_co_denver", "the simulation failed (run 0)"),))


def test_runs_come_in_the_order_of_their_numbers_and_failures_apart(office: Building) -> None:
    runs = as_runs([outcome(office, 2, climate="usa_co_denver"), failure(1), outcome(office, 0)], office)
    assert (runs.climate, runs.cpu_s, len(runs.failures)) == (("usa_il_chicago", "usa_co_denver"), (2.0, 2.0), 1)
    assert dataclasses.asdict(runs)["kind"] == ("schedule", "schedule")


def test_a_run_outside_the_bounds_of_the_bundle_is_set_aside_with_the_reason(office: Building) -> None:
    stormy = outcome(office, 0, climate="usa_co_boulder")
    stormy.values[300, office.inputs.position("wind_speed")] = 31.0
    runs = within_bounds(Answering(office), office, as_runs([stormy, outcome(office, 1)], office))
    assert (len(runs), runs.climate, runs.cpu_s) == (1, ("usa_il_chicago",), (2.0,))
    assert runs.failures[0][0] == "usa_co_boulder"
    assert "wind_speed = 31 m/s lies outside 0 .. 25 m/s" in runs.failures[0][1]
