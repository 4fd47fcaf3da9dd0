"""The log of who did what: whatever is changed, taken out, put in or cut off is found and named."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from service.audit import AuditLog
from service.store import SqlStore
from service.store.acts import Acts

NOW = pd.Timestamp("2026-02-02T15:10Z")


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "audit-head"


@pytest.fixture
def log(store: SqlStore, note: Path) -> AuditLog:
    """Ten entries."""
    log = AuditLog(Acts(store), note)
    for i in range(10):
        write(log, i)
    return log


def write(log: AuditLog, i: int, who: str = "anna") -> None:
    log.append(
        who, "operator", "override", "heating_setpoint", {"value": 20 + i, "reason": "é ☃"}, NOW + i * pd.Timedelta("1min")
    )
    log.note_head()


def tamper(store: SqlStore, statement: str) -> None:
    with store._writing() as c:
        c.execute(sa.text(statement))


def test_log_that_nobody_touched_is_whole_and_shows_the_newest_first(log: AuditLog) -> None:
    verdict = log.verify()
    assert (verdict.n, verdict.faults) == (10, ())
    newest = log.entries(limit=2)
    assert [e.seq for e in newest] == [10, 9] and json.loads(newest[0].detail)["value"] == 29


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit SET who = 'bert' WHERE seq = 4", "entry 4 (override by bert) is not what was written: changed."),
        ("UPDATE audit SET at = at + 1 WHERE seq = 10", "entry 10 (override by anna) is not what was written: changed."),
        ("UPDATE audit SET detail = '{}' WHERE seq = 1", "entry 1 (override by anna) is not what was written: changed."),
        ("UPDATE audit SET role = 'admin' WHERE seq = 2", "entry 2"),
        ("UPDATE audit SET target = 'x' WHERE seq = 2", "entry 2"),
        ("UPDATE audit SET action = 'x' WHERE seq = 2", "entry 2"),
        ("DELETE FROM audit WHERE seq = 5", "entry 5 is missing: deleted."),
        ("DELETE FROM audit WHERE seq IN (5, 6)", "entries 5 to 6 are missing: deleted."),
        ("DELETE FROM audit WHERE seq < 3", "entries 1 to 2 are missing: deleted."),
        ("DELETE FROM audit WHERE seq > 8", "entries 9 to 10 are missing at the end: cut off"),
        ("DELETE FROM audit", "entries 1 to 10 are missing at the end: cut off"),
    ],
)
def test_entry_that_was_changed_deleted_or_cut_off_is_found_and_named(log: AuditLog, store: SqlStore, statement, said) -> None:
    tamper(store, statement)
    assert any(said in fault for fault in log.verify().faults)


def test_entry_put_in_between_is_found(log: AuditLog, store: SqlStore) -> None:
    tamper(store, "UPDATE audit SET seq = seq + 100 WHERE seq > 5")
    tamper(store, "INSERT INTO audit SELECT 6, at, 'bert', role, action, target, detail, hash FROM audit WHERE seq = 5")
    tamper(store, "UPDATE audit SET seq = seq - 99 WHERE seq > 100")
    assert any("entry 6 (override by bert)" in fault for fault in log.verify().faults)


def test_cut_stays_visible_when_the_service_writes_on(log: AuditLog, store: SqlStore) -> None:
    tamper(store, "DELETE FROM audit WHERE seq > 8")
    write(log, 10)
    assert log.verify().faults == ("entries 9 to 10 are missing: deleted.",)


def test_log_written_anew_is_found_by_the_note_and_by_a_head_noted_elsewhere(log: AuditLog, store: SqlStore, note: Path) -> None:
    elsewhere = str(log.head())
    head = note.read_text()
    tamper(store, "DELETE FROM audit")
    note.unlink()
    for i in range(12):
        write(log, i, who="mallory")
    assert log.verify().faults == ()  # whoever owns the machine can do this ...
    assert any("entry 10 is not the one noted in --head" in f for f in log.verify(elsewhere).faults)  # ... and this shows it
    note.write_text(head)
    assert any("written anew" in f for f in log.verify().faults)


def test_missing_note_is_said(log: AuditLog, note: Path) -> None:
    note.unlink()
    assert "cannot be excluded" in log.verify().faults[0]


def test_crash_between_commit_and_note_is_no_fault(log: AuditLog) -> None:
    log.append("anna", "operator", "set_mode", "watch", {}, NOW)
    assert log.verify().faults == ()


def test_entry_and_what_it_tells_of_are_kept_together_or_not_at_all(log: AuditLog, store: SqlStore) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        log.append("anna", "operator", "set_mode", "watch", {}, NOW)
        raise RuntimeError
    assert log.head().seq == 10


def test_forgetting_old_readings_leaves_the_log_alone(log: AuditLog, store: SqlStore) -> None:
    store.forget(NOW + pd.Timedelta(days=1000))
    assert log.verify().n == 10
