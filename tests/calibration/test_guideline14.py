"""Guideline 14 figures against numbers worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from calibration.guideline14 import (
    HOURLY,
    MONTHLY,
    EnergyFigure,
    cv_rmse,
    daily_means,
    energy_channels,
    energy_figure,
    indoor_figure,
    nmbe,
)

MEASURED = np.array([10.0, 20.0, 30.0, 40.0])
SIMULATED = np.array([12.0, 18.0, 33.0, 41.0])
INDEX = pd.date_range("2026-03-02", periods=96, freq="h", tz="UTC")


def test_limits_are_those_of_the_standard() -> None:
    assert (HOURLY.cv_rmse, HOURLY.nmbe, MONTHLY.cv_rmse, MONTHLY.nmbe) == (0.30, 0.10, 0.15, 0.05)


def test_cv_rmse_by_hand() -> None:
    # squares 4 + 4 + 9 + 1 = 18; over n - 1 = 3: 6; root 2.449; mean 25
    assert cv_rmse(MEASURED, SIMULATED) == pytest.approx(np.sqrt(6) / 25)
    assert cv_rmse(MEASURED, SIMULATED, p=0) == pytest.approx(np.sqrt(4.5) / 25)


def test_nmbe_by_hand_is_positive_for_over_prediction() -> None:
    # sum of simulated - measured = 2 - 2 + 3 + 1 = 4; over 3 * 25
    assert nmbe(MEASURED, SIMULATED) == pytest.approx(4 / 75)
    assert nmbe(SIMULATED, MEASURED) < 0


def test_gaps_are_left_out_of_both_sides() -> None:
    m, s = np.append(MEASURED, [np.nan, 7.0]), np.append(SIMULATED, [5.0, np.nan])
    assert cv_rmse(m, s) == cv_rmse(MEASURED, SIMULATED)
    assert nmbe(m, s) == nmbe(MEASURED, SIMULATED)


def test_a_figure_without_a_mean_is_no_number() -> None:
    assert np.isnan(cv_rmse(np.zeros(5), np.ones(5)))
    assert np.isnan(nmbe(np.array([1.0]), np.array([1.0])))


def test_days_follow_the_local_clock_and_need_their_hours() -> None:
    values = np.arange(96.0)
    values[30:40] = np.nan  # ten hours of 3 March in Chicago (UTC-6)
    days = daily_means(values, INDEX, "America/Chicago")
    assert len(days) == 5  # six hours of 1 March, three whole days, eighteen of 5 March
    assert np.isnan(days[0])
    assert np.isnan(days[2])
    assert days[1] == pytest.approx(np.arange(6, 30).mean())
    assert days[4] == pytest.approx(np.arange(78, 96).mean())


def test_energy_passes_only_with_both_figures_inside() -> None:
    m = np.full(96, 100.0)
    for simulated, passes in ((m * 1.09, True), (m * 1.11, False), (m * 0.89, False)):
        assert energy_figure("heating", m, simulated, INDEX, "UTC", True).passes is passes
    wobble = m + 40 * np.where(np.arange(96) % 2, 1, -1)
    figure = energy_figure("heating", m, wobble, INDEX, "UTC", True)
    assert abs(figure.nmbe) < 1e-9
    assert figure.cv_rmse > 0.4
    assert not figure.passes


def test_heating_is_judged_only_where_its_mean_is_a_tenth_of_its_peak() -> None:
    rare, often = np.zeros(96), np.zeros(96)
    rare[:9], often[:10] = 100.0, 100.0  # 9.4 % and 10.4 % of the hours at the peak
    assert not energy_figure("heating", rare, rare, INDEX, "UTC", always=False).is_judged
    assert energy_figure("heating", often, often, INDEX, "UTC", always=False).is_judged
    assert energy_figure("facility_electricity", rare, rare, INDEX, "UTC", always=True).is_judged


def test_a_figure_without_any_hour_does_not_pass() -> None:
    empty = energy_figure("facility_electricity", np.full(96, np.nan), np.ones(96), INDEX, "UTC", True)
    assert empty.is_judged
    assert not empty.passes
    again = EnergyFigure.from_dict(json.loads(json.dumps(empty.to_dict())))
    assert np.isnan(again.cv_rmse)
    assert again.to_dict() == empty.to_dict()


def test_what_is_judged_follows_what_is_metered() -> None:
    everything = ["gas_coil_heat", "electric_reheat_heat", "coil_cooling", "cooling_electricity", "facility_electricity"]
    assert energy_channels(everything) == {
        "facility_electricity": (("facility_electricity",), True),
        "heating": (("gas_coil_heat", "electric_reheat_heat"), False),
        "cooling": (("coil_cooling",), False),
    }
    assert energy_channels(["cooling_electricity"]) == {"cooling": (("cooling_electricity",), False)}
    assert energy_channels(["zone_air_temperature"]) == {}


def test_indoor_errors_by_hand() -> None:
    f = indoor_figure("zone_air_temperature", "degC", np.array([20.0, 21.0, np.nan]), np.array([21.0, 19.0, 5.0]))
    assert (f.n_hours, f.mae, f.bias) == (2, 1.5, -0.5)
    assert f.rmse == pytest.approx(np.sqrt(2.5))
