"""One suite for every Store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from building.errors import BadReadingError, JobOverlapError, NewerStoreError, StoreError
from building.plan import Plan
from service.store import Reading, RegimeRecord, SqlStore, Store
from service.store.backup import restore
from service.store.tables import SUMMARIES

T0 = pd.Timestamp("2026-01-05T00:00Z")
HOUR = pd.Timedelta(hours=1)


@pytest.fixture
def url(store_url: str) -> str:
    return store_url


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


def test_old_rows_are_forgotten(store: Store) -> None:
    store.add_readings([reading("a", h, 1.0) for h in range(10)])
    index = pd.date_range(T0, periods=10, freq="h")
    store.add_forecast(pd.DataFrame({"t": 1.0}, index=index), issued=T0)
    assert store.forget(T0 + 4 * HOUR, forecasts_before=T0 + 2 * HOUR) == 4 + 2
    assert store.counts()["readings"] == 6 and store.counts()["forecasts"] == 8


# -- flags


def test_unusable_reading_is_kept_and_shown_but_counts_in_no_hour(store: Store) -> None:
    bad = Reading("a", T0 + HOUR / 2, 99.0, T0 + HOUR, "out_of_range")
    store.add_readings([reading("a", 0, 1.0), bad])
    assert store.hourly(["a"], T0, T0 + HOUR)["a"].tolist() == [1.0]
    assert store.series(["a"], T0, T0 + HOUR)["a"].tolist() == [1.0]
    assert store.series(["a"], T0, T0 + HOUR, is_usable=False)["a"].tolist() == [1.0, 99.0]
    assert store.last(["a"])["a"].value == 1.0 and store.last(["a"], is_usable=False)["a"] == bad


def test_usable_reading_takes_the_place_of_one_that_was_not_and_never_the_other_way_round(store: Store) -> None:
    bad = Reading("a", T0, 99.0, T0, "out_of_range")
    assert store.add_readings([bad]) == 1
    assert store.add_readings([reading("a", 0, 20.0)]) == 1
    assert store.add_readings([bad]) == 0
    assert store.last(["a"])["a"] == reading("a", 0, 20.0)
    assert {r.reason: r.n for r in store.refusals()} == {"duplicate": 1}


# -- growing old


def minutes(n: int, seed: int, flags: tuple[str, ...] = ("good",)) -> list[Reading]:
    rng = np.random.default_rng(seed)
    stamps = T0 + pd.to_timedelta(np.sort(rng.choice(n * 60, n, replace=False)), unit="s")
    values, chosen = rng.normal(20, 3, n), rng.choice(flags, n)
    return [Reading("a", t, float(v), t, str(f)) for t, v, f in zip(stamps, values, chosen, strict=True)]


def test_compacted_readings_keep_mean_least_most_first_last_and_count_of_each_step_and_flag(store: Store) -> None:
    readings = minutes(600, 3, ("good", "late", "stuck"))
    store.add_readings(readings)
    known = pd.DataFrame({"t": [r.stamp for r in readings], "v": [r.value for r in readings], "flag": [r.flag for r in readings]})
    for step, n_gone in ((15, 600), (60, None)):
        before = store.hourly(["a"], T0, T0 + 11 * HOUR)
        gone = store.compact(T0 + 10 * HOUR, step)
        assert n_gone is None or gone == n_gone
        pd.testing.assert_frame_equal(store.hourly(["a"], T0, T0 + 11 * HOUR), before)
        with store._reading() as c:  # type: ignore[attr-defined]
            rows = pd.DataFrame(c.execute(sa.select(SUMMARIES)).mappings().all())
        wanted = known.groupby([known.t.dt.floor(f"{step}min"), "flag"])["v"].agg(
            ["mean", "min", "max", "first", "last", "count"]
        )
        rows.index = pd.MultiIndex.from_arrays([pd.to_datetime(rows.stamp, unit="ms", utc=True), rows.flag])
        rows = rows.sort_index()
        for ours, theirs in (
            ("mean", "mean"),
            ("low", "min"),
            ("high", "max"),
            ("first", "first"),
            ("last", "last"),
            ("n", "count"),
        ):
            np.testing.assert_allclose(rows[ours], wanted[theirs], rtol=1e-12)
        assert set(rows.step_min) == {step}
    assert store.counts()["readings"] == 0
    newest = [next(r.value for r in reversed(readings) if r.flag == flag) for flag in ("good", "late")]
    assert store.last(["a"])["a"].value in newest  # which of the two came last within the hour is no longer known


def test_compaction_leaves_the_young_and_the_hour_that_is_not_whole(store: Store) -> None:
    store.add_readings([reading("a", h / 4, float(h)) for h in range(20)])
    assert store.compact(T0 + 2.5 * HOUR, 15) == 8
    assert store.compact(T0 + 2.5 * HOUR, 15) == 0
    assert store.counts()["readings"] == 12
    assert store.hourly(["a"], T0, T0 + 5 * HOUR)["a"].tolist() == [1.5, 5.5, 9.5, 13.5, 17.5]


def test_reading_that_comes_after_its_step_was_compacted_is_counted_in_it(store: Store) -> None:
    store.add_readings([reading("a", 0, 1.0), reading("a", 0.1, 2.0)])
    store.compact(T0 + HOUR, 15)
    store.add_readings([reading("a", 0.05, 6.0)])
    assert store.hourly(["a"], T0, T0 + HOUR)["a"].tolist() == [3.0]
    store.compact(T0 + HOUR, 15)
    assert store.hourly(["a"], T0, T0 + HOUR)["a"].tolist() == [3.0] and store.counts()["summaries"] == 1


def test_counter_gives_the_same_hours_before_and_after_compaction_and_a_reset_loses_nothing(store: Store) -> None:
    power_w = 3000.0 + 1000.0 * np.sin(np.arange(24 * 12) / 20)  # every 5 minutes
    level_kwh = np.cumsum(power_w) * 5 / 60 / 1000
    level_kwh[150:] -= level_kwh[149]  # the meter was exchanged: it begins again at 0
    stamps = [T0 + pd.Timedelta(minutes=5 * i) for i in range(len(level_kwh))]
    store.add_readings([Reading("p.counter", t, float(v), t) for t, v in zip(stamps, level_kwh, strict=True)])
    rules = {"p": "counter"}
    before = store.hourly(["p"], T0, T0 + 23 * HOUR, rules=rules)["p"]
    truth = [power_w[12 * h + 1 : 12 * h + 13].mean() for h in range(23)]
    np.testing.assert_allclose(before, truth, rtol=1e-9)
    store.compact(T0 + 24 * HOUR, 15)
    after = store.hourly(["p"], T0, T0 + 23 * HOUR, rules=rules)["p"]
    np.testing.assert_allclose(after, before, rtol=0.03)
    np.testing.assert_allclose(after.sum(), before.sum(), rtol=2e-3)
    store.put("resampling", rules)
    pd.testing.assert_series_equal(store.hourly(["p"], T0, T0 + 23 * HOUR)["p"], after)


def test_state_keeps_its_last_value_of_the_hour_when_it_grows_old(store: Store) -> None:
    store.add_readings([reading("on", h, v) for h, v in ((0, 1.0), (0.4, 0.0), (0.9, 1.0), (1.2, 0.0))])
    for step in (None, 15, 60):
        if step:
            store.compact(T0 + 4 * HOUR, step)
        assert store.hourly(["on"], T0, T0 + 2 * HOUR, rules={"on": "last"})["on"].tolist() == [1.0, 0.0]


# -- copies


def test_backup_made_while_others_write_is_restored_whole(store: Store, url: str, tmp_path: Path) -> None:
    fill_all(store)
    file = tmp_path / "copies" / "setwise.backup"
    store.add_readings([reading("b", h / 60, 1.0) for h in range(6000)])
    assert store.backup(file) > 10_000
    known, newest = store.counts(), store.newest()
    store.add_readings([reading("b", 500, 1.0)])
    store.close()
    with pytest.raises(NewerStoreError, match=r"it holds something of 2026-01-25 20:00:00\+00:00.*--force"):
        restore(url, file)
    assert restore(url, file, is_forced=True) == known
    again = SqlStore(url)
    assert (again.counts(), again.newest()) == (known, newest)
    assert again.last(["b"])["b"] == reading("b", 5999 / 60, 1.0)
    assert again.plan_in_force(T0).id == 1 and again.last_calibration().data == {"parameters": {"infiltration": 1.2}}
    assert again.add_plan(plan(), T0) == 2  # numbers go on
    again.close()


@pytest.mark.parametrize("ruin", ["cut", "text", "stranger", "newer", "gone"])
def test_file_that_is_no_sound_backup_is_refused_and_the_store_stays(store: Store, url: str, tmp_path: Path, ruin: str) -> None:
    fill_all(store)
    file = tmp_path / "setwise.backup"
    store.backup(file)
    if ruin == "cut":
        file.write_bytes(file.read_bytes()[:-9000])
    elif ruin == "text":
        file.write_text("not a backup " * 999)
    elif ruin == "gone":
        file.unlink()
    else:
        with sqlite3.connect(file) as c:
            c.execute("UPDATE alembic_version SET version_num = '9999'" if ruin == "newer" else "DROP TABLE readings")
    known = store.counts()
    said = {"newer": "knows up to", "gone": "no such backup", "stranger": "not of setwise"}.get(ruin, "damaged|sound|malformed")
    store.close()
    with pytest.raises(StoreError, match=said):
        restore(url, file, is_forced=True)
    again = SqlStore(url)
    assert again.counts() == known
    again.close()


def fill_all(store: Store) -> None:
    store.add_readings([reading("a", h, 1.0) for h in range(10)])
    store.add_plan(plan(), T0)
    store.add_calibration({"parameters": {"infiltration": 1.2}}, T0, is_accepted=True)
    store.end_job(store.start_job("plan", T0), "done", T0 + HOUR)
    store.compact(T0 + 3 * HOUR, 15)


def test_how_the_building_was_run_is_kept_in_stretches_without_a_gap(store: Store) -> None:
    quarter = pd.Timedelta(minutes=15)
    for i in (0, 1, 2):
        store.note_regime(RegimeRecord(T0 + i * quarter, T0 + (i + 1) * quarter, "plan", "plan"))
    store.note_regime(
        RegimeRecord(T0 + 2.5 * quarter, T0 + 3 * quarter, "plan", "plan", held=("a", "b"), why="x\0y")
    )  # in mid-step
    store.note_regime(RegimeRecord(T0 + 9 * quarter, T0 + 10 * quarter, "own", "own"))  # after a gap
    store.note_regime(RegimeRecord(T0 + quarter, T0 + 2 * quarter, "none"))  # the clock was set back
    assert store.regimes(T0, T0 + HOUR * 9) == [
        RegimeRecord(T0, T0 + 2.5 * quarter, "plan", "plan"),
        RegimeRecord(T0 + 2.5 * quarter, T0 + 3 * quarter, "plan", "plan", ("a", "b"), "xy"),
        RegimeRecord(T0 + 9 * quarter, T0 + 10 * quarter, "own", "own"),
        RegimeRecord(T0 + quarter, T0 + 2 * quarter, "none"),
    ]
    assert [r.run for r in store.regimes(T0 + 9.5 * quarter, T0 + 99 * HOUR)] == ["own"]


def test_newest_readings_in_memory_are_those_of_the_table_whatever_comes_in_whichever_order(url: str) -> None:
    rng = np.random.default_rng(5)
    table, memory = SqlStore(url), SqlStore(url, is_only_writer=True)
    names = ["a", "b", "c", "never"]
    try:
        for turn in range(60):
            rows = [
                (str(rng.choice(names[:3])), int(T0.timestamp() * 1000) + 1000 * int(rng.integers(0, 40)), float(turn * 10 + i),
                 str(rng.choice(["good", "late", "stuck", "out_of_range"])), turn)
                for i in range(rng.integers(1, 6))
            ]  # fmt: skip
            memory.add_rows(rows)
            if turn % 3:  # some are asked for only after much has come in
                asked = names[: int(rng.integers(1, 5))]
                for is_usable in (True, False):
                    assert memory.last(asked, is_usable) == table.last(asked, is_usable)
    finally:
        table.close()
        memory.close()


def test_newest_reading_in_memory_is_one_that_was_committed(url: str) -> None:
    store = SqlStore(url, is_only_writer=True)
    try:
        store.add_readings([reading("a", 0, 1.0)])
        assert store.last(["a"])["a"].value == 1.0
        with pytest.raises(RuntimeError), store.transaction():
            store.add_readings([reading("a", 1, 2.0)])
            assert store.last(["a"])["a"].value == 2.0  # its own transaction sees it
            raise RuntimeError
        assert store.last(["a"])["a"].value == 1.0
    finally:
        store.close()


def test_reads_of_one_moment_see_nothing_that_comes_in_meanwhile(store: Store, url: str) -> None:
    store.put("n", 1)
    other = SqlStore(url)
    try:
        with store.moment():
            assert store.get("n") == 1
            other.put("n", 2)
            assert store.get("n") == (1 if url.startswith("sqlite") else 2)  # PostgreSQL looks anew for each question
        assert store.get("n") == 2
    finally:
        other.close()
