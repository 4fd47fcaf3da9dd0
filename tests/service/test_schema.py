"""A store of the previous setwise is upgraded with its data, a newer one is refused, and the way back is the copy made before."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from building.errors import StoreError
from service.store import SqlStore, schema
from service.store.backup import restore
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
    copy = tmp_path / "copies" / "setwise.db.before-0002"
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
    (tmp_path / "setwise.db.before-0002").replace(file)
    with sqlite3.connect(file) as c:
        assert c.execute("SELECT json FROM meta WHERE key = 'schema_version'").fetchone() == ("1",)
        assert not c.execute("SELECT * FROM sqlite_master WHERE name = 'alembic_version'").fetchall()
    c.close()
    assert rows_of(f"sqlite:///{file}") == before


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
    with pytest.raises(StoreError, match=r"it has schema 9999, this setwise knows up to 0002.*'setwise restore'"):
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
