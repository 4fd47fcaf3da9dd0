"""From the MQTT thread to the store: nothing accepted is lost, every refusal is counted.

The link's thread only puts messages in a queue (`take`). A worker reads them, commits what is good together with the counts of
what is not, and only then acknowledges them to the broker: a message whose reading is not on disk is sent again after a crash or
an outage, and the store knows duplicates. A commit happens when `commit_readings` messages wait or the oldest has waited
`commit_s`; under load the batches grow by themselves. While the store refuses (disk full) messages wait in memory,
unacknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from building.errors import BadReadingError, StoreError
from service.clock import Clock, TurnedClock
from service.config import IngestSection
from service.mqtt import Message
from service.points import AgeLimits, Points, read_forecast
from service.store import Reading, Store

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 5000
_RETRY_S = (0.5, 30.0)


@dataclass(frozen=True)
class IngestStatus:
    """Counts since the start, for /v1/status and /metrics."""

    n_messages: int
    n_accepted: int
    refused: dict[str, int]
    n_waiting: int
    n_commits: int
    failing_since: pd.Timestamp | None
    failure: str


class Ingest:
    """Reads, commits and acknowledges messages in a thread of its own.

    Args:
        points: what topics mean.
        store: where readings go.
        clock: stamps messages on arrival.
        config: cadence and limits.
        acknowledge: tells the broker that messages are safe (`MqttLink.acknowledge`).
        on_echo: hears what the BMS says it took (`Publisher.heard`).
        ignored: topics of our own that come back through a wide filter.
        clock_topic: stamps there turn the clock, if it is one that can be turned.
    """

    def __init__(
        self,
        points: Points,
        store: Store,
        clock: Clock,
        config: IngestSection,
        acknowledge: Callable[[Sequence[Message]], None],
        on_echo: Callable[[str, bytes], None],
        ignored: Collection[str] = (),
        clock_topic: str | None = None,
    ) -> None:
        self.points = points
        self.store = store
        self.clock = clock
        self.config = config
        self.acknowledge = acknowledge
        self.on_echo = on_echo
        self.ignored = {*ignored, *(c.topic for c in points.commands.values())} | ({clock_topic} if clock_topic else set())
        self.clock_topic = clock_topic
        self.limits = AgeLimits(pd.Timedelta(seconds=config.max_future_s), pd.Timedelta(hours=config.max_age_h))
        self._queue: queue.Queue[tuple[Message, pd.Timestamp] | None] = queue.Queue(config.buffer_readings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._n_messages = self._n_accepted = self._n_commits = self._n_overflow = 0
        self._refused: Counter[str] = Counter()
        self._failing_since: pd.Timestamp | None = None
        self._failure = ""

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Commit what waits, then end the worker."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)  # wakes the worker
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def take(self, message: Message) -> None:
        """Take one message; returns at once. When the memory is full it is counted and left unacknowledged at the broker."""
        self._n_messages += 1
        if message.topic == self.clock_topic and isinstance(self.clock, TurnedClock):
            # At once, not in the worker: messages behind this one are stamped with the new time.
            try:
                self.clock.turn(pd.Timestamp(message.payload.decode()).tz_convert("UTC"))
            except (ValueError, TypeError):
                log.warning("the clock topic says %r, which is no UTC stamp", message.payload[:40])
        try:
            self._queue.put_nowait((message, self.clock.now()))
        except queue.Full:
            self._n_overflow += 1

    def status(self) -> IngestStatus:
        """Return counts since the start."""
        refused = dict(self._refused)
        if self._n_overflow:
            refused["overflow"] = self._n_overflow
        return IngestStatus(
            self._n_messages,
            self._n_accepted,
            refused,
            self._queue.qsize(),
            self._n_commits,
            self._failing_since,
            self._failure,
        )

    # -- the worker

    def _run(self) -> None:
        while True:
            batch = self._collect()
            if batch:
                try:
                    self._commit(batch)
                except Exception:  # a fault of ours must not end the worker; the batch stays unacknowledged
                    log.exception("%d messages could not be ingested", len(batch))
                    self._refused["internal"] += len(batch)
            elif self._stopping.is_set():
                return

    def _collect(self) -> list[tuple[Message, pd.Timestamp]]:
        """Wait for a batch: until `commit_readings` wait, or `commit_s` after the first."""
        batch: list[tuple[Message, pd.Timestamp]] = []
        first = self._queue.get() if not self._stopping.is_set() else None
        deadline = time.monotonic() + self.config.commit_s
        if first is not None:
            batch.append(first)
        while len(batch) < _MOST_AT_ONCE:
            wait_s = deadline - time.monotonic()
            is_ripe = len(batch) >= self.config.commit_readings or wait_s <= 0 or self._stopping.is_set()
            try:
                one = self._queue.get_nowait() if is_ripe else self._queue.get(timeout=wait_s)
            except queue.Empty:
                if is_ripe:
                    break
                continue
            if one is not None:
                batch.append(one)
        return batch

    def _commit(self, batch: list[tuple[Message, pd.Timestamp]]) -> None:
        readings: list[Reading] = []
        refused: list[BadReadingError] = []
        forecasts: list[tuple[pd.DataFrame, pd.Timestamp]] = []
        for message, received in batch:
            if message.topic in self.ignored:
                continue
            try:
                if self.points.is_echo(message.topic):
                    self.on_echo(message.topic, message.payload)
                    continue
                if self.points.is_forecast(message.topic):
                    latest = received + self.limits.max_future
                    forecasts.append(read_forecast(message.topic, message.payload, self.points.forecastable, latest))
                    continue
                good, bad = self.points.read_message(message.topic, message.payload, received, self.limits, message.is_retained)
            except BadReadingError as e:
                good, bad = [], [e]
            readings += good
            refused += bad
        if not readings and not refused and not forecasts:
            self.acknowledge([message for message, _ in batch])
            return
        wait_s = _RETRY_S[0]
        while True:
            try:
                with self.store.transaction():
                    n_new = self.store.add_readings(readings, refused, at=batch[-1][1])
                    for frame, issued in forecasts:
                        self.store.add_forecast(frame, issued)
                break
            except StoreError as e:
                if self._failing_since is None:
                    self._failing_since = self.clock.now()
                    log.error("%s Readings wait in memory, unacknowledged.", e)
                self._failure = str(e)
                if self._stopping.is_set():
                    return  # unacknowledged: the broker sends them again to the next service
                self._stopping.wait(wait_s)
                wait_s = min(2 * wait_s, _RETRY_S[1])
        if self._failing_since is not None:
            log.info("the store takes readings again")
            self._failing_since, self._failure = None, ""
        self._n_accepted += n_new
        self._n_commits += 1
        self._refused.update(e.reason for e in refused)
        if n_new < len(readings):
            self._refused["duplicate"] += len(readings) - n_new
        self.acknowledge([message for message, _ in batch])
