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
from children import crash, hoard, search, whisper
from hypothesis import given
from hypothesis import strategies as st
from recovery import Recovery

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


def jobs_of(store: SqlStore, body, enter=None, limit_s: float = 120.0) -> Jobs:
    def keep(job: int, result) -> None:
        with store.transaction():
            store.put("result", dict(result))
            store.end_job(job, "done", NOW)

    return Jobs([Kind("plan", body, enter or keep, limit_s)], store, TurnedClock(NOW))


def test_result_of_a_job_and_the_end_of_its_journal_entry_enter_together(store: SqlStore) -> None:
    jobs = jobs_of(store, dict)
    job = jobs.start("plan", [("answer", 42)])
    assert jobs.wait("plan", 90)
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


@pytest.mark.faults("job hangs")
def test_hanging_job_is_killed_at_its_time_limit_and_the_next_may_start(store: SqlStore, recovery: Recovery) -> None:
    jobs = jobs_of(store, time.sleep, limit_s=1.0)
    jobs.start("plan", 60)
    child = jobs.running()["plan"].process.pid
    with recovery:
        assert jobs.wait("plan", 90)
    assert store.jobs()[0].outcome == "timed_out"
    assert "time limit of 1 s" in store.jobs()[0].log
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    jobs.start("plan", 60)
    jobs.stop()


def test_crashing_job_is_failed_with_its_exit_code(store: SqlStore) -> None:
    jobs = jobs_of(store, os._exit)
    jobs.start("plan", 7)
    assert jobs.wait("plan", 90)
    assert store.jobs()[0].outcome == "failed"
    assert "exit code 7" in store.jobs()[0].log


@pytest.mark.faults("job crashes")
def test_crash_inside_a_library_leaves_its_stack_and_last_words_in_the_journal(store: SqlStore, recovery: Recovery) -> None:
    jobs = jobs_of(store, crash)
    jobs.start("plan")
    with recovery:
        assert jobs.wait("plan", 60)
    job = store.jobs()[0]
    assert job.outcome == "failed" and "exit code -11" in job.log
    assert job.tail.startswith("opening the bundle") and "Segmentation fault" in job.tail and "in crash" in job.tail


def test_job_that_takes_too_much_memory_is_killed_at_its_measured_limit(store: SqlStore) -> None:
    jobs = Jobs([Kind("plan", hoard, print, 120.0, memory_limit_mb=400.0)], store, TurnedClock(NOW))
    jobs.start("plan", 2000)
    assert jobs.wait("plan", 90)
    job = store.jobs()[0]
    assert job.outcome == "failed" and "its limit is 400 MB" in job.log
    assert 400 < job.peak_mb < 700  # looked at four times a second: it may overshoot, it does not run away


def test_journal_keeps_the_last_lines_of_a_job_and_its_memory_however_much_it_says(store: SqlStore) -> None:
    jobs = jobs_of(store, whisper)
    jobs.start("plan", 200_000)
    assert jobs.wait("plan", 90)
    job = store.jobs()[0]
    assert job.outcome == "done" and job.tail.endswith("line 199999") and len(job.tail) <= 4000
    assert 20 < job.peak_mb < 400


def test_job_searches_without_the_libraries_that_only_draw_and_says_no_word_of_it(store: SqlStore) -> None:
    jobs = jobs_of(store, search)
    job = jobs.start("plan")
    assert jobs.wait("plan", 100)
    found = store.get("result")
    assert found["loaded"] == [] and found["best"] < 1e-6
    seen = store.job(job)
    assert seen is not None and "matplotlib" not in seen.tail


def test_end_of_a_job_waits_for_a_store_that_refuses_and_bars_no_later_job(store: SqlStore, monkeypatch) -> None:
    whole, refused = store.end_job, []

    def full(*arguments, **named) -> None:
        if len(refused) < 2:
            refused.append(arguments)
            raise StoreError(url="sqlite", reason="database or disk is full")
        whole(*arguments, **named)

    monkeypatch.setattr(store, "end_job", full)
    jobs = jobs_of(store, os._exit)
    jobs.start("plan", 7)
    assert jobs.wait("plan", 60)
    assert len(refused) == 2 and store.jobs()[0].outcome == "failed"
    jobs.start("plan", 0)
    assert jobs.wait("plan", 60)


def test_job_killed_by_a_signal_is_failed_and_leaves_no_result(store: SqlStore) -> None:
    jobs = jobs_of(store, time.sleep)
    jobs.start("plan", 60)
    os.kill(jobs.running()["plan"].process.pid, signal.SIGKILL)
    assert jobs.wait("plan", 90)
    assert store.jobs()[0].outcome == "failed"
    assert "-9" in store.jobs()[0].log
    assert store.get("result") is None


def test_child_that_ended_but_is_not_reaped_yet_is_not_called_hanging() -> None:
    """A killed child's sentinel is ready a moment before the system lets it be waited for."""

    class Ended:
        exitcode = -9
        is_reaped = False
        pid = 2**22 + 1  # beyond any

        def __init__(self) -> None:
            self.sentinel, end = multiprocessing.Pipe(duplex=False)
            end.close()

        def join(self, _timeout_s: float) -> None:
            self.is_reaped = True

        def is_alive(self) -> bool:
            return not self.is_reaped

        def kill(self) -> None:
            self.is_reaped = True

    (receiver, _open), (words, _mouth) = multiprocessing.Pipe(duplex=False), multiprocessing.Pipe(duplex=False)
    (outcome, text, result), _seen = _await_result(Ended(), receiver, words, Kind("plan", dict, print, 5.0))
    assert (outcome, result) == ("failed", None) and "exit code -9" in text


def test_error_in_a_job_is_in_the_journal_with_its_traceback(store: SqlStore) -> None:
    jobs = jobs_of(store, int)
    jobs.start("plan", "no number")
    assert jobs.wait("plan", 90)
    assert store.jobs()[0].outcome == "failed"
    assert "ValueError" in store.jobs()[0].log and "no number" in store.jobs()[0].log


def test_setwise_error_in_a_job_is_a_refusal_with_its_sentence(store: SqlStore) -> None:
    jobs = jobs_of(store, Cadence.parse)
    jobs.start("plan", "now and then")
    assert jobs.wait("plan", 90)
    assert store.jobs()[0].outcome == "refused"
    assert "'now and then' is not one" in store.jobs()[0].log


def test_result_that_cannot_be_stored_is_a_failed_job_with_nothing_kept(store: SqlStore) -> None:
    def half(job: int, result) -> None:
        with store.transaction():
            store.put("result", dict(result))
            raise StoreError(url="sqlite", reason="database or disk is full")

    jobs = jobs_of(store, dict, enter=half)
    jobs.start("plan", [("answer", 42)])
    assert jobs.wait("plan", 90)
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
    assert jobs.wait("plan", 90)
    assert [j.outcome for j in store.jobs()] == ["done", "interrupted"]
    store.close()


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_cadence_reads_cron_fields_in_local_time() -> None:
    assert Cadence.parse("0 */6 * * *").next_after(NOW, ZONE) == pd.Timestamp("2026-03-02T18:00Z")
    assert Cadence.parse("30 3 * * *").next_after(NOW, ZONE) == pd.Timestamp("2026-03-03T09:30Z")
    assert Cadence.parse("0 2 * * Sun").next_after(NOW, ZONE) == pd.Timestamp("2026-03-08T08:00Z")  # skipped that day: 03:00
    assert Cadence.parse("never").next_after(NOW, ZONE) is None


@pytest.mark.parametrize(
    "text", ["", "sometimes", "daily 03:30", "60 3 * * *", "0 24 * * *", "* * * * * *", "@daily", "0 0 30 2 *", "0 0 * * xyz"]
)
def test_cadence_that_is_none_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BadDescriptionError, match=r"'30 3 \* \* \*' \(daily 03:30\)"):
        Cadence.parse(text)


def test_local_time_that_daylight_saving_skips_runs_at_the_first_minute_that_exists() -> None:
    # 2026-03-08 02:00 does not exist in Chicago; the first instant that does is 03:00 local, 08:00 UTC.
    due = Cadence.parse("30 2 * * *").next_after(pd.Timestamp("2026-03-08T07:00Z"), ZONE)
    assert due == pd.Timestamp("2026-03-08T08:00Z")


def test_local_time_that_daylight_saving_repeats_runs_once() -> None:
    cadence = Cadence.parse("30 1 * * *")
    first = cadence.next_after(pd.Timestamp("2026-11-01T05:00Z"), ZONE)
    assert first == pd.Timestamp("2026-11-01T06:30Z")
    assert cadence.next_after(first, ZONE) == pd.Timestamp("2026-11-02T07:30Z")


@given(st.integers(0, 24 * 365), st.integers(0, 1439), st.sampled_from(["*", "mon", "sun"]))
def test_next_due_instant_lies_ahead_within_the_period_and_at_the_local_time(hour: int, minute: int, day: str) -> None:
    now = pd.Timestamp("2026-01-01T00:00Z") + pd.Timedelta(hours=hour)
    due = Cadence.parse(f"{minute % 60} {minute // 60} * * {day}").next_after(now, ZONE)
    assert due is not None and now < due <= now + pd.Timedelta(days=1 if day == "*" else 7, hours=1)
    local = due.tz_convert(ZONE)
    skipped = local.day_of_year == 67 and minute // 60 == 2
    assert skipped or local.hour * 60 + local.minute == minute


def test_missed_instants_are_not_made_up() -> None:
    table = Timetable({"plan": Cadence.parse("0 * * * *"), "calibration": Cadence.parse("never")}, ZONE, NOW)
    assert table.take_due(NOW + pd.Timedelta(minutes=59)) == []
    assert table.take_due(NOW + pd.Timedelta(hours=30)) == ["plan"]
    assert table.take_due(NOW + pd.Timedelta(hours=30, minutes=59)) == []
