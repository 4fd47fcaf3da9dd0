"""Calibration and planning as child processes: spawned, limited in time, one at a time per kind, written in a journal.

The child only reads the store; its result comes back through a pipe and enters the store in one transaction together with the
end of its journal entry. Whatever kills the child (a crash, the time limit, the end of the service) leaves nothing half-done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import pandas as pd

from building.errors import BadDescriptionError, JobOverlapError, SetwiseError, UnknownNameError, did_you_mean
from service.clock import Clock
from service.store import Outcome, Store

_SPAWN = multiprocessing.get_context("spawn")
Message = tuple[Outcome, str, Mapping[str, Any] | None]
"""What a child sends: outcome, a sentence for the journal, the result."""
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Cadence:
    """When a kind of job runs by itself.

    Attributes:
        every: period, for ``every 6 h``; None otherwise.
        at_min: minute of the local day, for ``daily 03:30`` and ``mon 03:30``.
        weekday: 0 for Monday, for ``mon 03:30``; None for every day.
    """

    every: pd.Timedelta | None = None
    at_min: int | None = None
    weekday: int | None = None

    @staticmethod
    def parse(text: str) -> Cadence:
        """Read ``every 6 h``, ``every 90 min``, ``daily 03:30``, ``mon 03:30`` or ``never``.

        Raises:
            BadDescriptionError: anything else.
        """
        words = text.strip().lower()
        if words == "never":
            return Cadence()
        if (found := re.fullmatch(r"every (\d+(?:\.\d+)?) ?(h|min)", words)) and float(found[1]) > 0:
            return Cadence(every=pd.Timedelta(float(found[1]), unit="h" if found[2] == "h" else "min"))
        if found := re.fullmatch(r"(daily|mon|tue|wed|thu|fri|sat|sun) (\d{1,2}):(\d{2})", words):
            hour, minute = int(found[2]), int(found[3])
            if hour < 24 and minute < 60:
                day = None if found[1] == "daily" else _WEEKDAYS.index(found[1])
                return Cadence(at_min=hour * 60 + minute, weekday=day)
        raise BadDescriptionError(
            file="cadence",
            reason=f"'{text}' is not one. Write 'every 6 h', 'every 90 min', 'daily 03:30', 'mon 03:30' or 'never'.",
        )

    def next_after(self, instant: pd.Timestamp, time_zone: str) -> pd.Timestamp | None:
        """Return the next due instant (UTC) after `instant`, or None for ``never``.

        A local time that daylight saving skips moves forward to the first that exists; one that it repeats is taken once.
        """
        if self.every is not None:
            return instant + self.every
        if self.at_min is None:
            return None
        local_day = instant.tz_convert(time_zone).tz_localize(None).normalize()
        for n_days in range(9):
            day = local_day + pd.Timedelta(days=n_days)
            if self.weekday is not None and day.day_of_week != self.weekday:
                continue
            wanted = day + pd.Timedelta(minutes=self.at_min)
            due = wanted.tz_localize(time_zone, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")
            if due > instant:
                return due
        raise AssertionError("a week has every weekday")


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        name: ``calibration`` or ``plan``.
        body: runs in the child, with the arguments given at the start; a function importable by name. Returns plain data.
        enter: runs in the service; given the journal entry's id and the result, it stores both in one transaction.
        time_limit_s: real seconds after which the child is killed.
    """

    name: str
    body: Callable[..., Mapping[str, Any]]
    enter: Callable[[int, Mapping[str, Any]], None]
    time_limit_s: float


@dataclass
class Running:
    """A job on its way."""

    job: int
    since: pd.Timestamp
    process: Any
    done: threading.Event = field(default_factory=threading.Event)


class Jobs:
    """Starts jobs, watches them and writes the journal. One per service."""

    def __init__(self, kinds: list[Kind], store: Store, clock: Clock) -> None:
        self.kinds = {k.name: k for k in kinds}
        self._store = store
        self._clock = clock
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()
        self._is_stopping = False

    def start(self, kind: str, *arguments: Any) -> int:
        """Start a job in a child process and return its place in the journal.

        Raises:
            UnknownNameError: no such kind. JobOverlapError: one of this kind is running.
        """
        if kind not in self.kinds:
            raise UnknownNameError(name=kind, kind="kind of job", owner="this service", hint=did_you_mean(kind, self.kinds))
        with self._lock:
            if kind in self._running:
                raise JobOverlapError(kind=kind, since=self._running[kind].since.isoformat())
            since = self._clock.now()
            job = self._store.start_job(kind, since)
            receiver, sender = _SPAWN.Pipe(duplex=False)
            process = _SPAWN.Process(target=_child, args=(sender, self.kinds[kind].body, arguments), name=f"setwise-{kind}")
            process.daemon = True
            running = Running(job, since, process)
            self._running[kind] = running
            try:
                process.start()
            except Exception as e:
                del self._running[kind]
                self._store.end_job(job, "failed", self._clock.now(), f"the child process did not start: {e}")
                raise
            sender.close()
        threading.Thread(
            target=self._watch, args=(self.kinds[kind], running, receiver), name=f"watch-{kind}", daemon=True
        ).start()
        return job

    def running(self) -> dict[str, Running]:
        """Return the jobs on their way, by kind."""
        with self._lock:
            return dict(self._running)

    def wait(self, kind: str, timeout_s: float | None = None) -> bool:
        """Wait until no job of `kind` runs; return False when the time ran out first."""
        running = self.running().get(kind)
        return running is None or running.done.wait(timeout_s)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End every child; their journal entries say ``interrupted``."""
        self._is_stopping = True
        for running in self.running().values():
            running.process.terminate()
        for running in self.running().values():
            running.done.wait(timeout_s)

    def _watch(self, kind: Kind, running: Running, receiver: Connection) -> None:
        outcome, text, result = _await_result(running.process, receiver, kind.time_limit_s)
        if self._is_stopping and outcome != "done":
            outcome, text = "interrupted", "the service was stopped while the job ran."
        try:
            if result is not None and outcome == "done":
                try:
                    kind.enter(running.job, result)
                    return
                except Exception as e:  # a result that cannot be stored is a failed job, and the journal must say so
                    outcome, text = "failed", f"the result could not be stored: {e}"
            self._store.end_job(running.job, outcome, self._clock.now(), text)
        finally:
            with self._lock:
                self._running.pop(kind.name, None)
            running.done.set()


def _await_result(process: Any, receiver: Connection, limit_s: float) -> Message:
    """Return outcome (done, refused, failed, timed_out), what to write in the journal, and the result."""
    deadline_s = time.monotonic() + limit_s
    message: Message | None = None
    ready = wait([receiver, process.sentinel], timeout=limit_s)
    if receiver in ready or (ready and receiver.poll(0)):
        try:
            message = receiver.recv()
        except (EOFError, OSError):
            message = None
        process.join(max(0.5, deadline_s - time.monotonic()) if message is None else 5.0)
    elif ready:
        process.join(5.0)  # its end is known a moment before the system lets it be reaped: it is not hanging
    if process.is_alive():
        process.kill()
        process.join(5.0)
        if message is None:
            return "timed_out", f"killed after its time limit of {limit_s:g} s.", None
    receiver.close()
    if message is not None:
        return message
    return "failed", f"the child process ended with exit code {process.exitcode} and without a result.", None


def _child(sender: Connection, body: Callable[..., Mapping[str, Any]], arguments: tuple[Any, ...]) -> None:
    """Run `body` and send what came of it."""
    _end_with_parent()
    with contextlib.suppress(OSError):
        os.nice(10)  # setpoints and readings go first
    try:
        message: Message = ("done", "", body(*arguments))
    except SetwiseError as e:
        message = ("refused", str(e), None)
    except BaseException:
        message = ("failed", traceback.format_exc(limit=-6), None)
    sender.send(message)
    sender.close()


def _end_with_parent() -> None:
    """End this child when its service is gone, even by kill -9: nobody would take its result."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Timetable:
    """Says which kinds of job are due."""

    def __init__(self, cadences: Mapping[str, Cadence], time_zone: str, now: pd.Timestamp) -> None:
        self._cadences = dict(cadences)
        self._time_zone = time_zone
        self._seen = now
        self.due = {kind: cadence.next_after(now, time_zone) for kind, cadence in self._cadences.items()}

    def take_due(self, now: pd.Timestamp) -> list[str]:
        """Return the kinds that are due and move each to its next instant after `now` (missed ones are not made up)."""
        for kind, cadence in self._cadences.items() if now < self._seen else ():
            self.due[kind] = cadence.next_after(now, self._time_zone)  # the clock was set back: what was due then is far off
        self._seen = now
        kinds = [k for k, due in self.due.items() if due is not None and due <= now]
        for k in kinds:
            self.due[k] = self._cadences[k].next_after(now, self._time_zone)
        return kinds
