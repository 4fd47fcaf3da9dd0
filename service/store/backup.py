"""Copies of a store, and the way back. A backup is always an SQLite store file, whatever the store runs on.

So one format serves both databases, it can be opened and looked at, an older one is upgraded when it is restored, and a gateway
can move from SQLite to PostgreSQL (docs/decisions/0031-a-backup-is-a-store.md).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from building.errors import NewerStoreError, StoreError
from service.store import schema
from service.store.tables import METADATA

_BATCH = 5000


def copy_of(engine: sa.Engine, file: Path, revision: str) -> int:
    """Write everything into `file` as one moment saw it, checked and complete or not at all; return its bytes.

    Args:
        engine: of the store; others may read and write meanwhile.
        file: replaced when the copy is good.
        revision: schema of the store; the copy gets the same.

    Raises:
        StoreError: it cannot be written, or what was written is not sound.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        if engine.dialect.name == "sqlite":
            with contextlib.closing(engine.raw_connection()) as source, contextlib.closing(sqlite3.connect(part)) as target:
                driver: Any = source.driver_connection
                driver.backup(target)  # in one step: what is written meanwhile waits in the WAL
        else:
            _dump(engine, part, revision)
        with contextlib.closing(sqlite3.connect(part)) as target:
            target.execute("PRAGMA journal_mode=DELETE")  # one file, no WAL beside it
        _check_sound(part)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        part.replace(file)
    except (OSError, sqlite3.Error, sa.exc.SQLAlchemyError) as e:
        raise StoreError(url=file, reason=f"the copy was not made: {_first_line(e)}. Nothing was changed.") from e
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return file.stat().st_size


def restore(url: str, file: Path, is_forced: bool = False) -> dict[str, int]:
    """Put a backup back in place of what a store holds; return its rows by table.

    The service must not run. An SQLite store that was there stays beside it as ``<file>.before-restore``; a PostgreSQL store is
    filled in one transaction.

    Args:
        url: of the store.
        file: a backup; of an older schema it is upgraded on the way.
        is_forced: overwrite a store that holds something newer than the backup.

    Raises:
        NewerStoreError: it does, and is_forced is False. StoreError: no backup, a damaged or newer one, or a store in use.
    """
    from service.store.sql import SqlStore  # SqlStore makes copies with this module

    if not file.is_file():
        raise StoreError(url=file, reason="there is no such backup.")
    _check_sound(file)
    parsed = sa.make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    place = Path(parsed.database) if is_sqlite and parsed.database else Path("state/setwise.db")
    ours = place.with_name(f"{place.name}.restoring")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(ours)
        shutil.copyfile(file, ours)
        backup = SqlStore(f"sqlite:///{ours}", copies=ours.parent)  # upgrades it, or refuses a newer one
        try:
            counts, newest = backup.counts(), backup.newest()
            if not is_sqlite or place.exists():
                _refuse_newer(url, file, newest, is_forced)
            if not is_sqlite:
                _fill(url, backup)
        finally:
            backup.close()
        if is_sqlite:
            with contextlib.closing(sqlite3.connect(ours)) as c:
                c.execute("PRAGMA journal_mode=DELETE")
            _put_in_place(ours, place)
    except OSError as e:
        raise StoreError(url=file, reason=f"it could not be put back: {e}. The store is as it was.") from e
    finally:
        _remove(ours)
        ours.with_name(f"{ours.name}.before-{schema.HEAD}").unlink(missing_ok=True)
    return counts


def go_back(url: str, to: str, copies: Path | None = None) -> Path:
    """Take a store back to an earlier schema, in one transaction, for a former setwise; return the copy made before.

    The service must not run. What that schema has no place for is in the copy only.

    Args:
        url: of the store.
        to: a revision of `schema.earlier()`.
        copies: folder of the copy; None for beside an SQLite file, and ``state/backups`` for PostgreSQL.

    Raises:
        StoreError: no such revision, a store that is in use or of a newer setwise, or no room for the copy. Nothing was changed.
    """
    from service.store.sql import SqlStore

    shown = sa.make_url(url).render_as_string()
    if to not in schema.earlier():
        reason = f"there is no schema '{to}' before {schema.HEAD}; there are {', '.join(schema.earlier())}."
        raise StoreError(url=shown, reason=reason)
    store = SqlStore(url, copies)
    try:
        store.close()  # our own connections; the next is the only one
        if store.file is not None:
            _refuse_used(store.file)
        copy = store.copy_aside(f"before-downgrade-{to}", schema.HEAD)
        with store._writing() as c:
            schema.downgrade(c, to)
    finally:
        store.close()
    return copy


def _refuse_used(file: Path) -> None:
    """Take the WAL into an SQLite file. Raises StoreError while anybody else has it open."""
    with contextlib.closing(sqlite3.connect(file, timeout=1)) as c:
        try:
            c.execute("PRAGMA journal_mode=DELETE")  # refused then
        except sqlite3.OperationalError as e:
            raise StoreError(url=file, reason=f"it is in use ({e}). Stop the service first.") from e
        except sqlite3.DatabaseError:
            pass  # no database: it is kept beside, as it is


def _refuse_newer(url: str, file: Path, newest: Any, is_forced: bool) -> None:
    from service.store.sql import SqlStore

    try:
        store = SqlStore(url)
        try:
            present = store.newest()
        finally:
            store.close()
    except StoreError:
        if is_forced:
            return  # what is there cannot be read: that is why a backup is put back
        raise
    if present is not None and not is_forced and (newest is None or present > newest):
        raise NewerStoreError(url=sa.make_url(url).render_as_string(), newest=present, file=file, until=newest or "nothing")


def _put_in_place(ours: Path, place: Path) -> None:
    """Exchange the files so that at every moment one of them is the store."""
    if place.exists():
        _refuse_used(place)
        kept = place.with_name(f"{place.name}.before-restore")
        kept.unlink(missing_ok=True)
        os.link(place, kept)
        for suffix in ("-wal", "-shm"):
            place.with_name(place.name + suffix).unlink(missing_ok=True)
    os.replace(ours, place)


def _dump(engine: sa.Engine, file: Path, revision: str) -> None:
    target = sa.create_engine(f"sqlite:///{file}")
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as c, target.begin() as t:
            schema.upgrade(t, to=revision)
            known = set(sa.inspect(c).get_table_names())
            for table in METADATA.sorted_tables:
                if table.name in known:
                    _copy_rows(c, t, sa.Table(table.name, sa.MetaData(), autoload_with=t))
    finally:
        target.dispose()


def _fill(url: str, backup: Any) -> None:
    """Replace all rows of a PostgreSQL store by those of a backup, in one transaction."""
    from service.store.sql import SqlStore

    store = SqlStore(url)
    try:
        with store.transaction(), store._writing() as c, backup._reading() as b:
            for table in METADATA.sorted_tables:
                c.execute(sa.delete(table))
                _copy_rows(b, c, table)
                if "id" in table.c:
                    sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                    c.exec_driver_sql(f"SELECT setval({sequence}, coalesce(max(id), 0) + 1, false) FROM {table.name}")
    finally:
        store.close()


def _copy_rows(source: sa.Connection, target: sa.Connection, table: sa.Table) -> None:
    target.execute(sa.delete(table))
    rows = source.execution_options(yield_per=_BATCH).execute(sa.select(table)).mappings()
    for batch in rows.partitions(_BATCH):
        target.execute(sa.insert(table), [dict(row) for row in batch])


def _check_sound(file: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as c:
            said = c.execute("PRAGMA integrity_check").fetchone()[0]
            n_tables = c.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'readings')").fetchone()[0]
    except sqlite3.Error as e:
        raise StoreError(url=file, reason=f"{e}: this is no sound backup.") from e
    if said != "ok":
        raise StoreError(url=file, reason=f"the file is damaged ({said.splitlines()[0]}). Take another backup.")
    if n_tables < 2:
        raise StoreError(url=file, reason="this is an SQLite file, but not of setwise.")


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]
