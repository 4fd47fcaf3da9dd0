"""kill -9 of the real service, of a commit, a backup, a restore: nothing acknowledged is lost, nothing unsafe is published."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from children import back_up_for_good, restore_and_say, write_and_hold
from plant import FORKS, Sensors, Served, Watcher, damage_plan, kept, store_in, until, with_a_plan
from recovery import Recovery
from sites import fill, lived, two_node_config

from proof.broker import find_mosquitto, start_broker
from service.store import SqlStore
from service.store.backup import restore

T0 = pd.Timestamp("2026-01-05T00:00Z")
ROOT = Path(__file__).resolve().parents[2]
needs_mosquitto = pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")


@pytest.mark.faults("service killed")
@pytest.mark.timeout(3000)
@needs_mosquitto
@pytest.mark.parametrize("n_kills", [50, pytest.param(500, marks=pytest.mark.slow)])
def test_kill_9_of_the_service_at_random_loses_no_acknowledged_reading_and_publishes_nothing_beyond_its_limits(
    tmp_path: Path, recovery: Recovery, n_kills: int
) -> None:
    """Every fifth time the plan in the store is put beyond its limits before the start, and right again after it."""
    rng, url = np.random.default_rng(63), f"sqlite:///{tmp_path / 'setwise.db'}"
    store = store_in(tmp_path)
    with_a_plan(store)
    store.close()
    with start_broker(kind="mosquitto") as broker, Watcher(broker.port) as watcher:
        told = {"mqtt__port": str(broker.port), "ingest__commit_s": "0.1", "mqtt__reconnect_min_s": "0.1"}
        with Served(tmp_path, **told) as service:
            until(lambda: len(watcher.heard) >= 5)  # subscribed: from now on the broker keeps what it acknowledges
            with Sensors(broker.port) as sensors:
                for n in range(n_kills):
                    is_broken = n % 5 == 4
                    time.sleep(float(rng.uniform(0, 0.7)))
                    service.kill()
                    if is_broken:
                        damage_plan(tmp_path / "setwise.db")
                    n_heard, sure = len(watcher.heard), sensors.acknowledged
                    began = time.monotonic()
                    service.start()
                    if n % 5 in (2, 4):  # the others are killed again at once, wherever they are
                        until(lambda n=n_heard: len(watcher.heard) > n)
                        until(lambda sure=sure: sure <= kept(url))
                        recovery.took(time.monotonic() - began)
                    if is_broken:
                        assert watcher.heard[-1][2] == "own"
                        damage_plan(tmp_path / "setwise.db")
                sure = sensors.stop_talking()
                until(lambda: sure <= kept(url), 120)
                assert len(sure) > 10 * n_kills
                assert watcher.faults == [] and {"own"} < {plan for _, _, plan in watcher.heard}


@pytest.mark.faults("setwise serve killed")
@needs_mosquitto
def test_kill_9_of_setwise_serve_as_it_is_installed_loses_no_acknowledged_reading(tmp_path: Path, recovery: Recovery) -> None:
    """The program as a person or systemd starts it: interpreter, imports and all."""
    two_node_config(tmp_path)  # writes the points file
    store, url = store_in(tmp_path), f"sqlite:///{tmp_path / 'setwise.db'}"
    with_a_plan(store)
    store.close()
    with start_broker(kind="mosquitto") as broker, Watcher(broker.port) as watcher:
        told = {
            "BUILDING__NAME": "two_node", "BUILDING__POINTS": str(tmp_path / "points.toml"), "STORE__URL": url,
            "API__TOKEN_FILE": str(tmp_path / "token"), "API__PORT": "0", "MQTT__PORT": str(broker.port),
            "JOBS__CALIBRATION": "never", "JOBS__PLAN": "never", "JOBS__COMPACTION": "never", "JOBS__BACKUP": "never",
        }  # fmt: skip
        environ = {**os.environ, **{f"SETWISE_{key}": value for key, value in told.items()}}

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-m", "setwise", "serve"], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)

        process = start()
        try:
            until(lambda: len(watcher.heard) >= 5)
            with Sensors(broker.port) as sensors:
                for _ in range(2):
                    time.sleep(0.5)
                    process.kill()
                    process.wait()
                    n_heard, sure = len(watcher.heard), sensors.acknowledged
                    with recovery:
                        process = start()
                        until(lambda n=n_heard: len(watcher.heard) > n)
                        until(lambda sure=sure: sure <= kept(url))
                sure = sensors.stop_talking()
                until(lambda: sure <= kept(url))
            assert len(sure) > 200 and watcher.faults == []
        finally:
            process.kill()
            process.wait()


@pytest.mark.faults("commit killed")
def test_kill_9_in_the_middle_of_a_commit_keeps_all_of_it_or_nothing(store_url: str, recovery: Recovery) -> None:
    """The transaction is larger than the page cache, so half of it is on disk already when the process dies."""
    store = SqlStore(store_url)
    store.add_rows([("a", 1000 * i, 1.0, "good", 0) for i in range(100)])
    receiver, sender = FORKS.Pipe(duplex=False)
    child = FORKS.Process(target=write_and_hold, args=(store_url, sender))
    child.start()
    sender.close()
    assert receiver.recv() == "written, not committed"
    child.kill()
    child.join()
    with recovery:
        assert store.add_rows([("b", 0, 2.0, "good", 0)]) == 1  # the lock died with its holder
    store.close()
    again = SqlStore(store_url)
    assert again.counts()["readings"] == 101 and again.counts()["plans"] == 0
    again.close()


@pytest.mark.faults("backup killed")
def test_kill_9_in_the_middle_of_a_backup_leaves_the_former_one_and_the_store_whole(tmp_path: Path, recovery: Recovery) -> None:
    url, file, rng = f"sqlite:///{tmp_path / 'setwise.db'}", tmp_path / "copies" / "setwise.backup", np.random.default_rng(64)
    store = SqlStore(url)
    fill(store, lived(hours=240))
    counts = store.counts()
    store.backup(file)
    for _ in range(8):
        receiver, sender = FORKS.Pipe(duplex=False)
        child = FORKS.Process(target=back_up_for_good, args=(url, file, sender))
        child.start()
        sender.close()
        receiver.recv()
        time.sleep(float(rng.uniform(0, 0.1)))
        child.kill()
        child.join()
        with recovery:
            store.backup(tmp_path / "copies" / "next.backup")
        other = tmp_path / "other.db"
        other.unlink(missing_ok=True)
        assert restore(f"sqlite:///{other}", file) == counts  # whichever it is, it is whole
    assert store.counts() == counts
    store.backup(file)
    assert sorted(p.name for p in file.parent.iterdir()) == ["next.backup", "setwise.backup"]  # no halves lie about
    store.close()


@pytest.mark.faults("restore killed")
def test_kill_9_in_the_middle_of_a_restore_leaves_the_old_store_or_the_new_one(
    store_url: str, tmp_path: Path, recovery: Recovery
) -> None:
    store, rng = SqlStore(store_url), np.random.default_rng(65)
    fill(store, lived(hours=240))
    old, file = store.counts(), tmp_path / "setwise.backup"
    store.backup(file)
    store.add_rows([("a", 0, 1.0, "good", 0)])
    new = store.counts()
    store.close()
    for _ in range(6):
        receiver, sender = FORKS.Pipe(duplex=False)
        child = FORKS.Process(target=restore_and_say, args=(store_url, file, sender))
        child.start()
        sender.close()
        receiver.recv()
        time.sleep(float(rng.uniform(0, 0.3)))
        child.kill()
        child.join()
        with recovery:
            store = SqlStore(store_url)
            assert store.counts() in (old, new)
        store.close()
    assert restore(store_url, file, is_forced=True) == old
