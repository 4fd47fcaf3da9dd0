"""The bars: limits on figures, met or not, and said so where nothing was measured."""

from __future__ import annotations

import math

import pytest

from proof.bars import BARS, Bar, counts


@pytest.mark.parametrize(("found", "is_met"), [(0.2, True), (0.2001, False), (math.nan, None), (None, None)])
def test_a_limit_is_kept_up_to_its_last_digit_and_no_figure_is_no_verdict(found: float | None, is_met: bool | None) -> None:
    figures = {} if found is None else {"rmse": found}
    assert Bar("error", "rmse", 0.2).is_met(figures) is is_met


def test_a_least_value_is_a_limit_from_below() -> None:
    bar = Bar("explained", "r2", 0.98, is_least=True)
    assert (bar.is_met({"r2": 0.98}), bar.is_met({"r2": 0.97})) == (True, False)
    assert bar.row({"r2": 0.97}) == ("explained", ">= 0.98", 0.97, "NOT MET")


def test_what_could_not_be_judged_counts_neither_way() -> None:
    assert counts({"zone_temperature_rmse_k": 0.19, "co2_rmse_ppm": 46.0, "heating_r2": math.nan}) == (1, 2)


def test_the_bars_are_those_of_the_issue() -> None:
    limits = {bar.figure: (bar.limit, bar.is_least) for bar in BARS}
    assert limits == {
        "zone_temperature_rmse_k": (0.2, False),
        "last_over_first_week": (1.1, False),
        "co2_rmse_ppm": (45, False),
        "heating_r2": (0.98, True),
        "cooling_r2": (0.99, True),
        "fan_r2": (0.98, True),
        "electricity_r2": (0.99, True),
        "total_error_median": (0.03, False),
        "held_out_ratio": (1.5, False),
        "coverage_min": (0.87, True),
        "coverage_max": (0.93, False),
    }
