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
import logging
import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from building.errors import BadReadingError, JobOverlapError, SetwiseError, StoreError
from building.plan import Plan
from service.quality import UNUSABLE, Rule, resample
from service.store import schema
from service.store.newest import Newest, Row, reading_of
from service.store.records import (
    DocumentRecord,
    JobRecord,
    Outcome,
    PlanRecord,
    PublicationRecord,
    PublicationState,
    Reading,
    RefusalRecord,
    RegimeRecord,
)
from service.store.tables import (
    AUDIT,
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
    REGIMES,
    SUMMARIES,
)

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
_BAD = ", ".join(f"'{flag}'" for flag in UNUSABLE)
# A usable reading takes the place of one that was not; among equals the first stays. Plain text: thousands a second come in.
_ADD_READINGS = f"""
    INSERT INTO readings (variable, stamp, value, flag, received) VALUES ({{}}, {{}}, {{}}, {{}}, {{}})
    ON CONFLICT (variable, stamp) DO UPDATE SET value = excluded.value, flag = excluded.flag, received = excluded.received
    WHERE readings.flag IN ({_BAD}) AND excluded.flag NOT IN ({_BAD})
"""
_CHUNK_MS = 30 * DAY_MS
"""Compaction and forgetting take so much of one variable in one transaction: readings wait no longer than that takes."""


class SqlStore:
    """A Store over SQLAlchemy Core.

    Args:
        url: ``sqlite:///file`` or a PostgreSQL URL. Tables of an older setwise are upgraded, after a copy of the store was made.
        copies: folder of that copy; None for beside the file, and ``state/backups`` for PostgreSQL.
        is_only_writer: nobody else adds readings, so that `last` may answer from memory.

    Raises:
        StoreError: it cannot be opened, or a newer setwise wrote it.
    """

    def __init__(self, url: str, copies: Path | None = None, is_only_writer: bool = False) -> None:
        self._copies = copies
        self._newest = Newest(self._last) if is_only_writer else None
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
        self._add_text = _ADD_READINGS.format(*(["?"] if self._is_sqlite else ["%s"]) * 5)
        self._joined = threading.local()
        if self._is_sqlite:
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        try:
            self._bring_up()
        except BaseException:
            self.close()
            raise

    def _bring_up(self) -> None:
        with self._reading() as c:
            found = schema.revision(c)
        schema.check(found, self._shown)
        if found == schema.HEAD:
            return
        if found is not None:
            copy = self.copy_aside(f"before-{schema.HEAD}", found)
            log.warning(
                "store %s: upgrading from schema %s to %s; a copy of it as it was is %s", self._shown, found, schema.HEAD, copy
            )
        with self._writing() as c:
            if not self._is_sqlite:
                c.exec_driver_sql("SELECT pg_advisory_xact_lock(738251)")  # two services start at once: one of them upgrades
            if schema.revision(c) != schema.HEAD:
                schema.upgrade(c)

    @property
    def file(self) -> Path | None:
        """Return the file of an SQLite store, None for PostgreSQL."""
        return Path(self._engine.url.database) if self._is_sqlite and self._engine.url.database else None

    def copy_aside(self, why: str, found: str) -> Path:
        """Copy the store, which has schema `found`, to ``<its name>.<why>`` in the folder of copies. Raises StoreError."""
        from service.store.backup import copy_of

        beside, name = (self.file.parent, self.file.name) if self.file else (Path("state/backups"), "setwise.db")
        copy = (self._copies or beside) / f"{name}.{why}"
        copy_of(self._engine, copy, found)
        return copy

    # -- transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Join all calls of this thread inside the block: all of them are kept, or none."""
        with self._writing():
            yield

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let all reads of this thread inside the block see one moment, over one connection: quicker than one for each."""
        with self._reading() as c:
            outer, self._joined.reading = getattr(self._joined, "reading", None), c
            try:
                yield
            finally:
                self._joined.reading = outer

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        outer: sa.Connection | None = getattr(self._joined, "connection", None)
        if outer is not None:
            yield outer
            return
        added: list[Sequence[Row]] = []
        try:
            with self._engine.connect() as c:
                c = c.execution_options(setwise_writes=True)
                with c.begin():
                    self._joined.connection, self._joined.added = c, added
                    try:
                        yield c
                    finally:
                        self._joined.connection = None
        except sa.exc.SQLAlchemyError as e:
            raise StoreError(url=self._shown, reason=_sentence(e)) from e
        if self._newest is not None:
            for rows in added:
                self._newest.take(rows)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        outer: sa.Connection | None = getattr(self._joined, "connection", None) or getattr(self._joined, "reading", None)
        try:
            if outer is not None:
                yield outer
            else:
                with self._engine.connect() as c:
                    yield c
        except sa.exc.SQLAlchemyError as e:
            raise StoreError(url=self._shown, reason=_sentence(e)) from e

    # -- readings

    def add_readings(
        self, readings: Sequence[Reading], refused: Iterable[BadReadingError] = (), at: pd.Timestamp | None = None
    ) -> int:
        """See `Store.add_readings`."""
        rows = [(r.variable, _ms(r.stamp), r.value, r.flag, _ms(r.received)) for r in readings]
        return self.add_rows(rows, refused, at)

    def add_rows(
        self,
        rows: Sequence[tuple[str, int, float, str, int]],
        refused: Iterable[BadReadingError] = (),
        at: pd.Timestamp | None = None,
    ) -> int:
        """See `Store.add_rows`."""
        if not all(math.isfinite(row[2]) for row in rows):
            raise StoreError(url=self._shown, reason="a reading that is not a number cannot be kept.")
        refused = list(refused)
        now = _ms(at) if at is not None else max((row[4] for row in rows), default=0)
        n_new = 0
        with self._writing() as c:
            if rows:
                n_new = int(c.exec_driver_sql(self._add_text, list(rows)).rowcount)
                self._joined.added.append(rows)
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

    def series(self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, is_usable: bool = True) -> pd.DataFrame:
        """See `Store.series`."""
        first, last = _ms(start), _ms(end)
        hidden = UNUSABLE if is_usable else ()
        t, s = READINGS.c, SUMMARIES.c
        raw = sa.select(t.variable, t.stamp, t.value).where(
            t.variable.in_(variables), t.stamp >= first, t.stamp < last, t.flag.not_in(hidden)
        )
        old = (
            sa.select(s.variable, s.stamp, sa.func.sum(s.mean * s.n) / sa.func.sum(s.n))
            .where(s.variable.in_(variables), s.stamp >= first, s.stamp < last, s.flag.not_in(hidden))
            .group_by(s.variable, s.stamp)
        )
        with self._reading() as c:
            rows = {(r[0], r[1]): r[2] for r in (*c.execute(old), *c.execute(raw))}
        return _wide([(*key, value) for key, value in rows.items()], variables)

    def hourly(
        self, variables: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, rules: Mapping[str, Rule] | None = None
    ) -> pd.DataFrame:
        """See `Store.hourly`."""
        hours = _hours(start, end)
        rules = rules if rules is not None else self.get("resampling") or {}
        means = [v for v in variables if rules.get(v, "mean") == "mean"]
        with self._reading() as c:
            frame = _wide(c.execute(_hourly_means(means, _ms(start.floor("h")), _ms(end.floor("h")))).all(), means).reindex(hours)
            others = {v: self._hourly_by_rule(c, v, rules[v], hours) for v in variables if v not in means}
        return frame.assign(**others)[list(variables)]

    def _hourly_by_rule(self, c: sa.Connection, name: str, rule: Rule, hours: pd.DatetimeIndex) -> NDArray[np.float64]:
        hours_ms = np.asarray(hours.as_unit("ms").asi8)
        if not len(hours_ms):
            return np.empty(0)
        stream = f"{name}.counter" if rule == "counter" else name
        parts = pd.DataFrame(c.execute(_parts_of(stream, int(hours_ms[0]) - DAY_MS, int(hours_ms[-1]) + DAY_MS)).mappings().all())
        if parts.empty:
            return np.full(len(hours_ms), np.nan)
        return resample(rule, *(_levels(parts) if rule == "counter" else _points(parts)), hours_ms)

    def last(self, variables: Sequence[str], is_usable: bool = True) -> dict[str, Reading]:
        """See `Store.last`."""
        is_inside = getattr(self._joined, "connection", None) is not None  # a transaction sees what it has not committed
        ask = self._last if self._newest is None or is_inside else self._newest.of
        return {name: reading_of(row) for name, row in ask(variables, is_usable).items()}

    def _last(self, variables: Sequence[str], is_usable: bool) -> dict[str, Row]:
        t, s = READINGS.c, SUMMARIES.c
        raw = sa.select(READINGS).where(t.variable == sa.bindparam("name")).order_by(t.stamp.desc()).limit(1)
        end = s.stamp + 60_000 * s.step_min
        old = sa.select(s.variable, s.stamp, s.last, s.flag, end).where(s.variable == sa.bindparam("name"))
        old = old.order_by(s.stamp.desc()).limit(1)
        if is_usable:
            raw, old = raw.where(t.flag.not_in(UNUSABLE)), old.where(s.flag.not_in(UNUSABLE))
        found: dict[str, Row] = {}
        with self._reading() as c:
            for name in variables:
                row = c.execute(raw, {"name": name}).first() or c.execute(old, {"name": name}).first()
                if row is not None:
                    found[name] = (row[0], row[1], row[2], row[3], row[4])
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
            data = _document(row.json)
        except ValueError as e:
            raise self._damaged(table.name, row.id, e) from e
        return DocumentRecord(row.id, _instant(row.made), row.state, dict(data))

    def _plan_record(self, row: Any) -> PlanRecord:
        try:
            plan = _plan(row.json)
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
            c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(outcome=outcome, ended=_ms(at), log=_clean(log, 4000)))

    def note_job(self, job_id: int, peak_mb: float | None, tail: str) -> None:
        """See `Store.note_job`."""
        with self._writing() as c:
            c.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(peak_mb=peak_mb, tail=_clean(tail, 4000)))

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
        t = PUBLICATIONS.c
        newest = sa.select(PUBLICATIONS).where(t.setting == sa.bindparam("name")).order_by(t.id.desc()).limit(1)
        with self._reading() as c:
            rows = [c.execute(newest, {"name": name}).one() for name in _first_column(c, t.setting)]
        return {row.setting: _publication_record(row) for row in rows}

    def publications(self, start: pd.Timestamp, end: pd.Timestamp) -> list[PublicationRecord]:
        """See `Store.publications`."""
        t = PUBLICATIONS.c
        with self._reading() as c:
            rows = c.execute(sa.select(PUBLICATIONS).where(t.made >= _ms(start), t.made < _ms(end)).order_by(t.id)).all()
        return [_publication_record(row) for row in rows]

    # -- regimes

    def note_regime(self, now: RegimeRecord) -> None:
        """See `Store.note_regime`."""
        t, since, until = REGIMES.c, _ms(now.since), _ms(now.until)
        facts = {"run": now.run, "assigned": now.assigned, "held": ",".join(now.held), "why": _clean(now.why)}
        with self._writing() as c:
            last = c.execute(sa.select(REGIMES).order_by(t.id.desc()).limit(1)).first()
            is_touching = last is not None and last.since <= since <= last.until
            if last is not None and is_touching:
                same = all(getattr(last, key) == value for key, value in facts.items())
                end = max(last.until, until) if same else since
                c.execute(sa.update(REGIMES).where(t.id == last.id).values(until=end))
                if same:
                    return
            c.execute(sa.insert(REGIMES).values(since=since, until=until, **facts))

    def regimes(self, start: pd.Timestamp, end: pd.Timestamp) -> list[RegimeRecord]:
        """See `Store.regimes`."""
        t = REGIMES.c
        with self._reading() as c:
            rows = c.execute(sa.select(REGIMES).where(t.until > _ms(start), t.since < _ms(end)).order_by(t.id)).all()
        return [
            RegimeRecord(_instant(r.since), _instant(r.until), r.run, r.assigned, tuple(filter(None, r.held.split(","))), r.why)
            for r in rows
        ]

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
        each = [sa.select(sa.func.count()).select_from(t).scalar_subquery().label(t.name) for t in METADATA.sorted_tables]
        with self._reading() as c:
            return {name: int(n) for name, n in c.execute(sa.select(*each)).mappings().one().items()}

    def newest(self) -> pd.Timestamp | None:
        """See `Store.newest`."""
        with self._reading() as c:
            found = [c.execute(sa.select(sa.func.max(table.c[column]))).scalar() for table, column in _WRITTEN]
            found += [c.execute(sa.select(sa.func.max(s.c.stamp)).where(s.c.variable == v)).scalar() for s, v in self._streams(c)]
        return max((_instant(ms) for ms in found if ms is not None), default=None)

    # -- growing old

    def compact(self, before: pd.Timestamp, step_min: int) -> int:
        """See `Store.compact`."""
        limit = _ms(before) // 3_600_000 * 3_600_000
        source = READINGS if step_min == 15 else SUMMARIES
        is_finer = sa.true() if step_min == 15 else SUMMARIES.c.step_min < step_min
        with self._reading() as c:
            names = [v for table, v in self._streams(c) if table is source]
        n_gone = 0
        for name in names:
            mine = (source.c.variable == name) & is_finer
            while True:
                with self._writing() as c:
                    oldest = c.execute(sa.select(sa.func.min(source.c.stamp)).where(mine)).scalar()
                    if oldest is None or oldest >= limit:
                        break
                    until = min(oldest // _CHUNK_MS * _CHUNK_MS + _CHUNK_MS, limit)
                    chosen = mine & (source.c.stamp < until)
                    rows = self._insert(SUMMARIES).from_select(list(SUMMARIES.c.keys()), _coarser(source, chosen, step_min))
                    c.execute(rows.on_conflict_do_update(index_elements=list(SUMMARIES.primary_key), set_=_merged(rows)))
                    n_gone += int(c.execute(sa.delete(source).where(chosen)).rowcount)
        return n_gone

    def forget(self, before: pd.Timestamp, forecasts_before: pd.Timestamp | None = None) -> int:
        """See `Store.forget`."""
        limit, n_gone = _ms(before), 0
        limits = {"readings": limit, "summaries": limit, "forecasts": _ms(forecasts_before) if forecasts_before else limit}
        with self._reading() as c:
            streams = [*self._streams(c), *((FORECASTS, v) for v in _first_column(c, FORECASTS.c.variable))]
        for table, name in streams:
            with self._writing() as c:
                old = (table.c.variable == name) & (table.c.stamp < limits[table.name])
                n_gone += int(c.execute(sa.delete(table).where(old)).rowcount)
        with self._writing() as c:
            n_gone += int(c.execute(sa.delete(PUBLICATIONS).where(PUBLICATIONS.c.made < limit)).rowcount)
        return n_gone

    def _streams(self, c: sa.Connection) -> list[tuple[sa.Table, str]]:
        return [(table, v) for table in (READINGS, SUMMARIES) for v in _first_column(c, table.c.variable)]

    # -- copies

    def backup(self, file: Path) -> int:
        """See `Store.backup`."""
        from service.store.backup import copy_of

        return copy_of(self._engine, file, schema.HEAD)

    def close(self) -> None:
        """See `Store.close`."""
        self._engine.dispose()


_WRITTEN = ((PLANS, "issued"), (CALIBRATIONS, "made"), (JOBS, "started"), (PUBLICATIONS, "made"), (AUDIT, "at"))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling is switched off: it would open transactions late and commit on its own around DDL.
    connection.isolation_level = None
    # Pages of a new file: a commit writes the last page of every variable that spoke (docs/decisions/0057).
    for pragma in ("page_size=1024", "journal_mode=WAL", "wal_autocheckpoint=4000", "synchronous=FULL", "foreign_keys=ON"):
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
    if "disk I/O error" in said:
        return f"{said}; nothing of this transaction was kept. The disk is full or fails: free some space, or look at its log."
    if "not a database" in said or "malformed" in said:
        return f"{said}. Move it away and put back a copy; without one a new store is made at the next start."
    return f"{said}; nothing of this transaction was kept."


def _clean(text: Any, most: int = 200) -> str:
    """Return text any database takes: foreign payloads may hold zero bytes and lone surrogates."""
    return str(text)[:most].encode("utf-8", "replace").decode().replace("\0", "")


# -- questions about readings, raw and grown old


def _parts(source: sa.Table, chosen: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return rows of either table in the shape of a summary: a raw reading is one of n = 1."""
    c = source.c
    if source is SUMMARIES:
        return sa.select(c.variable, c.stamp, c.step_min, c.flag, c.mean, c.low, c.high, c.first, c.last, c.rise, c.n).where(
            chosen
        )
    values = [c.value.label(name) for name in ("mean", "low", "high", "first", "last")]
    zero, one = sa.literal(0, sa.Integer), sa.literal(1, sa.BigInteger)
    rise = sa.cast(zero, sa.Float).label("rise")
    return sa.select(c.variable, c.stamp, zero.label("step_min"), c.flag, *values, rise, one.label("n")).where(chosen)


def _coarser(source: sa.Table, chosen: sa.ColumnElement[bool], step_min: int) -> sa.Select[Any]:
    """Return the summaries that chosen rows become: mean by count, extremes, first, last, and what a counter rose within.

    A counter that falls has begun again at zero: what it shows then is what it rose.
    """
    p = _parts(source, chosen).subquery()
    step = ((p.c.stamp // (step_min * 60_000)) * (step_min * 60_000)).label("step")
    window: dict[str, Any] = {"partition_by": [p.c.variable, p.c.flag, step], "order_by": [p.c.stamp]}
    former = sa.func.lag(p.c.last).over(**window).label("former")
    following = sa.func.lead(p.c.first).over(**window).label("following")
    r = sa.select(p, step, former, following).subquery()
    jump = sa.case((r.c.former.is_(None), 0.0), (r.c.first >= r.c.former, r.c.first - r.c.former), else_=r.c.first)
    return (
        sa.select(
            r.c.variable,
            r.c.step,
            sa.literal(step_min, sa.Integer),
            r.c.flag,
            sa.func.sum(r.c.mean * r.c.n) / sa.func.sum(r.c.n),
            sa.func.min(r.c.low),
            sa.func.max(r.c.high),
            sa.func.max(sa.case((r.c.former.is_(None), r.c.first))),
            sa.func.max(sa.case((r.c.following.is_(None), r.c.last))),
            sa.func.sum(r.c.rise + jump),
            sa.cast(sa.func.sum(r.c.n), sa.BigInteger),
        )
        .where(r.c.n > 0)
        .group_by(r.c.variable, r.c.step, r.c.flag)
    )  # SQLite wants a WHERE before ON CONFLICT


def _merged(rows: Any) -> dict[str, Any]:
    """Return how a summary takes readings that came after it was made (a clock that was wrong): no count is lost."""
    s, new = SUMMARIES.c, rows.excluded
    n = s.n + new.n
    low = sa.case((new.low < s.low, new.low), else_=s.low)
    high = sa.case((new.high > s.high, new.high), else_=s.high)
    return {"mean": (s.mean * s.n + new.mean * new.n) / n, "low": low, "high": high, "n": n}


def _hourly_means(variables: Sequence[str], first: int, last: int) -> sa.Select[Any]:
    sums = []
    for table in (READINGS, SUMMARIES):
        t = table.c
        hour = ((t.stamp // 3_600_000) * 3_600_000).label("hour")
        what = [sa.func.sum(t.value), sa.func.count()] if table is READINGS else [sa.func.sum(t.mean * t.n), sa.func.sum(t.n)]
        chosen = t.variable.in_(variables) & (t.stamp >= first) & (t.stamp < last) & t.flag.not_in(UNUSABLE)
        labelled = [what[0].label("total"), sa.cast(what[1], sa.BigInteger).label("n")]
        sums.append(sa.select(t.variable, hour, *labelled).where(chosen).group_by(t.variable, hour))
    u = sa.union_all(*sums).subquery()
    return sa.select(u.c.variable, u.c.hour, sa.func.sum(u.c.total) / sa.func.sum(u.c.n)).group_by(u.c.variable, u.c.hour)


def _parts_of(name: str, first: int, last: int) -> sa.Select[Any]:
    both = [_parts(t, (t.c.variable == name) & (t.c.stamp >= first) & (t.c.stamp < last)) for t in (READINGS, SUMMARIES)]
    u = sa.union_all(*both).subquery()
    return sa.select(u).order_by(u.c.stamp)


def _points(parts: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return stamps, values and whether they count; a summary gives its mean at its start and its last value at its end."""
    end = parts["stamp"] + np.maximum(parts["step_min"] * 60_000 - 1, 0)
    is_old = parts["step_min"] > 0
    stamps = np.concatenate([parts["stamp"], end[is_old]])
    values = np.concatenate([parts["mean"], parts["last"][is_old]])
    usable = np.concatenate([~parts["flag"].isin(UNUSABLE), ~parts["flag"][is_old].isin(UNUSABLE)])
    order = np.argsort(stamps, kind="stable")
    return stamps[order].astype(np.int64), values[order].astype(float), usable[order].astype(bool)


def _levels(parts: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return a counter's readings as a level that never falls: what it rose since the first; a fall began again at zero."""
    parts = parts[~parts["flag"].isin(UNUSABLE)]
    start, step_ms = parts["stamp"].to_numpy(np.int64), np.maximum(parts["step_min"].to_numpy(np.int64) * 60_000 - 1, 0)
    first, last, rise = (parts[k].to_numpy(float) for k in ("first", "last", "rise"))
    jump = np.r_[0.0, np.where(first[1:] >= last[:-1], first[1:] - last[:-1], first[1:])][: len(first)]
    begin = np.cumsum(jump + np.r_[0.0, rise[:-1]][: len(rise)])
    is_old = step_ms > 0
    stamps, levels = np.concatenate([start, (start + step_ms)[is_old]]), np.concatenate([begin, (begin + rise)[is_old]])
    order = np.argsort(stamps, kind="stable")
    return stamps[order], levels[order], np.ones(len(order), dtype=bool)


def _first_column(c: sa.Connection, column: sa.ColumnElement[str]) -> list[str]:
    """Return the values of the first column of a key by jumping along it: no scan of millions of rows."""
    names: list[str] = []
    question = sa.select(sa.func.min(column))
    name = c.execute(question).scalar()
    while name is not None:
        names.append(name)
        name = c.execute(question.where(column > name)).scalar()
    return names


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
    """Return rows of (variable, stamp, value) as a column per variable and a row per stamp, NaN where there is none."""
    stamps = sorted({row[1] for row in rows})
    place, column = {stamp: i for i, stamp in enumerate(stamps)}, {name: i for i, name in enumerate(variables)}
    values = np.full((len(stamps), len(variables)), np.nan)
    for name, stamp, value in rows:
        values[place[stamp], column[name]] = value
    index = pd.DatetimeIndex(np.asarray(stamps, dtype="datetime64[ms]")).tz_localize("UTC")
    return pd.DataFrame(values, index=index, columns=list(variables))


# What is kept never changes, but is asked for again and again. Only what can be read is remembered.


@lru_cache(maxsize=8)
def _document(text: str) -> dict[str, Any]:
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data


@lru_cache(maxsize=8)
def _plan(text: str) -> Plan:
    return Plan.from_dict(json.loads(text))


def _job_record(row: Any) -> JobRecord:
    return JobRecord(
        row.id,
        row.kind,
        _instant(row.started),
        None if row.ended is None else _instant(row.ended),
        row.outcome,
        row.log,
        row.tail,
        row.peak_mb,
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
