"""The memory of the service: readings, refusals, forecasts, plans, fronts, calibrations, the job journal, publications.

`Store` is the contract (tests/contracts/test_stores.py runs against every implementation); `SqlStore` keeps it over SQLAlchemy
Core, in SQLite (WAL) or PostgreSQL. Instants are kept as UTC milliseconds and leave as `pd.Timestamp` in UTC; frames follow
building/timeline: a stamp is the start of its step.

Durability. SQLite runs in WAL mode with synchronous=FULL: a commit returns after its fsync. With NORMAL a power cut could take
back commits whose messages the broker was already told we have; at one commit per second FULL costs nothing that matters.
Whatever fails (disk full, lock, network) rolls the whole transaction back and comes out as StoreError.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from building.errors import BadReadingError, JobOverlapError, SetwiseError, StoreError
from building.plan import Plan
from service.store.records import (
    DocumentRecord,
    JobRecord,
    Outcome,
    PlanRecord,
    PublicationRecord,
    PublicationState,
    Reading,
    RefusalRecord,
)
from service.store.tables import (
    CALIBRATIONS,
    FORECASTS,
    FRONTS,
    JOBS,
    META,
    METADATA,
    PLANS,
    PUBLICATIONS,
    READINGS,
    REFUSALS,
)

SCHEMA_VERSION = 1


class SqlStore:
    """A Store over SQLAlchemy Core.

    Args:
        url: ``sqlite:///file`` or a PostgreSQL URL.

    Raises:
        StoreError: it cannot be opened, or another setwise wrote it.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = sa.make_url(url)
            self._shown = parsed.render_as_string(hide_password=True)
            self._is_sqlite = parsed.get_backend_name() == "sqlite"
            if self._is_sqlite and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sa.create_engine(parsed, connect_args={"timeout": 30} if self._is_sqlite else {})
        except (sa.exc.SQLAlchemyError, OSError, ImportError) as e:
            shown = getattr(self, "_shown", "(unreadable URL)")
            raise StoreError(url=shown, reason=f"cannot be opened: {e}") from e
        self._insert = sqlite_insert if self._is_sqlite else postgresql_insert
        self._joined = threading.local()
        if self._is_sqlite:
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        with self._writing() as c:
            METADATA.create_all(c)
        found = self.get("schema_version")
        if found is None:
            self.put("schema_version", SCHEMA_VERSION)
        elif found != SCHEMA_VERSION:
            raise StoreError(
                url=self._shown,
                reason=f"it has schema version {found}, this setwise {SCHEMA_VERSION}. Use a matching setwise or a new store.",
            )

    # -- transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Join all calls of this thread inside the block: all of them are kept, or none."""
        with self._writing():
            yield

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        outer: sa.Connection | None = getattr(self._joined, "connection", None)
        if outer is not None:
            yield outer
            return
        try:
            with self._engine.connect() as c:
                c = c.execution_options(setwise_writes=True)
                with c.begin():
                    self._joined.connection = c
                    try:
                        yield c
                    finally:
                        self._joined.connection = None
        except sa.exc.SQLAlchemyError as e:
            raise StoreError(url=self._shown, reason=_sentence(e)) from e

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        outer: sa.Connection | None = getattr(self._joined, "connection", None)
        if outer is not None:
            yield outer
            return
        try:
            with self._engine.connect() as c:
                yield c
        except sa.exc.SQLAlchemyError as e:
            raise StoreError(url=self._shown, reason=_sentence(e)) from e

    # -- readings

    def add_readings(
        self, readings: Sequence[Reading], refused: Iterable[BadReadingError] = (), at: pd.Timestamp | None = None
    ) -> int:
        """See `Store.add_readings`."""
        rows: list[dict[str, Any]] = [
            {
                "variable": r.variable,
                "stamp": _ms(r.stamp),
                "value": _finite(r.value),
                "flag": r.flag,
                "received": _ms(r.received),
            }
            for r in readings
        ]
        refused = list(refused)
        now = _ms(at) if at is not None else max((row["received"] for row in rows), default=0)
        n_new = 0
        with self._writing() as c:
            if rows:
                insert = self._insert(READINGS).on_conflict_do_nothing().returning(READINGS.c.stamp)
                n_new = len(c.execute(insert, rows).all())
            counted = Counter(e.reason for e in refused)
            latest = {e.reason: (e.topic, e.detail) for e in refused}
            if n_new < len(rows):
                counted["duplicate"] += len(rows) - n_new
                latest.setdefault("duplicate", ("", "variable and stamp are already known; the first value stays"))
            for reason, n in counted.items():
                topic, detail = latest[reason]
                facts = {"last": now, "topic": _clean(topic), "detail": _clean(detail)}
                upsert = self._insert(REFUSALS).values(reason=reason, n=n, **facts)
                c.execute(upsert.on_conflict_do_update(index_elements=["reason"], set_={"n": REFUSALS.c.n + n, **facts}))
        return n_new

    def series(self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """See `Store.series`."""
        t = READINGS.c
        question = sa.select(t.variable, t.stamp, t.value).where(
            t.variable.in_(variables), t.stamp >= _ms(start), t.stamp < _ms(end)
        )
        with self._reading() as c:
            return _wide(c.execute(question).all(), variables)

    def hourly(self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """See `Store.hourly`."""
        hours = _hours(start, end)
        t = READINGS.c
        hour = (t.stamp // 3_600_000) * 3_600_000
        question = (
            sa.select(t.variable, hour.label("hour"), sa.func.avg(t.value))
            .where(t.variable.in_(variables), t.stamp >= _ms(start.floor("h")), t.stamp < _ms(end.floor("h")))
            .group_by(t.variable, hour)
        )
        with self._reading() as c:
            return _wide(c.execute(question).all(), variables).reindex(hours)

    def last(self, variables: Sequence[str]) -> dict[str, Reading]:
        """See `Store.last`."""
        t = READINGS.c
        question = sa.select(READINGS).where(t.variable == sa.bindparam("name")).order_by(t.stamp.desc()).limit(1)
        found = {}
        with self._reading() as c:
            for name in variables:
                row = c.execute(question, {"name": name}).first()
                if row is not None:
                    found[name] = Reading(row.variable, _instant(row.stamp), row.value, _instant(row.received), row.flag)
        return found

    def refusals(self) -> list[RefusalRecord]:
        """See `Store.refusals`."""
        with self._reading() as c:
            rows = c.execute(sa.select(REFUSALS).order_by(REFUSALS.c.n.desc(), REFUSALS.c.reason)).all()
        return [RefusalRecord(r.reason, r.n, _instant(r.last), r.topic, r.detail) for r in rows]

    # -- forecasts

    def add_forecast(self, frame: pd.DataFrame, issued: pd.Timestamp) -> None:
        """See `Store.add_forecast`."""
        rows = [
            {"variable": str(name), "stamp": _ms(stamp), "issued": _ms(issued), "value": float(value)}
            for name in frame.columns
            for stamp, value in zip(pd.DatetimeIndex(frame.index), frame[name], strict=True)
            if np.isfinite(value)
        ]
        if rows:
            insert = self._insert(FORECASTS)
            with self._writing() as c:
                c.execute(
                    insert.on_conflict_do_update(
                        index_elements=["variable", "stamp", "issued"], set_={"value": insert.excluded.value}
                    ),
                    rows,
                )

    def forecast(self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, at: pd.Timestamp) -> pd.DataFrame:
        """See `Store.forecast`."""
        t = FORECASTS.c
        newest = (
            sa.select(t.variable, t.stamp, sa.func.max(t.issued).label("issued"))
            .where(
                t.variable.in_(variables), t.stamp >= _ms(start.floor("h")), t.stamp < _ms(end.floor("h")), t.issued <= _ms(at)
            )
            .group_by(t.variable, t.stamp)
            .subquery()
        )
        same = (t.variable == newest.c.variable) & (t.stamp == newest.c.stamp) & (t.issued == newest.c.issued)
        question = sa.select(t.variable, t.stamp, t.value).join(newest, same)
        with self._reading() as c:
            return _wide(c.execute(question).all(), variables).reindex(_hours(start, end))

    # -- plans, calibrations, fronts

    def add_plan(self, plan: Plan, issued: pd.Timestamp, state: str = "accepted") -> int:
        """See `Store.add_plan`."""
        text = json.dumps(plan.to_dict(), allow_nan=False)
        return self._add(PLANS, issued=_ms(issued), start=_ms(plan.start), end=_ms(plan.end), state=state, json=text)

    def withdraw_plan(self, plan_id: int) -> None:
        """See `Store.withdraw_plan`."""
        with self._writing() as c:
            c.execute(sa.update(PLANS).where(PLANS.c.id == plan_id).values(state="withdrawn"))

    def plan_in_force(self, at: pd.Timestamp) -> PlanRecord | None:
        """See `Store.plan_in_force`."""
        t, now = PLANS.c, _ms(at)
        question = (
            sa.select(PLANS)
            .where(t.state == "accepted", t.issued <= now, t.start <= now, t.end > now)
            .order_by(t.issued.desc(), t.id.desc())
            .limit(1)
        )
        with self._reading() as c:
            row = c.execute(question).first()
        return None if row is None else self._plan_record(row)

    def plan(self, plan_id: int) -> PlanRecord | None:
        """See `Store.plan`."""
        with self._reading() as c:
            row = c.execute(sa.select(PLANS).where(PLANS.c.id == plan_id)).first()
        return None if row is None else self._plan_record(row)

    def plans(self, limit: int = 20) -> list[PlanRecord]:
        """See `Store.plans`."""
        with self._reading() as c:
            rows = c.execute(sa.select(PLANS).order_by(PLANS.c.issued.desc(), PLANS.c.id.desc()).limit(limit)).all()
        return [self._plan_record(row) for row in rows]

    def add_calibration(self, data: Mapping[str, Any], made: pd.Timestamp, is_accepted: bool) -> int:
        """See `Store.add_calibration`."""
        return self._add(
            CALIBRATIONS, made=_ms(made), state="accepted" if is_accepted else "refused", json=json.dumps(dict(data))
        )

    def last_calibration(self, is_accepted: bool | None = None) -> DocumentRecord | None:
        """See `Store.last_calibration`."""
        return self._last_document(CALIBRATIONS, None if is_accepted is None else "accepted" if is_accepted else "refused")

    def add_front(self, data: Mapping[str, Any], made: pd.Timestamp) -> int:
        """See `Store.add_front`."""
        return self._add(FRONTS, made=_ms(made), state="accepted", json=json.dumps(dict(data)))

    def last_front(self) -> DocumentRecord | None:
        """See `Store.last_front`."""
        return self._last_document(FRONTS, None)

    def _last_document(self, table: sa.Table, state: str | None) -> DocumentRecord | None:
        question = sa.select(table).order_by(table.c.made.desc(), table.c.id.desc()).limit(1)
        if state is not None:
            question = question.where(table.c.state == state)
        with self._reading() as c:
            row = c.execute(question).first()
        if row is None:
            return None
        try:
            data = json.loads(row.json)
        except ValueError as e:
            raise self._damaged(table.name, row.id, e) from e
        if not isinstance(data, dict):
            raise self._damaged(table.name, row.id, "not an object")
        return DocumentRecord(row.id, _instant(row.made), row.state, data)

    def _plan_record(self, row: Any) -> PlanRecord:
        try:
            plan = Plan.from_dict(json.loads(row.json))
        except (SetwiseError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise self._damaged(PLANS.name, row.id, e) from e
        return PlanRecord(row.id, _instant(row.issued), row.state, plan)

    def _damaged(self, table: str, row_id: int, what: object) -> StoreError:
        reason = f"row {row_id} of '{table}' is damaged ({what}). Delete that row, or put back a copy of the store."
        return StoreError(url=self._shown, reason=reason)

    def _add(self, table: sa.Table, **values: Any) -> int:
        with self._writing() as c:
            return int(c.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one())

    # -- journal

    def start_job(self, kind: str, at: pd.Timestamp) -> int:
        """See `Store.start_job`."""
        t = JOBS.c
        with self._writing() as c:
            since = c.execute(sa.select(t.started).where(t.kind == kind, t.outcome == "running")).scalar()
            if since is not None:
                raise JobOverlapError(kind=kind, since=_instant(since).isoformat())
            return self._add(JOBS, kind=kind, started=_ms(at), outcome="running", log="")

    def end_job(self, job_id: int, outcome: Outcome, at: pd.Timestamp, log: str = "") -> None:
        """See `Store.end_job`."""
        with self._writing() as c:
            c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(outcome=outcome, ended=_ms(at), log=log))

    def interrupt_jobs(self, at: pd.Timestamp) -> list[JobRecord]:
        """See `Store.interrupt_jobs`."""
        change = sa.update(JOBS).where(JOBS.c.outcome == "running").values(outcome="interrupted", ended=_ms(at))
        with self._writing() as c:
            rows = c.execute(change.returning(*JOBS.c)).all()
        return [_job_record(row) for row in rows]

    def jobs(self, kind: str | None = None, limit: int = 20) -> list[JobRecord]:
        """See `Store.jobs`."""
        question = sa.select(JOBS).order_by(JOBS.c.id.desc()).limit(limit)
        with self._reading() as c:
            rows = c.execute(question if kind is None else question.where(JOBS.c.kind == kind)).all()
        return [_job_record(row) for row in rows]

    def job(self, job_id: int) -> JobRecord | None:
        """See `Store.job`."""
        with self._reading() as c:
            row = c.execute(sa.select(JOBS).where(JOBS.c.id == job_id)).first()
        return None if row is None else _job_record(row)

    # -- publications

    def add_publication(
        self,
        setting: str,
        topic: str,
        value: float,
        valid_until: pd.Timestamp,
        made: pd.Timestamp,
        plan_id: int | None,
        reason: str = "",
    ) -> int:
        """See `Store.add_publication`."""
        return self._add(
            PUBLICATIONS,
            setting=setting,
            topic=topic,
            value=_finite(value),
            valid_until=_ms(valid_until),
            made=_ms(made),
            state="waiting",
            plan_id=plan_id,
            reason=reason,
        )

    def settle_publication(self, publication_id: int, state: PublicationState, at: pd.Timestamp) -> None:
        """See `Store.settle_publication`."""
        with self._writing() as c:
            c.execute(sa.update(PUBLICATIONS).where(PUBLICATIONS.c.id == publication_id).values(state=state, settled=_ms(at)))

    def last_publications(self) -> dict[str, PublicationRecord]:
        """See `Store.last_publications`."""
        newest = sa.select(sa.func.max(PUBLICATIONS.c.id)).group_by(PUBLICATIONS.c.setting)
        with self._reading() as c:
            rows = c.execute(sa.select(PUBLICATIONS).where(PUBLICATIONS.c.id.in_(newest))).all()
        return {row.setting: _publication_record(row) for row in rows}

    def publications(self, start: pd.Timestamp, end: pd.Timestamp) -> list[PublicationRecord]:
        """See `Store.publications`."""
        t = PUBLICATIONS.c
        with self._reading() as c:
            rows = c.execute(sa.select(PUBLICATIONS).where(t.made >= _ms(start), t.made < _ms(end)).order_by(t.id)).all()
        return [_publication_record(row) for row in rows]

    # -- the rest

    def put(self, key: str, value: Any) -> None:
        """See `Store.put`."""
        text = json.dumps(value)
        with self._writing() as c:
            c.execute(
                self._insert(META).values(key=key, json=text).on_conflict_do_update(index_elements=["key"], set_={"json": text})
            )

    def get(self, key: str) -> Any:
        """See `Store.get`."""
        with self._reading() as c:
            text = c.execute(sa.select(META.c.json).where(META.c.key == key)).scalar()
        return None if text is None else json.loads(text)

    def counts(self) -> dict[str, int]:
        """See `Store.counts`."""
        with self._reading() as c:
            return {
                t.name: int(c.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()) for t in METADATA.sorted_tables
            }

    def forget(self, before: pd.Timestamp) -> int:
        """See `Store.forget`."""
        limit = _ms(before)
        with self._writing() as c:
            return sum(
                int(c.execute(sa.delete(table).where(table.c[column] < limit)).rowcount)
                for table, column in ((READINGS, "stamp"), (FORECASTS, "stamp"), (PUBLICATIONS, "made"))
            )

    def close(self) -> None:
        """See `Store.close`."""
        self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling is switched off: it would open transactions late and commit on its own around DDL.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock at once and waits for it; a deferred lock taken after a read fails without waiting.
    is_writer = connection.get_execution_options().get("setwise_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


def _sentence(error: sa.exc.SQLAlchemyError) -> str:
    origin = getattr(error, "orig", None) or error
    said = str(origin).strip().splitlines()[0] if str(origin).strip() else type(origin).__name__
    if "full" in said and "disk" in said:
        return f"{said}; nothing of this transaction was kept. Free some space: the service goes on by itself."
    if "not a database" in said or "malformed" in said:
        return f"{said}. Move it away and put back a copy; without one a new store is made at the next start."
    return f"{said}; nothing of this transaction was kept."


def _clean(text: Any) -> str:
    """Return text any database takes: foreign payloads may hold zero bytes and lone surrogates."""
    return str(text)[:200].encode("utf-8", "replace").decode().replace("\0", "")


def _ms(instant: pd.Timestamp) -> int:
    return int(instant.timestamp() * 1000 + 0.5)


def _instant(ms: int) -> pd.Timestamp:
    return pd.Timestamp(ms, unit="ms", tz="UTC")


def _hours(start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
    return pd.date_range(start.tz_convert("UTC").floor("h"), end.tz_convert("UTC").floor("h"), freq="h", inclusive="left")


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise StoreError(url="(any)", reason=f"{value} is not a number that can be kept.")
    return float(value)


def _wide(rows: Sequence[Any], variables: Sequence[str]) -> pd.DataFrame:
    long = pd.DataFrame([tuple(row) for row in rows], columns=["variable", "stamp", "value"])
    frame = long.pivot(index="stamp", columns="variable", values="value").reindex(columns=list(variables)).astype(float)
    frame.index = pd.to_datetime(pd.Index(frame.index, dtype="int64"), unit="ms", utc=True)
    frame.index.name = frame.columns.name = None
    return frame.sort_index()


def _job_record(row: Any) -> JobRecord:
    return JobRecord(
        row.id, row.kind, _instant(row.started), None if row.ended is None else _instant(row.ended), row.outcome, row.log
    )


def _publication_record(row: Any) -> PublicationRecord:
    settled = None if row.settled is None else _instant(row.settled)
    return PublicationRecord(
        row.id,
        row.setting,
        row.topic,
        row.value,
        _instant(row.valid_until),
        _instant(row.made),
        row.state,
        settled,
        row.plan_id,
        row.reason,
    )
