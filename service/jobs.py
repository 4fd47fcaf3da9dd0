"""Work as child processes: spawned, limited in time and memory, one at a time per kind, written in a journal.

The result comes back through a pipe and enters the store in one transaction together with the end of its journal entry; only
compaction writes from the child, in steps that are whole each. Whatever kills the child (a crash, its limits, the end of the
service) leaves nothing half-done.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import math
import multiprocessing
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psutil
from cronsim import CronSim, CronSimError

from building.errors import (
    BadDescriptionError,
    JobOverlapError,
    SetwiseError,
    StoreError,
    UnknownNameError,
    did_you_mean,
)
from service.clock import Clock
from service.store import Outcome, Store

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")
Message = tuple[Outcome, str, Mapping[str, Any] | None]
"""What a child sends: outcome, a sentence for the journal, the result."""
_LOOK_S = 0.25
_NEEDLESS = ("matplotlib", "scipy.stats")
"""cma and pymoo import them if they can, for drawings and a surrogate that nobody asks for: 95 MB and seconds of each job."""
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Cadence:
    """When a kind of job runs by itself: five cron fields in the building's local time, or never.

    A local time that daylight saving skips runs at the first minute that exists; one that it repeats runs once (as cron of Debian
    does it; `cronsim`).
    """

    fields: str | None = None

    @staticmethod
    def parse(text: str) -> Cadence:
        """Read cron fields (minute, hour, day of month, month, day of week) or ``never``.

        Raises:
            BadDescriptionError: anything else, or fields that never come true.
        """
        words = text.strip()
        if words.lower() == "never":
            return Cadence()
        try:
            if len(words.split()) != 5:
                raise CronSimError("wanted five fields")
            next(CronSim(words, datetime(2026, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as e:
            said = str(e) or "it never comes true"
            raise BadDescriptionError(
                file="cadence",
                reason=f"'{text}' is not one ({said}). Write five cron fields in local time, such as '30 3 * * *' (daily 03:30), "
                "'0 2 * * sun' (Sunday 02:00) or '0 */6 * * *' (every six hours); or 'never'.",
            ) from e
        return Cadence(words)

    def next_after(self, instant: pd.Timestamp, time_zone: str) -> pd.Timestamp | None:
        """Return the next due instant (UTC) after `instant`, or None for ``never``."""
        if self.fields is None:
            return None
        local = instant.to_pydatetime(warn=False).astimezone(ZoneInfo(time_zone))
        return pd.Timestamp(next(CronSim(self.fields, local))).tz_convert("UTC")


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Attributes:
        name: ``calibration``, ``plan``, ``compaction`` or ``backup``.
        body: runs in the child, with the arguments given at the start; a function importable by name. Returns plain data.
        enter: runs in the service; given the journal entry's id and the result, it stores both in one transaction.
        time_limit_s: real seconds after which the child is killed.
        memory_limit_mb: resident memory at which the child is killed, looked at every `_LOOK_S`.
    """

    name: str
    body: Callable[..., Mapping[str, Any]]
    enter: Callable[[int, Mapping[str, Any]], None]
    time_limit_s: float
    memory_limit_mb: float = math.inf


@dataclass(frozen=True)
class Seen:
    """What the service saw of a child: most resident memory, the last lines it wrote."""

    peak_mb: float
    tail: str


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
            words, mouth = _SPAWN.Pipe(duplex=False)
            child = (sender, mouth, self.kinds[kind].body, arguments)
            process = _SPAWN.Process(target=_child, args=child, name=f"setwise-{kind}")
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
            mouth.close()
        watched = (self.kinds[kind], running, receiver, words)
        threading.Thread(target=self._watch, args=watched, name=f"watch-{kind}", daemon=True).start()
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

    def _watch(self, kind: Kind, running: Running, receiver: Connection, words: Connection) -> None:
        (outcome, text, result), seen = _await_result(running.process, receiver, words, kind)
        if self._is_stopping and outcome != "done":
            outcome, text = "interrupted", "the service was stopped while the job ran."
        try:
            # Apart from the result, and first: what was seen of a child must not depend on what it sent.
            with contextlib.suppress(StoreError):
                self._store.note_job(running.job, seen.peak_mb, seen.tail)
            if result is not None and outcome == "done":
                try:
                    kind.enter(running.job, result)
                    return
                except Exception as e:  # a result that cannot be stored is a failed job, and the journal must say so
                    outcome, text = "failed", f"the result could not be stored: {e}"
            self._end(running.job, outcome, text)
        finally:
            with self._lock:
                self._running.pop(kind.name, None)
            running.done.set()

    def _end(self, job: int, outcome: Outcome, text: str) -> None:
        """Close the journal entry; while the store refuses (disk full), try on: an open entry would bar this kind of job."""
        wait_s = 0.5
        while True:
            try:
                self._store.end_job(job, outcome, self._clock.now(), text)
                return
            except StoreError as e:
                if self._is_stopping:
                    return  # the next start marks it interrupted
                log.error("%s The end of job %d waits to be written.", e, job)
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, 30.0)


def _await_result(process: Any, receiver: Connection, words: Connection, kind: Kind) -> tuple[Message, Seen]:
    """Return outcome, what to write in the journal and the result; and what was seen of the child meanwhile."""
    deadline_s = time.monotonic() + kind.time_limit_s
    tail, peak_mb, message, killed = b"", 0.0, None, ""
    listening: list[Any] = [receiver, words, process.sentinel]
    while message is None and not killed:
        ready = wait(listening, timeout=max(0.0, min(_LOOK_S, deadline_s - time.monotonic())))
        peak_mb = max(peak_mb, resident_mb(process.pid))
        if words in ready:
            said = _read(words)
            tail = (tail + said)[-_TAIL_BYTES:]
            if not said:
                listening.remove(words)
        if receiver in ready:
            try:
                message = receiver.recv()
            except (EOFError, OSError):
                break
        elif process.sentinel in ready:
            break
        elif peak_mb > kind.memory_limit_mb:
            killed = f"killed at {peak_mb:.0f} MB of memory, its limit is {kind.memory_limit_mb:g} MB."
        elif time.monotonic() >= deadline_s:
            killed = f"killed after its time limit of {kind.time_limit_s:g} s."
    if not killed:
        process.join(5.0)  # its end is known a moment before the system lets it be reaped: it is not hanging
    if process.is_alive():
        process.kill()
        process.join(5.0)
    while words in listening and words.poll(0) and (said := _read(words)):
        tail = (tail + said)[-_TAIL_BYTES:]
    receiver.close()
    words.close()
    seen = Seen(round(peak_mb, 1), tail.decode(errors="replace").strip())
    if message is not None:
        return message, seen
    if killed:
        return ("timed_out" if "time limit" in killed else "failed", killed, None), seen
    return ("failed", f"the child process ended with exit code {process.exitcode} and without a result.", None), seen


def _read(words: Connection) -> bytes:
    try:
        return os.read(words.fileno(), 65536)
    except OSError:
        return b""


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process [MB]; 0 once it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0


def _child(sender: Connection, mouth: Connection, body: Callable[..., Mapping[str, Any]], arguments: tuple[Any, ...]) -> None:
    """Run `body` and send what came of it. All it writes goes to the journal, the stack of a crash too."""
    for descriptor in (1, 2):
        os.dup2(mouth.fileno(), descriptor)
    faulthandler.enable()
    leave_out_needless()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    end_with_parent()
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


def leave_out_needless() -> None:
    """Let this child import neither `_NEEDLESS`: cma and pymoo do without. Call it before they are imported."""
    for name in _NEEDLESS:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    warnings.filterwarnings("ignore", "(?i)could not import matplotlib")


def end_with_parent() -> None:
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
