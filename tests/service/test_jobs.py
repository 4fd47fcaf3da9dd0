"""Jobs are children that may crash, hang or be killed; the journal says so and nothing is half-done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from building.errors import BadDescriptionError, JobOverlapError, StoreError, UnknownNameError
from service.clock import TurnedClock
from service.jobs import Cadence, Jobs, Kind, Timetable, _await_result
from service.store import SqlStore

NOW = pd.Timestamp("2026-03-02T12:00Z")
ZONE = "America/Chicago"


@pytest.fixture
def store(tmp_path: Path):
    store = SqlStore(f"sqlite:///{tmp_path}/setwise.db")
    yield store
    store.close()


def jobs_of(store: SqlStore, body, enter=None, limit_s: float = 20.0) -> Jobs:
    def keep(job: int, result) -> None:
        with store.transaction():
            store.put("result", dict(result))
            store.end_job(job, "done", NOW)

    return Jobs([Kind("plan", body, enter or keep, limit_s)], store, TurnedClock(NOW))


def test_result_of_a_job_and_the_end_of_its_journal_entry_enter_together(store: SqlStore) -> None:
    jobs = jobs_of(store, dict)
    job = jobs.start("plan", [("answer", 42)])
    assert jobs.wait("plan", 20)
    assert store.get("result") == {"answer": 42}
    entry = store.jobs("plan")[0]
    assert (entry.id, entry.outcome) == (job, "done")
    assert not jobs.running()


def test_second_job_of_a_kind_is_refused_while_the_first_runs(store: SqlStore) -> None:
    jobs = jobs_of(store, time.sleep)
    jobs.start("plan", 30)
    with pytest.raises(JobOverlapError, match="already running since 2026-03-02"):
        jobs.start("plan", 30)
    jobs.stop()
    assert [j.outcome for j in store.jobs()] == ["interrupted"]


def test_hanging_job_is_killed_at_its_time_limit_and_the_next_may_start(store: SqlStore) -> None:
    jobs = jobs_of(store, time.sleep, limit_s=1.0)
    jobs.start("plan", 60)
    child = jobs.running()["plan"].process.pid
    assert jobs.wait("plan", 15)
    assert store.jobs()[0].outcome == "timed_out"
    assert "time limit of 1 s" in store.jobs()[0].log
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    jobs.start("plan", 60)
    jobs.stop()


def test_crashing_job_is_failed_with_its_exit_code(store: SqlStore) -> None:
    jobs = jobs_of(store, os._exit)
    jobs.start("plan", 7)
    assert jobs.wait("plan", 20)
    assert store.jobs()[0].outcome == "failed"
    assert "exit code 7" in store.jobs()[0].log


def test_job_killed_by_a_signal_is_failed_and_leaves_no_result(store: SqlStore) -> None:
    jobs = jobs_of(store, time.sleep)
    jobs.start("plan", 60)
    os.kill(jobs.running()["plan"].process.pid, signal.SIGKILL)
    assert jobs.wait("plan", 20)
    assert store.jobs()[0].outcome == "failed"
    assert "-9" in store.jobs()[0].log
    assert store.get("result") is None


def test_child_that_ended_but_is_not_reaped_yet_is_not_called_hanging() -> None:
    """A killed child's sentinel is ready a moment before the system lets it be waited for."""

    class Ended:
        exitcode = -9
        is_reaped = False

        def __init__(self) -> None:
            self.sentinel, end = multiprocessing.Pipe(duplex=False)
            end.close()

        def join(self, _timeout_s: float) -> None:
            self.is_reaped = True

        def is_alive(self) -> bool:
            return not self.is_reaped

        def kill(self) -> None:
            self.is_reaped = True

    receiver, _open = multiprocessing.Pipe(duplex=False)
    outcome, text, result = _await_result(Ended(), receiver, 5.0)
    assert (outcome, result) == ("failed", None) and "exit code -9" in text


def test_error_in_a_job_is_in_the_journal_with_its_traceback(store: SqlStore) -> None:
    jobs = jobs_of(store, int)
    jobs.start("plan", "no number")
    assert jobs.wait("plan", 20)
    assert store.jobs()[0].outcome == "failed"
    assert "ValueError" in store.jobs()[0].log and "no number" in store.jobs()[0].log


def test_setwise_error_in_a_job_is_a_refusal_with_its_sentence(store: SqlStore) -> None:
    jobs = jobs_of(store, Cadence.parse)
    jobs.start("plan", "now and then")
    assert jobs.wait("plan", 20)
    assert store.jobs()[0].outcome == "refused"
    assert "'now and then' is not one" in store.jobs()[0].log


def test_result_that_cannot_be_stored_is_a_failed_job_with_nothing_kept(store: SqlStore) -> None:
    def half(job: int, result) -> None:
        with store.transaction():
            store.put("result", dict(result))
            raise StoreError(url="sqlite", reason="database or disk is full")

    jobs = jobs_of(store, dict, enter=half)
    jobs.start("plan", [("answer", 42)])
    assert jobs.wait("plan", 20)
    assert store.get("result") is None
    assert store.jobs()[0].outcome == "failed" and "disk is full" in store.jobs()[0].log


def test_unknown_kind_of_job_is_refused_with_a_hint(store: SqlStore) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'plan'"):
        jobs_of(store, dict).start("plans")


def test_child_ends_when_its_service_is_killed_and_the_next_start_marks_the_job_interrupted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/setwise.db"
    program = f"""
import time, pandas as pd
from service.clock import TurnedClock
from service.jobs import Jobs, Kind
from service.store import SqlStore
if __name__ == "__main__":
    jobs = Jobs([Kind("plan", time.sleep, print, 60.0)], SqlStore({url!r}), TurnedClock(pd.Timestamp("2026-03-02T12:00Z")))
    jobs.start("plan", 60)
    print(jobs.running()["plan"].process.pid, flush=True)
    time.sleep(60)
"""
    file = tmp_path / "serve.py"
    file.write_text(program)
    service = subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}
    )
    child = int(service.stdout.readline())
    service.kill()
    service.wait()
    deadline = time.monotonic() + 15
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)
    store = SqlStore(url)
    assert [j.outcome for j in store.jobs()] == ["running"]
    assert [j.outcome for j in store.interrupt_jobs(NOW)] == ["interrupted"]
    jobs = jobs_of(store, dict)
    jobs.start("plan", [("answer", 1)])
    assert jobs.wait("plan", 20)
    assert [j.outcome for j in store.jobs()] == ["done", "interrupted"]
    store.close()


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_cadence_reads_periods_days_and_weekdays() -> None:
    assert Cadence.parse("every 6 h").next_after(NOW, ZONE) == NOW + pd.Timedelta(hours=6)
    assert Cadence.parse("every 90 min").next_after(NOW, ZONE) == NOW + pd.Timedelta(minutes=90)
    assert Cadence.parse("daily 03:30").next_after(NOW, ZONE) == pd.Timestamp("2026-03-03T09:30Z")
    assert Cadence.parse("Sun 02:00").next_after(NOW, ZONE) == pd.Timestamp("2026-03-08T08:00Z")
    assert Cadence.parse("never").next_after(NOW, ZONE) is None


@pytest.mark.parametrize("text", ["", "sometimes", "every 0 h", "daily 24:00", "daily 3", "every -1 h", "someday 03:00"])
def test_cadence_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadDescriptionError, match="every 6 h"):
        Cadence.parse(text)


def test_local_time_that_daylight_saving_skips_moves_forward() -> None:
    # 2026-03-08 02:00 does not exist in Chicago; the first instant that does is 03:00 local, 08:00 UTC.
    assert Cadence.parse("daily 02:30").next_after(pd.Timestamp("2026-03-08T07:00Z"), ZONE) == pd.Timestamp("2026-03-08T08:00Z")


@given(st.integers(0, 24 * 365), st.integers(0, 1439), st.sampled_from(["daily", "mon", "sun"]))
def test_next_due_instant_lies_ahead_within_the_period_and_at_the_local_time(hour: int, minute: int, day: str) -> None:
    now = pd.Timestamp("2026-01-01T00:00Z") + pd.Timedelta(hours=hour)
    due = Cadence.parse(f"{day} {minute // 60:02d}:{minute % 60:02d}").next_after(now, ZONE)
    assert due is not None and now < due <= now + pd.Timedelta(days=1 if day == "daily" else 7, hours=1)
    local = due.tz_convert(ZONE)
    skipped = local.day_of_year == 67 and minute // 60 == 2
    assert skipped or local.hour * 60 + local.minute == minute


def test_missed_instants_are_not_made_up() -> None:
    table = Timetable({"plan": Cadence.parse("every 1 h"), "calibration": Cadence.parse("never")}, ZONE, NOW)
    assert table.take_due(NOW + pd.Timedelta(minutes=59)) == []
    assert table.take_due(NOW + pd.Timedelta(hours=30)) == ["plan"]
    assert table.take_due(NOW + pd.Timedelta(hours=30, minutes=59)) == []
