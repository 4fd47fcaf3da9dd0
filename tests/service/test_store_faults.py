"""The store under kill -9, a torn WAL, a read-only disk, and a database server that restarts: what was committed is there."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from children import write_until_killed
from plant import FORKS
from recovery import Recovery

from building.errors import StoreError
from service.store import Reading, SqlStore

T0 = pd.Timestamp("2026-01-05T00:00Z")
N_KILLS = 60


@pytest.mark.faults("writer killed")
@pytest.mark.timeout(600)
def test_kill_9_at_sixty_random_moments_loses_no_committed_reading_and_leaves_no_half_result(
    tmp_path: Path, recovery: Recovery
) -> None:
    url = f"sqlite:///{tmp_path}/setwise.db"
    rng = np.random.default_rng(60)
    SqlStore(url).close()
    last = -1
    for _ in range(N_KILLS):
        receiver, sender = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=write_until_killed, args=(url, last + 1, sender))
        process.start()
        sender.close()
        last = receiver.recv()  # it is at work
        time.sleep(float(rng.uniform(0, 0.12)))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        while receiver.poll():
            try:
                last = receiver.recv()
            except EOFError:
                break
        receiver.close()
    with recovery:
        store = SqlStore(url)
    assert last >= N_KILLS - 1
    counts, fronts = store.counts(), store.counts()["fronts"]
    with store._reading() as c:
        said = c.exec_driver_sql("PRAGMA integrity_check").scalar()
        n_of = {
            v: c.exec_driver_sql(
                f"SELECT (SELECT count(*) FROM readings WHERE variable = '{v}') + "
                f"(SELECT coalesce(sum(n), 0) FROM summaries WHERE variable = '{v}')"
            ).scalar()
            for v in ("a", "b")
        }
        done = c.exec_driver_sql("SELECT count(*) FROM jobs WHERE outcome = 'done'").scalar()
    assert said == "ok"
    # Each number was written once: those acknowledged, and at most one more per kill that was committed but not yet said.
    assert n_of["a"] == n_of["b"] and last + 1 <= n_of["a"] <= last + 1 + N_KILLS
    seen = (
        set(store.series(["a"], T0, T0 + pd.Timedelta(days=9))["a"].dropna())
        if counts["summaries"] == 0
        else set(range(last + 1))
    )
    assert set(range(last + 1)) <= seen
    assert fronts == counts["plans"] == done  # a result is there with the end of its job, or neither
    store.close()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The folder of a store whose last readings are in the WAL only, as a power cut leaves it."""
    live = tmp_path / "live"
    store = SqlStore(f"sqlite:///{live}/setwise.db")
    for n in range(50):
        store.add_readings([Reading("a", T0 + pd.Timedelta(seconds=n), float(n), T0)])
    cut = tmp_path / "cut"
    shutil.copytree(live, cut)
    store.close()
    assert (cut / "setwise.db-wal").stat().st_size > 0
    return cut


def readings_in(folder: Path) -> list[float]:
    store = SqlStore(f"sqlite:///{folder}/setwise.db")
    found = store.series(["a"], T0, T0 + pd.Timedelta(hours=1))["a"].tolist()
    store.close()
    return found


@pytest.mark.faults("power cut")
def test_power_cut_with_everything_in_the_wal_loses_nothing(filled: Path, recovery: Recovery) -> None:
    with recovery:
        assert readings_in(filled) == [float(n) for n in range(50)]


@pytest.mark.faults("corrupt WAL")
@pytest.mark.parametrize("ruin", ["torn", "garbled", "gone"])
def test_corrupt_wal_gives_back_the_last_sound_commits_and_the_store_works_on(
    filled: Path, recovery: Recovery, ruin: str
) -> None:
    """SQLite checks each frame: what follows a damaged one is as if it had not been written; what comes before stays."""
    wal = filled / "setwise.db-wal"
    data = bytearray(wal.read_bytes())
    if ruin == "torn":
        wal.write_bytes(data[: len(data) * 3 // 4 + 11])
    elif ruin == "garbled":
        middle = len(data) // 2
        data[middle : middle + 64] = os.urandom(64)
        wal.write_bytes(data)
    else:
        wal.unlink()
        (filled / "setwise.db-shm").unlink()
    with recovery:
        found = readings_in(filled)
    assert found == [float(n) for n in range(len(found))] and len(found) < 50
    store = SqlStore(f"sqlite:///{filled}/setwise.db")
    assert store.add_readings([Reading("a", T0 + pd.Timedelta(seconds=99), 99.0, T0)]) == 1
    with store._reading() as c:
        assert c.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    store.close()


@pytest.mark.faults
def test_damaged_pages_are_a_clear_error_with_what_to_do(filled: Path) -> None:
    readings_in(filled)
    with sqlite3.connect(filled / "setwise.db") as c:
        c.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = c.execute("PRAGMA page_size").fetchone()[0]
        root = c.execute("SELECT rootpage FROM sqlite_master WHERE name = 'readings'").fetchone()[0]
    c.close()
    with (filled / "setwise.db").open("rb+") as file:
        file.seek((root - 1) * size)
        file.write(os.urandom(size))
    store = SqlStore(f"sqlite:///{filled}/setwise.db")
    with pytest.raises(StoreError, match="malformed.*put back a copy"):
        store.add_readings([Reading("a", T0, 1.0, T0)])
    store.close()


@pytest.mark.faults
def test_store_that_cannot_be_written_says_so_and_loses_nothing(filled: Path) -> None:
    """Root may write anything: the connection is made read-only instead of the file."""
    store = SqlStore(f"sqlite:///{filled}/setwise.db")
    with store._engine.connect() as c:
        c.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(StoreError, match=r"readonly database; nothing of this transaction was kept"):
        store.add_readings([Reading("a", T0 + pd.Timedelta(seconds=99), 99.0, T0)])
    store.close()
    assert readings_in(filled) == [float(n) for n in range(50)]


@pytest.mark.faults
def test_postgresql_killed_and_started_again_keeps_what_was_committed_and_is_used_again() -> None:
    from postgres import NoPostgresError, own_server

    try:
        with own_server() as server:
            store = SqlStore(server.url)
            store.add_readings([Reading("a", T0, 1.0, T0)])
            server.stop("immediate")  # as kill -9 of the server
            with pytest.raises(StoreError):
                store.add_readings([Reading("a", T0 + pd.Timedelta(hours=1), 2.0, T0)])
            began = time.monotonic()
            server.start()
            assert store.add_readings([Reading("a", T0 + pd.Timedelta(hours=1), 2.0, T0)]) == 1
            assert store.series(["a"], T0, T0 + pd.Timedelta(hours=2))["a"].tolist() == [1.0, 2.0]
            assert time.monotonic() - began < 60
            store.close()
    except NoPostgresError as e:
        pytest.skip(str(e))
