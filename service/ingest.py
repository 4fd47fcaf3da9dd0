"""From the MQTT thread to the store: nothing accepted is lost, every refusal is counted.

The link's thread only puts messages in a queue (`take`). A worker reads them as they come, commits what they say together with
the counts of what they do not, and only then acknowledges them to the broker: a message whose reading is not on disk is sent
again after a crash or an outage, and the store knows duplicates. A commit happens when `commit_readings` messages wait or the
oldest has waited `commit_s`; under load the batches grow by themselves. While the store refuses (disk full) messages wait in
memory, unacknowledged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import pandas as pd

from building.errors import BadReadingError, StoreError
from service import sparkplug
from service.clock import Clock, TurnedClock
from service.config import IngestSection
from service.mqtt import Message
from service.points import COUNTER, AgeLimits, Points, read_forecast
from service.quality import COUNTER_GAP_H, USABLE, Watch
from service.store import Store
from service.store.newest import Row
from service.weather import read_open_meteo

log = logging.getLogger(__name__)

_SLICE_S = 0.05
"""While a commit waits, what came is read in slices this long: the work is spread, and the API gets its turn."""
_MOST_AT_ONCE = 500
"""Messages read in one go, for the same reason."""
_LARGEST_BATCH = 5000
"""Readings in one commit, where `commit_readings` does not ask for more."""
_RETRY_S = (0.5, 30.0)


@dataclass
class _Batch:
    """What waits for one commit."""

    messages: list[Message] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    refused: list[BadReadingError] = field(default_factory=list)
    forecasts: list[tuple[pd.DataFrame, pd.Timestamp]] = field(default_factory=list)


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
        tell: sends a message at once or never; rebirth requests to Sparkplug edge nodes.
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
        tell: Callable[[str, bytes], object] = lambda topic, payload: None,
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
        self.tell = tell
        self._queue: deque[tuple[Message, int]] = deque()
        self._wake = threading.Event()
        self._watch = Watch({v.name: v for v in points.measured})
        self._host = sparkplug.Host(time.monotonic)
        self._newest: dict[str, tuple[int, float]] = {}  # what each sender said last, until it says that it knows no longer
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
        self._wake.set()
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
        n_waiting = len(self._queue)
        if n_waiting >= self.config.buffer_readings:
            self._n_overflow += 1
            return
        self._queue.append((message, self.clock.now_ms()))
        if n_waiting == 0 or n_waiting + 1 == self.config.commit_readings:
            self._wake.set()  # the first starts the commit's clock, the last ends its wait; between, the worker sleeps

    def status(self) -> IngestStatus:
        """Return counts since the start."""
        refused = dict(self._refused)
        if self._n_overflow:
            refused["overflow"] = self._n_overflow
        return IngestStatus(
            self._n_messages,
            self._n_accepted,
            refused,
            len(self._queue),
            self._n_commits,
            self._failing_since,
            self._failure,
        )

    # -- the worker

    def _run(self) -> None:
        self._remember()
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._collect()
                try:
                    self._commit(batch)
                except Exception:  # a fault of ours must not end the worker; the batch stays unacknowledged
                    log.exception("%d messages could not be ingested", len(batch.messages))
                    self._refused["internal"] += len(batch.messages)
            if self._stopping.is_set():
                return

    def _remember(self) -> None:
        """Learn what each sender said last, so that a death after a restart still ends it."""
        try:
            kept = self.store.last([n + COUNTER if p.is_counter else n for n, p in self.points.facts.points.items()])
        except StoreError:
            return  # the first commit will say what is wrong
        self._newest |= {n: (round(r.stamp.timestamp() * 1000), r.value) for n, r in kept.items()}

    def _collect(self) -> _Batch:
        """Read messages until `commit_readings` wait, or `commit_s` after the first."""
        batch = _Batch()
        deadline = time.monotonic() + self.config.commit_s
        while True:
            self._read_some(batch)
            wait_s = deadline - time.monotonic()
            is_ripe = len(batch.messages) >= self.config.commit_readings or wait_s <= 0 or self._stopping.is_set()
            if is_ripe and (not self._queue or len(batch.messages) >= max(_LARGEST_BATCH, self.config.commit_readings)):
                return batch
            if not self._queue and not is_ripe:
                self._wake.clear()
                if not self._queue:
                    self._wake.wait(min(wait_s, _SLICE_S))

    def _read_some(self, batch: _Batch) -> None:
        if not isinstance(self.clock, TurnedClock) and self._watch.tick(self.clock.now_ms() / 1000, time.monotonic()):
            log.warning("our clock jumped: what it stamps is kept but not used for ten minutes")
        for _ in range(min(len(self._queue), _MOST_AT_ONCE)):
            message, received_ms = self._queue.popleft()
            batch.messages.append(message)
            try:
                self._read(message, received_ms, batch)
            except BadReadingError as e:
                batch.refused.append(e)
            except Exception:  # a fault of ours; the message stays unacknowledged and comes again after the next start
                log.exception("a message on %s could not be read", message.topic)
                self._refused["internal"] += 1
                batch.messages.pop()

    def _read(self, message: Message, received_ms: int, batch: _Batch) -> None:
        topic = message.topic
        if topic in self.ignored:
            return
        if self.points.is_echo(topic):
            try:
                self.on_echo(topic, message.payload)
            except BadReadingError as unread:
                batch.refused.append(unread)
            if not self.points.is_measured(topic):  # a device may say what it took and what it measures in one message
                return
        if self.points.is_forecast(topic):
            latest = pd.Timestamp(received_ms + self.limits.future_ms, unit="ms", tz="UTC")
            if self.points.is_open_meteo:
                frame = read_open_meteo(topic, message.payload, self.points.forecastable)
                batch.forecasts.append((frame, pd.Timestamp(received_ms, unit="ms", tz="UTC")))
            else:
                batch.forecasts.append(read_forecast(topic, message.payload, self.points.forecastable, latest))
            return
        if topic.startswith(sparkplug.NAMESPACE + "/"):
            rows, refused = self._hear_node(topic, message.payload, received_ms, batch)
        else:
            rows, refused = self.points.read(topic, message.payload, received_ms, self.limits, message.is_retained)
        batch.refused += refused
        for row in rows:
            self._enter(row, batch)
        for e in refused:
            if e.reason == "unavailable":
                self._end(e.variable, received_ms, batch)

    def _hear_node(self, topic: str, payload: bytes, received_ms: int, batch: _Batch) -> tuple[list[Row], list[BadReadingError]]:
        """Hear one Sparkplug message: deaths end what their source said, gaps ask for a rebirth."""
        heard = self._host.hear(topic, payload, received_ms)
        if heard.ask is not None:
            self.tell(*heard.ask)
        rows, refused = self.points.read_metrics(heard.metrics, received_ms, self.limits)
        if heard.problem:
            refused.append(BadReadingError(reason="not_born", topic=topic, detail=f"{heard.problem}; a rebirth is asked for"))
        for source in heard.dead:
            for name in self.points.names_of(source):
                self._end(name, received_ms, batch)
        return rows, refused

    def _enter(self, row: Row, batch: _Batch) -> None:
        """Put a row in the batch with the flag that only the run of readings shows."""
        name, stamp_ms, value, flag, received_ms = row
        flag = self._watch.flag(name, stamp_ms, value, received_ms, flag, self.points.is_stamped_by_us(name))
        batch.rows.append((name, stamp_ms, value, flag, received_ms))
        if flag not in USABLE:
            return
        before = self._newest.get(name)
        if before is None or stamp_ms >= before[0]:
            self._newest[name] = (stamp_ms, value)
            if before is not None and name.endswith(COUNTER):
                self._show_power(name.removesuffix(COUNTER), before, (stamp_ms, value), received_ms, batch)

    def _show_power(self, name: str, before: tuple[int, float], now: tuple[int, float], received_ms: int, batch: _Batch) -> None:
        """Keep the mean power between two readings of a counter, for people; hours are made of the counter itself."""
        gap_h = (now[0] - before[0]) / 3_600_000
        rise_kwh = now[1] - before[1]
        variable = self.points.measured[name]
        if 0 < gap_h <= COUNTER_GAP_H and variable.low <= 1e3 * rise_kwh / gap_h <= variable.high:
            batch.rows.append((name, before[0], 1e3 * rise_kwh / gap_h, "good", received_ms))

    def _end(self, name: str, at_ms: int, batch: _Batch) -> None:
        """Say that what `name` said last holds no longer."""
        last = self._newest.pop(name, None)
        if last is not None:
            batch.rows.append((name, max(at_ms, last[0] + 1), last[1], "stale", at_ms))

    def _commit(self, batch: _Batch) -> None:
        if not batch.rows and not batch.refused and not batch.forecasts:
            self.acknowledge(batch.messages)
            return
        wait_s = _RETRY_S[0]
        while True:
            try:
                with self.store.transaction():
                    n_new = self.store.add_rows(batch.rows, batch.refused, at=self.clock.now())
                    for frame, issued in batch.forecasts:
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
        n_unusable = sum(row[3] not in USABLE for row in batch.rows)
        self._n_accepted += max(0, n_new - n_unusable)
        self._n_commits += 1
        self._refused.update(e.reason for e in batch.refused)
        if n_new < len(batch.rows):
            self._refused["duplicate"] += len(batch.rows) - n_new
        self.acknowledge(batch.messages)
