"""One suite for every Store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from building.errors import BadReadingError, JobOverlapError, StoreError
from building.plan import Plan
from service.store import Reading, SqlStore, Store

T0 = pd.Timestamp("2026-01-05T00:00Z")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state' / 'setwise.db'}"
        return
    server = os.environ.get("SETWISE_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("SETWISE_TEST_POSTGRES_URL is not set")
    schema = f"setwise_{request.node.name.encode().hex()[-24:]}"
    engine = sa.create_engine(server)
    with engine.begin() as c:
        c.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        c.exec_driver_sql(f"CREATE SCHEMA {schema}")
    yield sa.make_url(server).update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    with engine.begin() as c:
        c.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = SqlStore(url)
    yield store
    store.close()


def reading(variable: str, hours: float, value: float) -> Reading:
    stamp = T0 + pd.Timedelta(hours=hours)
    return Reading(variable, stamp, value, stamp + pd.Timedelta(seconds=5))


def plan(start: pd.Timestamp = T0, heating: float = 20.0, n: int = 24) -> Plan:
    index = pd.date_range(start, periods=n, freq="h")
    return Plan(pd.DataFrame({"heating_setpoint": heating, "cooling_setpoint": 25.0}, index=index), "optimised", start)


def test_readings_come_back_as_a_utc_frame_with_gaps(store: Store) -> None:
    assert store.add_readings([reading("a", 0, 1.0), reading("a", 2, 3.0), reading("b", 1, -4.5)]) == 3
    frame = store.series(["a", "b", "nobody"], T0, T0 + 2 * HOUR)
    assert list(frame.columns) == ["a", "b", "nobody"]
    assert str(frame.index.tz) == "UTC" and list(frame.index) == [T0, T0 + HOUR]
    np.testing.assert_array_equal(frame.to_numpy(), [[1.0, np.nan, np.nan], [np.nan, -4.5, np.nan]])


def test_hourly_is_the_mean_of_each_hour_and_nan_where_nothing_fell(store: Store) -> None:
    store.add_readings([reading("a", h, v) for h, v in ((0.0, 1.0), (0.5, 2.0), (0.999, 6.0), (3.25, 7.0))])
    frame = store.hourly(["a"], T0, T0 + 4 * HOUR)
    assert list(frame.index) == [T0 + i * HOUR for i in range(4)]
    np.testing.assert_allclose(frame["a"], [3.0, np.nan, np.nan, 7.0])


def test_empty_store_is_no_trouble(store: Store) -> None:
    assert store.hourly(["a"], T0, T0 + 2 * HOUR).isna().all().all()
    assert store.series(["a"], T0, T0 + HOUR).empty and store.last(["a"]) == {}


def test_second_reading_of_the_same_stamp_is_counted_as_duplicate_and_the_first_stays(store: Store) -> None:
    assert store.add_readings([reading("a", 0, 1.0), reading("a", 0, 9.0)]) == 1
    assert store.add_readings([reading("a", 0, 9.0), reading("a", 1, 2.0)]) == 1
    assert list(store.series(["a"], T0, T0 + 2 * HOUR)["a"]) == [1.0, 2.0]
    assert {r.reason: r.n for r in store.refusals()} == {"duplicate": 2}


def test_readings_out_of_order_are_kept_in_order(store: Store) -> None:
    for h in (5, 1, 3):
        store.add_readings([reading("a", h, float(h))])
    assert list(store.series(["a"], T0, T0 + 9 * HOUR)["a"]) == [1.0, 3.0, 5.0]
    assert store.last(["a", "b"])["a"] == reading("a", 5, 5.0)


def test_refusals_are_counted_by_reason_with_the_last_of_them(store: Store) -> None:
    bad = [BadReadingError(reason="unit", topic=f"t/{i}", detail="'furlong'") for i in range(3)]
    store.add_readings([], [*bad, BadReadingError(reason="too_old", topic="x", detail="1990")], at=T0)
    store.add_readings([], bad[:1], at=T0 + HOUR)
    first, second = store.refusals()
    assert (first.reason, first.n, first.topic, first.last) == ("unit", 4, "t/0", T0 + HOUR)
    assert (second.reason, second.n, second.topic) == ("too_old", 1, "x")


def test_value_that_is_not_a_number_never_enters(store: Store) -> None:
    with pytest.raises(StoreError):
        store.add_readings([reading("a", 0, 1.0), reading("a", 1, float("nan"))])
    assert store.counts()["readings"] == 0


def test_newest_forecast_issued_so_far_answers_and_the_old_one_is_kept(store: Store) -> None:
    index = pd.date_range(T0, periods=3, freq="h")
    store.add_forecast(pd.DataFrame({"t": [1.0, 2.0, 3.0]}, index=index), issued=T0 - 6 * HOUR)
    store.add_forecast(pd.DataFrame({"t": [np.nan, 20.0, 30.0]}, index=index), issued=T0)
    np.testing.assert_allclose(store.forecast(["t"], T0, T0 + 4 * HOUR, at=T0)["t"], [1.0, 20.0, 30.0, np.nan])
    np.testing.assert_allclose(store.forecast(["t"], T0, T0 + 3 * HOUR, at=T0 - HOUR)["t"], [1.0, 2.0, 3.0])
    assert store.counts()["forecasts"] == 5


def test_plan_in_force_is_the_one_issued_last_that_covers_the_instant(store: Store) -> None:
    first = store.add_plan(plan(heating=19.0), issued=T0)
    second = store.add_plan(plan(T0 + 4 * HOUR, heating=20.0), issued=T0 + 3 * HOUR)

    def in_force(h: float) -> int | None:
        record = store.plan_in_force(T0 + h * HOUR)
        return None if record is None else record.id

    assert [in_force(h) for h in (-1, 0, 3.5, 4, 27.9, 28)] == [None, first, first, second, second, None]
    store.withdraw_plan(second)
    assert in_force(5) == first and in_force(26) is None
    record = store.plan_in_force(T0)
    assert record is not None and record.plan.at(T0) == {"heating_setpoint": 19.0, "cooling_setpoint": 25.0}
    assert [p.id for p in store.plans()] == [second, first]


def test_refused_calibration_is_kept_and_the_last_accepted_still_found(store: Store) -> None:
    assert store.last_calibration() is None
    good = store.add_calibration({"parameters": {"infiltration": 1.2}}, T0, is_accepted=True)
    bad = store.add_calibration({"reasons": ["nmbe"]}, T0 + HOUR, is_accepted=False)
    newest, accepted = store.last_calibration(), store.last_calibration(is_accepted=True)
    assert newest is not None and (newest.id, newest.state) == (bad, "refused")
    assert accepted is not None and accepted.id == good and accepted.data == {"parameters": {"infiltration": 1.2}}


def test_front_comes_back(store: Store) -> None:
    store.add_front({"hypervolume": 0.5}, T0)
    front = store.last_front()
    assert front is not None and front.data == {"hypervolume": 0.5} and front.made == T0


def test_one_job_of_a_kind_at_a_time(store: Store, url: str) -> None:
    job = store.start_job("calibration", T0)
    store.start_job("planning", T0)
    other_process = SqlStore(url)
    with pytest.raises(JobOverlapError, match="2026-01-05T00:00:00"):
        other_process.start_job("calibration", T0 + HOUR)
    store.end_job(job, "failed", T0 + HOUR, "the engine said no")
    assert other_process.start_job("calibration", T0 + HOUR) > job
    ended = next(j for j in store.jobs("calibration") if j.id == job)
    assert (ended.outcome, ended.ended, ended.log) == ("failed", T0 + HOUR, "the engine said no")
    other_process.close()


def test_job_left_running_is_marked_interrupted_at_next_start(store: Store) -> None:
    store.end_job(store.start_job("planning", T0), "done", T0)
    left = store.start_job("planning", T0)
    assert [j.id for j in store.interrupt_jobs(T0 + HOUR)] == [left]
    assert [j.outcome for j in store.jobs()] == ["interrupted", "done"]
    assert store.interrupt_jobs(T0 + HOUR) == []


def test_publications_keep_their_state(store: Store) -> None:
    for value in (20.0, 21.0):
        latest = store.add_publication("heating_setpoint", "o/h", value, T0 + HOUR, T0, plan_id=None)
    store.settle_publication(latest, "acknowledged", T0 + pd.Timedelta(seconds=2))
    record = store.last_publications()["heating_setpoint"]
    assert (record.value, record.state, record.settled) == (21.0, "acknowledged", T0 + pd.Timedelta(seconds=2))
    assert [p.state for p in store.publications(T0, T0 + HOUR)] == ["waiting", "acknowledged"]


def test_values_under_keys_are_replaced(store: Store) -> None:
    store.put("own_profile", {"a": [1, 2]})
    store.put("own_profile", {"a": [3]})
    assert store.get("own_profile") == {"a": [3]} and store.get("nobody") is None


def test_transaction_keeps_all_or_nothing(store: Store) -> None:
    job = store.start_job("planning", T0)
    with pytest.raises(RuntimeError, match="half-way"), store.transaction():
        store.add_plan(plan(), T0)
        store.add_front({}, T0)
        store.end_job(job, "done", T0)
        raise RuntimeError("half-way")
    assert store.counts()["plans"] == store.counts()["fronts"] == 0 and store.jobs()[0].outcome == "running"
    with store.transaction():
        store.add_plan(plan(), T0)
        store.end_job(job, "done", T0)
    assert store.counts()["plans"] == 1 and store.jobs()[0].outcome == "done"


def test_everything_is_there_after_opening_again(store: Store, url: str) -> None:
    store.add_readings([reading("a", 0, 1.0)])
    store.close()
    again = SqlStore(url)
    assert list(again.series(["a"], T0, T0 + HOUR)["a"]) == [1.0]
    again.close()


def test_store_of_another_schema_is_refused(store: Store, url: str) -> None:
    store.put("schema_version", 99)
    with pytest.raises(StoreError, match="schema version 99"):
        SqlStore(url)


def test_old_rows_are_forgotten(store: Store) -> None:
    store.add_readings([reading("a", h, 1.0) for h in range(10)])
    assert store.forget(T0 + 4 * HOUR) == 4
    assert store.counts()["readings"] == 6
