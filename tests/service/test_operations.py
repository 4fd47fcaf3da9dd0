"""The verbs on a building that lived: calibrations stored with their verdict, plans with their promise, in one transaction."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sites import NOW, fill, lived, open_rc, two_node_config

from building.description import load_building
from building.errors import StoreError, TooFewDataError
from building.plan import Plan
from service import operations
from service.forecast import expected_inputs, measured_series, past_inputs
from service.store import SqlStore


@pytest.fixture(scope="module")
def two_node():
    return load_building("two_node")


@pytest.fixture(scope="module")
def month() -> pd.DataFrame:
    return lived(hours=456)


@pytest.fixture
def site(tmp_path, two_node, month):
    config = two_node_config(tmp_path)
    store = SqlStore(config.store.url.get_secret_value())
    fill(store, month)
    yield config, store, two_node, open_rc(config)
    store.close()


def plan_of(site, **size) -> dict:
    config, store, building, predictor = site
    return operations.replan(store, building, predictor, config, NOW, **({"n_plans": 24, "generations": 6} | size))


@pytest.fixture(scope="module")
def accepted(tmp_path_factory, two_node, month) -> dict:
    folder = tmp_path_factory.mktemp("calibrated")
    config = two_node_config(folder)
    store = SqlStore(config.store.url.get_secret_value())
    fill(store, month)
    return operations.recalibrate(store, two_node, open_rc(config), config, NOW)


def test_calibration_finds_the_leaky_windows_and_is_stored_as_accepted(site, accepted) -> None:
    _, store, _, _ = site
    found = accepted["calibration"]
    assert found["parameters"]["infiltration"] == pytest.approx(1.6, rel=0.15)
    job = store.start_job("calibration", NOW)
    assert operations.enter_calibration(store, job, accepted, NOW)
    assert store.last_calibration(is_accepted=True).data["parameters"] == found["parameters"]
    assert store.job(job).outcome == "done"


def test_refused_calibration_is_kept_but_the_last_accepted_one_stays_in_force(site, accepted) -> None:
    _, store, _, _ = site
    operations.enter_calibration(store, store.start_job("calibration", NOW), accepted, NOW)
    bad = {
        "made": NOW + pd.Timedelta(days=7),
        "calibration": {**accepted["calibration"], "is_accepted": False, "refusals": ["NMBE 40 %"]},
    }
    job = store.start_job("calibration", NOW)
    assert not operations.enter_calibration(store, job, bad, NOW)
    assert store.job(job).outcome == "refused" and "NMBE 40 %" in store.job(job).log
    assert store.last_calibration(is_accepted=True).made == NOW
    assert store.last_calibration().state == "refused"


def test_plan_covers_the_horizon_saves_energy_and_says_where_its_forecast_came_from(site, accepted) -> None:
    config, store, building, _ = site
    operations.enter_calibration(store, store.start_job("calibration", NOW), accepted, NOW)
    result = plan_of(site)
    plan = Plan.from_dict(result["plan"])
    assert (plan.start, plan.end) == (NOW.floor("h"), NOW.floor("h") + pd.Timedelta(hours=config.jobs.horizon_h))
    plan.check(building.settings)
    assert plan.meta["saving"][plan.meta["baseline"]] > 0
    assert plan.meta["forecast"]["outdoor_air_temperature"] == "mean of the last 3 days by hour"
    assert plan.meta["calibration"] == NOW.isoformat()
    assert result["front"]["chosen"] is not None


def test_plan_front_and_predictions_enter_together_or_not_at_all(site, monkeypatch) -> None:
    _, store, _, _ = site
    result = plan_of(site)
    job = store.start_job("plan", NOW)

    def full(*_: object) -> None:
        raise StoreError(url="sqlite", reason="database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(store, "add_forecast", full)
        with pytest.raises(StoreError):
            operations.enter_plan(store, job, result, NOW)
    assert store.plans() == [] and store.last_front() is None and store.job(job).outcome == "running"
    operations.enter_plan(store, job, result, NOW)
    assert store.plan_in_force(NOW) is not None and store.last_front() is not None and store.job(job).outcome == "done"


def test_same_store_and_seed_give_the_same_plan(site) -> None:
    first, second = plan_of(site), plan_of(site)
    assert first["plan"]["settings"] == second["plan"]["settings"]


def test_prediction_made_before_an_hour_is_not_overwritten_by_one_made_after_it(site) -> None:
    _, store, _, _ = site
    name = "zone_air_temperature"
    before = pd.DataFrame({name: [99.0]}, index=[NOW.floor("h") - pd.Timedelta(hours=5)])
    store.add_forecast(before, NOW - pd.Timedelta(days=1))
    operations.enter_plan(store, store.start_job("plan", NOW), plan_of(site), NOW)
    kept = store.forecast([name], before.index[0] - pd.Timedelta(hours=1), before.index[0] + pd.Timedelta(hours=1), at=NOW)[name]
    assert kept.iloc[1] == 99.0 and 10 < kept.iloc[0] < 30


def test_stored_forecast_is_used_and_named(site) -> None:
    _, store, _, _ = site
    hours = pd.date_range(NOW.floor("h"), periods=168, freq="h")
    store.add_forecast(pd.DataFrame({"outdoor_air_temperature": -12.0}, index=hours), NOW - pd.Timedelta(hours=1))
    result = plan_of(site)
    assert result["plan"]["meta"]["forecast"]["outdoor_air_temperature"] == "forecast"
    cold = result["plan"]["meta"]["references"]["own"]["energy"]
    store.add_forecast(pd.DataFrame({"outdoor_air_temperature": 12.0}, index=hours), NOW)
    assert plan_of(site)["plan"]["meta"]["references"]["own"]["energy"] < cold


def test_forecast_issued_later_than_the_plan_is_not_used(site) -> None:
    _, store, _, _ = site
    hours = pd.date_range(NOW.floor("h"), periods=168, freq="h")
    store.add_forecast(pd.DataFrame({"outdoor_air_temperature": -12.0}, index=hours), NOW + pd.Timedelta(hours=1))
    assert "forecast" not in plan_of(site)["plan"]["meta"]["forecast"]["outdoor_air_temperature"]


def test_plan_without_a_day_of_readings_is_refused(tmp_path, two_node) -> None:
    config = two_node_config(tmp_path)
    store = SqlStore(config.store.url.get_secret_value())
    with pytest.raises(TooFewDataError, match="outdoor_air_temperature"):
        operations.replan(store, two_node, open_rc(config), config, NOW)
    fill(store, lived(hours=12))
    with pytest.raises(TooFewDataError, match="12 good hours, at least 24"):
        operations.replan(store, two_node, open_rc(config), config, NOW)
    store.close()


def test_plan_is_made_with_gaps_a_dead_sensor_and_half_a_week_of_readings(tmp_path, two_node) -> None:
    config = two_node_config(tmp_path)
    store = SqlStore(config.store.url.get_secret_value())
    frame = lived(hours=90)
    frame.loc[frame.index[10:40], "outdoor_air_temperature"] = np.nan
    frame["plug_share"] = np.nan
    frame["heating_setpoint"] = np.nan
    fill(store, frame)
    result = operations.replan(store, two_node, open_rc(config), config, NOW, n_plans=16, generations=3)
    assert "h bridged" in result["plan"]["meta"]["past"]["outdoor_air_temperature"]
    assert "own schedule" in result["plan"]["meta"]["past"]["plug_share"]
    assert np.isfinite(result["predicted"].to_numpy()).all()
    store.close()


def test_gaps_are_filled_by_the_stated_rules(site, two_node) -> None:
    _, store, building, predictor = site
    own = building.own_schedule()
    start = NOW.floor("h") - pd.Timedelta(hours=336)
    measured = measured_series(store, building, predictor.outputs, start, NOW.floor("h"))
    name = "outdoor_air_temperature"
    truth = measured.frame[name].copy()
    measured.frame.loc[measured.frame.index[50:53], name] = np.nan
    measured.frame.loc[measured.frame.index[100:130], name] = np.nan
    measured.frame.loc[measured.frame.index[200:220], "system_on"] = np.nan
    past = past_inputs(measured, building, own, predictor.inputs).frame
    between = np.linspace(truth.iloc[49], truth.iloc[53], 5)[1:-1]
    assert past[name].iloc[50:53].to_numpy() == pytest.approx(between)
    hour = measured.frame.index[120].hour
    same = measured.frame[name][measured.frame.index.hour == hour].mean()
    assert past[name].iloc[120] == pytest.approx(same)
    assert past["system_on"].iloc[200:206].eq(measured.frame["system_on"].iloc[199]).all()
    assert past["system_on"].iloc[207:220].to_numpy() == pytest.approx(
        own.unroll(past.index, building.site.time_zone)["system_on"].iloc[207:220].to_numpy()
    )


def test_occupancy_is_expected_as_measured_on_the_same_type_of_day(site) -> None:
    _, store, building, predictor = site
    own = building.own_schedule()
    end = NOW.floor("h")
    measured = measured_series(store, building, predictor.outputs, end - pd.Timedelta(hours=672), end)
    measured.frame["occupancy_share"] *= 0.5
    past = past_inputs(measured, building, own, predictor.inputs)
    future = expected_inputs(store, measured.frame, past.frame, building, own, predictor.inputs, end, 168, at=NOW).frame
    usual = own.unroll(future.index, building.site.time_zone)["occupancy_share"]
    assert future["occupancy_share"].to_numpy() == pytest.approx(0.5 * usual.to_numpy())


def test_own_schedule_takes_what_calibration_found_of_settings_nobody_measures(site) -> None:
    _, store, building, _ = site
    own = building.own_schedule()
    profile = {k: v for k, v in own.to_dict().items() if k == "heating_setpoint"}
    profile["heating_setpoint"]["weekday"] = [19.5] * 24
    store.add_calibration({"profile": profile, "parameters": {}}, NOW, is_accepted=True)
    found = operations.own_schedule(building, store.last_calibration())
    column = own.columns.index("heating_setpoint")
    assert (found.values[0, :, column] == 19.5).all()
    assert np.array_equal(np.delete(found.values, column, axis=2), np.delete(own.values, column, axis=2))


def test_what_was_measured_or_forecast_outside_the_bounds_is_brought_inside_and_the_plan_says_so(site) -> None:
    _, store, building, predictor = site
    end = NOW.floor("h")
    bounds = predictor.inputs
    measured = measured_series(store, building, predictor.outputs, end - pd.Timedelta(hours=336), end)
    measured.frame.loc[measured.frame.index[20:23], "heating_setpoint"] = 90.0
    past = past_inputs(measured, building, building.own_schedule(), bounds)
    assert past.frame["heating_setpoint"].max() <= bounds["heating_setpoint"].high
    assert past.outside["heating_setpoint"].startswith("in 3 of 336 h outside") and "worst 90" in past.outside["heating_setpoint"]
    hours = pd.date_range(end, periods=168, freq="h")
    store.add_forecast(pd.DataFrame({"outdoor_air_temperature": -80.0}, index=hours), NOW - pd.Timedelta(hours=1))
    said = plan_of(site)["plan"]["meta"]["outside"]
    assert len(said) == 1 and said[0].startswith("outdoor_air_temperature of the forecast: in 168 of 168 h outside")


def test_predictions_come_with_intervals_that_are_kept_and_hold_the_week_they_were_made_from(site) -> None:
    _, store, building, predictor = site
    result = plan_of(site)
    predicted = result["predicted"]
    names = list(predictor.outputs.names)
    values, low, high = (predicted[[f"{n}{end}" for n in names]].to_numpy() for end in ("", ".low", ".high"))
    assert (low <= values).all() and (values <= high).all()
    measured = measured_series(store, building, predictor.outputs, predicted.index[0], NOW.floor("h")).frame[names].to_numpy()
    past = slice(0, len(measured))
    counts = np.isfinite(measured) & (high[past] > low[past])
    inside = (low[past] <= measured) & (measured <= high[past])
    shares = [inside[counts[:, o], o].mean() for o in range(len(names)) if counts[:, o].sum() > 100]
    assert len(shares) > 3 and min(shares) >= 0.88
    operations.enter_plan(store, store.start_job("plan", NOW), result, NOW)
    kept = store.forecast(["zone_air_temperature.low"], NOW, NOW + pd.Timedelta(hours=24), at=NOW)
    assert kept.notna().all().all()
