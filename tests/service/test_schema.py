"""A store of the previous setwise is upgraded with its data, a newer one is refused, and the way back is the copy made before."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from children import change_schema
from plant import FORKS
from recovery import Recovery

from building.errors import StoreError
from service.store import Reading, SqlStore, schema
from service.store.backup import go_back, restore
from service.store.tables import METADATA

HERE = Path(__file__).parent
T0 = pd.Timestamp("2026-01-05T00:00Z")
ROWS_OF_0001 = {
    "readings": 32,
    "refusals": 1,
    "forecasts": 2,
    "plans": 1,
    "calibrations": 1,
    "fronts": 1,
    "jobs": 2,
    "publications": 1,
    "meta": 2,
}


def fill_as_2eeab7e(url: str) -> None:
    """Make the store that setwise of commit 2eeab7e wrote: dumps of stores it really filled."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(parsed.database) as c:
            c.execute("PRAGMA journal_mode=WAL")
            c.executescript((HERE / "stores" / "0001-sqlite.sql").read_text())
        c.close()
        return
    name = parsed.query["options"].removeprefix("-csearch_path=")
    script = (HERE / "stores" / "0001-postgresql.sql").read_text().replace("public.", f"{name}.")
    engine = sa.create_engine(url)
    with engine.begin() as c:
        c.exec_driver_sql(script)
    engine.dispose()


def rows_of(url: str) -> dict[str, list[tuple]]:
    engine = sa.create_engine(url)
    with engine.connect() as c:
        rows = {t: sorted(map(tuple, c.exec_driver_sql(f"SELECT * FROM {t}").all()), key=repr) for t in ROWS_OF_0001}
    engine.dispose()
    return rows


def test_store_of_the_previous_setwise_is_upgraded_with_everything_in_it_and_copied_before(store_url, tmp_path) -> None:
    fill_as_2eeab7e(store_url)
    before = rows_of(store_url)
    assert {name: len(rows) for name, rows in before.items()} == ROWS_OF_0001
    store = SqlStore(store_url, copies=tmp_path / "copies")
    assert {name: store.counts()[name] for name in ROWS_OF_0001} == ROWS_OF_0001
    assert store.hourly(["zone_co2"], T0, T0 + pd.Timedelta(hours=2))["zone_co2"].tolist() == [20.1875, 20.6875]
    assert store.plan_in_force(T0).plan.at(T0)["heating_setpoint"] == 20.0
    assert [(j.kind, j.outcome, j.tail, j.peak_mb) for j in store.jobs()] == [
        ("calibration", "running", "", None),
        ("plan", "done", "", None),
    ]
    assert store.get("own_profile") == {"a": [1, 2]}
    store.add_plan(store.plans()[0].plan, T0)
    store.close()
    copy = tmp_path / "copies" / "setwise.db.before-0003"
    assert rows_of(f"sqlite:///{copy}") == before


def test_way_back_is_the_copy_made_before_the_upgrade(tmp_path) -> None:
    """As docs/operate.md tells: stop, move the copy in place, start the former setwise."""
    file = tmp_path / "setwise.db"
    fill_as_2eeab7e(f"sqlite:///{file}")
    before = rows_of(f"sqlite:///{file}")
    SqlStore(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as c:  # the former setwise asks for this and refuses any other number than 1
        assert c.execute("SELECT json FROM meta WHERE key = 'schema_version'").fetchone() == ("2",)
    c.close()
    (tmp_path / "setwise.db.before-0003").replace(file)
    with sqlite3.connect(file) as c:
        assert c.execute("SELECT json FROM meta WHERE key = 'schema_version'").fetchone() == ("1",)
        assert not c.execute("SELECT * FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
    c.close()
    assert rows_of(f"sqlite:///{file}") == before


def tables_of(url: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Return the columns of every table: name, type, nullable."""
    engine = sa.create_engine(url)
    found = sa.inspect(engine)
    columns = {
        t: [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(t)]
        for t in found.get_table_names()
        if t != "alembic_version"
    }
    engine.dispose()
    return columns


def test_store_goes_back_to_the_schema_of_the_former_setwise_and_keeps_what_came_in_since(store_url, tmp_path) -> None:
    fill_as_2eeab7e(store_url)
    before, tables = rows_of(store_url), tables_of(store_url)
    store = SqlStore(store_url, copies=tmp_path)
    since = T0 + pd.Timedelta(days=40)
    store.add_readings([Reading("zone_co2", since + pd.Timedelta(minutes=i), 500.0 + i, since) for i in range(30)])
    store.add_readings([Reading("zone_co2", since + pd.Timedelta(hours=9), 9000.0, since, "out_of_range")])
    store.compact(since + pd.Timedelta(hours=1), 15)  # what the former setwise wrote grew old meanwhile, too
    hours = store.hourly(["zone_co2"], T0, since + pd.Timedelta(days=1))
    store.end_job(store.start_job("backup", since), "done", since)
    store.close()
    copy = go_back(store_url, "0001", tmp_path)
    assert tables_of(store_url) == tables
    after = rows_of(store_url)
    kept = {name: rows for name, rows in after.items() if name not in ("readings", "jobs", "refusals")}
    assert kept == {name: before[name] for name in kept}  # meta as well: the former setwise asks it for the number 1
    assert len(after["jobs"]) == len(before["jobs"]) + 1 and "out_of_range" not in str(after["readings"])
    again = SqlStore(store_url, copies=tmp_path)
    pd.testing.assert_frame_equal(again.hourly(["zone_co2"], T0, since + pd.Timedelta(days=1)), hours)
    again.close()
    whole = SqlStore(f"sqlite:///{copy}")  # what there was no place for is in the copy
    assert whole.counts()["summaries"] > 0
    whole.close()


def test_every_migration_has_a_way_back_and_leads_to_the_same_tables_again(store_url, tmp_path) -> None:
    SqlStore(store_url).close()
    tables = tables_of(store_url)
    for to in reversed(schema.earlier()):
        go_back(store_url, to, tmp_path)
        engine = sa.create_engine(store_url)
        with engine.connect() as c:
            assert schema.revision(c) == to
        engine.dispose()
        SqlStore(store_url, copies=tmp_path).close()
        assert tables_of(store_url) == tables


def test_way_back_is_refused_while_the_service_runs_or_to_a_schema_that_is_none(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/setwise.db"
    store = SqlStore(url)
    store.add_readings([Reading("a", T0, 1.0, T0)])
    with pytest.raises(StoreError, match=r"it is in use .*Stop the service first"):
        go_back(url, "0001", tmp_path)
    with pytest.raises(StoreError, match=rf"there is no schema '{schema.HEAD}' before {schema.HEAD}; there are 0001"):
        go_back(url, schema.HEAD, tmp_path)
    assert store.counts()["readings"] == 1
    store.close()


@pytest.mark.faults("migration killed")
@pytest.mark.parametrize("way", ["up", "back"])
def test_kill_9_at_random_in_a_migration_leaves_a_store_that_opens_with_everything(
    store_url, tmp_path, recovery: Recovery, way: str
) -> None:
    rng = np.random.default_rng(62)
    fill_as_2eeab7e(store_url)
    readings = rows_of(store_url)["readings"]
    for n in range(6):
        receiver, sender = FORKS.Pipe(duplex=False)
        child = FORKS.Process(target=change_schema, args=(store_url, way, tmp_path, n == 0, sender))
        child.start()
        sender.close()
        receiver.recv()
        time.sleep(0.0 if n == 0 else float(rng.uniform(0, 0.15)))  # the first is held just before its commit
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        receiver.close()
        assert rows_of(store_url)["readings"] == readings
        with recovery:
            store = SqlStore(store_url, copies=tmp_path)  # the next start: it is at the newest schema, whatever was cut
        assert len(store.series(["zone_co2"], T0, T0 + pd.Timedelta(days=1))) > 0
        store.close()
        if way == "up":
            go_back(store_url, "0001", tmp_path)


def test_backup_of_the_previous_setwise_is_upgraded_when_it_is_put_back(store_url, tmp_path) -> None:
    old = tmp_path / "old.backup"
    fill_as_2eeab7e(f"sqlite:///{old}")
    counts = restore(store_url, old)
    assert {name: counts[name] for name in ROWS_OF_0001} == ROWS_OF_0001
    store = SqlStore(store_url)
    assert store.counts() == counts
    store.close()
    assert not list(tmp_path.rglob("*restoring*"))


def test_store_of_a_newer_setwise_is_refused_and_left_alone(store_url) -> None:
    SqlStore(store_url).close()
    engine = sa.create_engine(store_url)
    with engine.begin() as c:
        c.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"it has schema 9999, this setwise knows up to 0003.*'setwise restore'"):
        SqlStore(store_url)
    with engine.connect() as c:
        assert schema.revision(c) == "9999"
    engine.dispose()


def test_upgrade_that_fails_half_way_leaves_the_store_as_it_was(store_url, tmp_path, monkeypatch) -> None:
    fill_as_2eeab7e(store_url)
    before = rows_of(store_url)
    whole = schema.upgrade

    def torn(c: sa.Connection, to: str = schema.HEAD) -> None:
        whole(c, to)
        c.exec_driver_sql("SELECT * FROM no_such_table")

    monkeypatch.setattr(schema, "upgrade", torn)
    if store_url.startswith("sqlite"):
        with pytest.raises(StoreError, match="no_such_table"):
            SqlStore(store_url, copies=tmp_path)
    else:  # the copy of a PostgreSQL store is made with the same steps: nothing goes on without it
        with pytest.raises(StoreError, match=r"the copy was not made: .*no_such_table.*Nothing was changed"):
            SqlStore(store_url, copies=tmp_path)
    assert rows_of(store_url) == before
    monkeypatch.undo()
    SqlStore(store_url, copies=tmp_path).close()


def test_upgrade_without_room_for_its_copy_is_refused_and_changes_nothing(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/setwise.db"
    fill_as_2eeab7e(url)
    before = rows_of(url)
    (tmp_path / "taken").write_text("no folder")
    with pytest.raises(StoreError, match="the copy was not made"):
        SqlStore(url, copies=tmp_path / "taken")
    assert rows_of(url) == before


def test_migrations_make_exactly_the_tables_that_the_program_wants(store_url) -> None:
    SqlStore(store_url).close()
    engine = sa.create_engine(store_url)
    with engine.connect() as c:
        context = MigrationContext.configure(c, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_newest_migration_is_the_one_the_program_works_with() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema._FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]
