"""What people did, in the same database: the audit log, overrides, and answers kept for idempotency keys.

The chain of hashes is made and read by service/audit.py; here are only rows. Nothing here updates or deletes an audit row, and
`Store.forget` knows nothing of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from service.store.sql import SqlStore
from service.store.tables import ANSWERS, AUDIT, OVERRIDES

KEPT_FOR = pd.Timedelta(days=1)
"""How long an answer is kept for its idempotency key."""


@dataclass(frozen=True)
class AuditRow:
    """One row of the log as it stands; `detail` is the JSON text that was hashed, `at` UTC milliseconds."""

    seq: int
    at: int
    who: str
    role: str
    action: str
    target: str
    detail: str
    hash: str


@dataclass(frozen=True)
class Override:
    """A value that a person holds a setting at.

    Attributes:
        id: its place.
        setting, value: what, inside unit.
        made, until: from when to when (UTC).
        who, reason: by whom and why.
        ended, ended_by: when and by whom it was taken back before `until`; None while it stands.
    """

    id: int
    setting: str
    value: float
    made: pd.Timestamp
    until: pd.Timestamp
    who: str
    reason: str
    ended: pd.Timestamp | None = None
    ended_by: str | None = None

    def is_in_force(self, at: pd.Timestamp) -> bool:
        """Say whether it holds at an instant. Its end alone decides: a clock that was set back does not lift it."""
        return self.ended is None and at < self.until


class Acts:
    """Rows of the audit log, overrides and kept answers. Each call is one transaction, or part of `transaction`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    def transaction(self) -> AbstractContextManager[None]:
        """Join all calls of this thread inside the block: all of them are kept, or none."""
        return self._store.transaction()

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        return self._store._writing()

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        return self._store._reading()

    # -- audit

    def append(self, make: Callable[[AuditRow | None], AuditRow]) -> AuditRow:
        """Append the row that `make` gives, told the last one; reading and writing are one transaction."""
        with self._writing() as c:
            last = c.execute(sa.select(AUDIT).order_by(AUDIT.c.seq.desc()).limit(1)).first()
            row = make(None if last is None else AuditRow(*last))
            c.execute(sa.insert(AUDIT).values(**vars(row)))
        return row

    def rows(self, after: int = 0, limit: int | None = None, is_newest_first: bool = False) -> list[AuditRow]:
        """Return rows with seq > after."""
        order = AUDIT.c.seq.desc() if is_newest_first else AUDIT.c.seq
        with self._reading() as c:
            return [AuditRow(*r) for r in c.execute(sa.select(AUDIT).where(AUDIT.c.seq > after).order_by(order).limit(limit))]

    # -- overrides

    def add_override(
        self, setting: str, value: float, made: pd.Timestamp, until: pd.Timestamp, who: str, reason: str
    ) -> Override:
        """Keep an override; the one that stood for this setting is ended by it."""
        with self._writing() as c:
            t = OVERRIDES.c
            stood = sa.update(OVERRIDES).where(t.setting == setting, t.ended.is_(None), t.until > _ms(made))
            c.execute(stood.values(ended=_ms(made), ended_by=who))
            values = {"setting": setting, "value": value, "made": _ms(made), "until": _ms(until), "who": who, "reason": reason}
            made_id = c.execute(sa.insert(OVERRIDES).values(**values)).inserted_primary_key
        return Override(int(made_id[0]), setting, value, made, until, who, reason)  # type: ignore[index]

    def end_override(self, override_id: int, at: pd.Timestamp, who: str) -> None:
        """Take an override back."""
        with self._writing() as c:
            t = OVERRIDES.c
            c.execute(sa.update(OVERRIDES).where(t.id == override_id, t.ended.is_(None)).values(ended=_ms(at), ended_by=who))

    def overrides(self, limit: int = 100) -> list[Override]:
        """Return overrides, newest first: those in force, ended and expired."""
        with self._reading() as c:
            rows = c.execute(sa.select(OVERRIDES).order_by(OVERRIDES.c.id.desc()).limit(limit)).all()
        return [
            Override(
                r.id,
                r.setting,
                r.value,
                _instant(r.made),
                _instant(r.until),
                r.who,
                r.reason,
                None if r.ended is None else _instant(r.ended),
                r.ended_by,
            )
            for r in rows
        ]

    def overrides_in_force(self, at: pd.Timestamp) -> dict[str, Override]:
        """Return by setting the override that holds at an instant."""
        with self._reading() as c:
            t = OVERRIDES.c
            ids = c.execute(sa.select(t.id).where(t.ended.is_(None), t.until > _ms(at))).scalars().all()
        if not ids:
            return {}
        wanted = set(ids)
        return {o.setting: o for o in reversed(self.overrides(limit=10_000)) if o.id in wanted}

    # -- kept answers

    def keep_answer(self, key: str, request: str, status: int, data: Mapping[str, Any], at: pd.Timestamp) -> None:
        """Keep an answer for its key; answers older than `KEPT_FOR` go."""
        with self._writing() as c:
            c.execute(sa.delete(ANSWERS).where(ANSWERS.c.made < _ms(at - KEPT_FOR)))
            c.execute(
                sa.insert(ANSWERS).values(key=key, request=request, status=status, json=json.dumps(dict(data)), made=_ms(at))
            )

    def kept_answer(self, key: str, at: pd.Timestamp) -> tuple[str, int, dict[str, Any]] | None:
        """Return request, status and answer kept for a key, or None."""
        with self._reading() as c:
            row = c.execute(sa.select(ANSWERS).where(ANSWERS.c.key == key, ANSWERS.c.made >= _ms(at - KEPT_FOR))).first()
        return None if row is None else (row.request, row.status, json.loads(row.json))


def _ms(instant: pd.Timestamp) -> int:
    return int(instant.timestamp() * 1000 + 0.5)


def _instant(ms: int) -> pd.Timestamp:
    return pd.Timestamp(ms, unit="ms", tz="UTC")
