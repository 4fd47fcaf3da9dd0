"""The residual correction on errors whose law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from building.errors import TooFewDataError
from building.units import CO2, POWER, TEMPERATURE
from building.variables import Role, Signature, Variable
from calibration.residual import Fading, ResidualModel, correction, day_ahead_rmse, fit_residual, site_spread, widen

OUTPUTS = Signature(
    Variable("slow", TEMPERATURE, Role.INDOOR, -50, 50),
    Variable("white", TEMPERATURE, Role.INDOOR, -50, 50),
    Variable("daily", CO2, Role.INDOOR, 300, 5000),
    Variable("power", POWER, Role.CONSUMPTION, 0, 1e6),
)
INDEX = pd.date_range("2026-01-05", periods=28 * 24, freq="h", tz="UTC")


def errors(seed: int = 0, tau_h: float = 32.0) -> pd.DataFrame:
    """Slow AR(1), white noise, a daily pattern, and a power with AR(1) of eight hours."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, tau in (("slow", tau_h), ("power", 8.0)):
        phi, e = np.exp(-1 / tau), np.zeros(len(INDEX))
        for t in range(1, len(e)):
            e[t] = phi * e[t - 1] + np.sqrt(1 - phi**2) * rng.normal()
        out[name] = e
    out["white"] = rng.normal(size=len(INDEX))
    out["daily"] = 40 * np.sin(2 * np.pi * np.arange(len(INDEX)) / 24) + rng.normal(size=len(INDEX))
    frame = pd.DataFrame(out, index=INDEX)[list(OUTPUTS.names)]
    return frame.mask(rng.random(frame.shape) < 0.02)


def test_fitted_time_constant_is_that_of_the_errors() -> None:
    taus = [fit_residual(errors(s), OUTPUTS, "UTC").fadings["slow"].time_constant_h for s in range(5)]
    assert 16 <= float(np.median(taus)) <= 64
    short = [fit_residual(errors(s), OUTPUTS, "UTC").fadings["power"].time_constant_h for s in range(5)]
    assert 4 <= float(np.median(short)) <= 16


def test_white_errors_carry_nothing_or_little() -> None:
    fading = fit_residual(errors(), OUTPUTS, "UTC").fadings["white"]
    assert fading.time_constant_h <= 1
    assert fading.pattern_share <= 0.25


def test_a_daily_pattern_is_learnt_but_never_for_a_power() -> None:
    e = errors()
    e["power"] = e["daily"]
    fadings = fit_residual(e, OUTPUTS, "UTC").fadings
    assert fadings["daily"].pattern_share == 1.0
    assert fadings["power"].pattern_share == 0.0


def test_correction_lowers_the_error_a_day_ahead_on_errors_it_has_not_seen() -> None:
    e = errors(seed=3)
    half = len(e) // 2
    model = fit_residual(e.iloc[:half], OUTPUTS, "UTC")
    predicted = pd.DataFrame(1000.0, index=e.index, columns=e.columns)
    figures = day_ahead_rmse(model, e, predicted, OUTPUTS, first=half)
    for name, most in (("slow", 0.9), ("daily", 0.3), ("white", 1.05), ("power", 1.0)):
        free, corrected = figures[name]
        assert corrected < most * free, name


def test_offset_is_the_last_error_fading() -> None:
    model = ResidualModel({"slow": Fading(10.0, 0.0)}, "UTC")
    past = pd.DataFrame({"slow": np.full(48, np.nan)}, index=INDEX[:48])
    past.iloc[-4:, 0] = [9.0, 1.0, np.nan, 2.0]  # the last three good ones are 9, 1 and 2
    offset = correction(model, past, OUTPUTS, INDEX[48:60]).offset_to[:, 0]
    assert np.allclose(offset, 4.0 * np.exp(-np.arange(1, 13) / 10))


def test_a_horizon_that_begins_later_has_faded_further() -> None:
    model = ResidualModel({"slow": Fading(10.0, 0.0)}, "UTC")
    past = pd.DataFrame({"slow": 1.0}, index=INDEX[:48])
    late = correction(model, past, OUTPUTS, INDEX[53:54]).offset_to[0, 0]
    assert late == pytest.approx(np.exp(-6 / 10))


def test_stale_errors_are_not_the_present() -> None:
    model = ResidualModel({"slow": Fading(10.0, 0.0)}, "UTC")
    past = pd.DataFrame({"slow": 1.0}, index=INDEX[:48])
    past.iloc[-6:] = np.nan
    assert np.abs(correction(model, past, OUTPUTS, INDEX[48:60]).offset_to).max() == 0


def test_pattern_follows_the_local_clock() -> None:
    model = ResidualModel({"daily": Fading(0.0, 1.0)}, "America/Chicago")
    past = pd.DataFrame({"daily": 0.0}, index=INDEX[: 7 * 24])
    past.loc[past.index.tz_convert("America/Chicago").hour == 9, "daily"] = 80.0
    horizon = pd.date_range(INDEX[7 * 24], periods=24, freq="h")
    offset = correction(model, past, OUTPUTS, horizon).offset_to[:, 2]
    at_nine = horizon.tz_convert("America/Chicago").hour == 9
    assert offset[at_nine] == pytest.approx(80 * 7 / 8)  # one day of zeros pulls it in
    assert np.abs(offset[~at_nine]).max() == 0


def test_powers_stay_off_where_they_are_off_and_never_become_negative() -> None:
    model = ResidualModel({"power": Fading(100.0, 0.0)}, "UTC")
    y_bto = np.zeros((2, 3, 4))
    y_bto[:, :, 3] = [[0.0, 50.0, 1000.0]] * 2
    for error in (-300.0, 300.0):
        past = pd.DataFrame({"power": error}, index=INDEX[:48])
        corrected = correction(model, past, OUTPUTS, INDEX[48:51])(y_bto)[0, :, 3]
        assert corrected[0] == 0.0
        assert (corrected >= 0).all()
        assert corrected[2] == pytest.approx(1000 + error * np.exp(-3 / 100))


def test_outputs_without_errors_are_left_as_they_are() -> None:
    model = ResidualModel({"slow": Fading(10.0, 0.5), "gone": Fading(5.0, 0.0)}, "UTC")
    past = pd.DataFrame({"white": 1.0}, index=INDEX[:48])
    y_bto = np.random.default_rng(0).normal(size=(3, 12, 4))
    assert np.array_equal(correction(model, past, OUTPUTS, INDEX[48:60])(y_bto), y_bto)


def test_residual_model_survives_json() -> None:
    model = fit_residual(errors(), OUTPUTS, "Europe/Paris")
    assert ResidualModel.from_dict(model.to_dict()) == model


def test_too_few_errors_are_refused() -> None:
    with pytest.raises(TooFewDataError, match="the errors"):
        fit_residual(errors().iloc[:50], OUTPUTS, "UTC")


def test_intervals_of_one_building_are_widened_until_they_hold_its_recent_hours_and_still_hold_the_next() -> None:
    outputs = Signature(
        Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60),
        Variable("fan_electricity", POWER, Role.CONSUMPTION, 0, 1e5),
    )
    rng = np.random.default_rng(3)
    y = np.stack([np.full(2016, 21.0), np.where(np.arange(2016) % 24 < 8, 0.0, 2000.0)], axis=1)
    half = np.array([0.3, 0.05]) * np.stack([np.ones(2016), y[:, 1]], axis=1)
    errors = np.array([0.5, 0.1]) * np.stack([np.ones(2016), y[:, 1]], axis=1) * rng.normal(size=y.shape)
    errors[rng.random(y.shape) < 0.05] = np.nan
    recent, later = slice(0, 168), slice(168, None)
    spread = site_spread(errors[recent], y[recent], (y - half)[recent], (y + half)[recent], outputs)
    low, high = widen(y, half, half, spread, outputs)
    inside = (low <= y + errors) & (y + errors <= high)
    read = np.isfinite(errors)
    for o in range(2):
        assert inside[later, o][read[later, o]].mean() == pytest.approx(0.9, abs=0.05)
    assert (high[y[:, 1] == 0, 1] == 0).all()  # what is certainly off stays off


def test_a_sensor_that_said_nothing_leaves_the_intervals_as_the_bundle_gave_them() -> None:
    outputs = Signature(Variable("core_air_temperature", TEMPERATURE, Role.INDOOR, -10, 60))
    y = np.full((168, 1), 21.0)
    assert site_spread(np.full((168, 1), np.nan), y, y - 0.3, y + 0.3, outputs).tolist() == [0.0]
    low, high = widen(y, np.full_like(y, 0.3), np.full_like(y, 0.4), np.zeros(1), outputs)
    np.testing.assert_allclose((low[0], high[0]), ([20.7], [21.4]))
