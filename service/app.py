"""The service of one building: the only place where real things meet.

    link (MQTT) -> ingest -> store -> jobs (children) -> store -> guard -> publisher -> link (MQTT)
                               |                           |
                               +------- API and page ------+

One loop (`Service.tick`) does all that time asks for: renew the setpoints at each step and when the plan changes, follow what was
published, start the jobs that are due, forget what is too old. Everything it needs is handed in, so tests turn the clock.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import uvicorn

from building.description import load_building
from building.errors import BadDescriptionError, JobOverlapError, SetwiseError, StoreError
from service import operations, retention, savings, weather
from service.access import first_token, write_private
from service.announce import Announcer
from service.api import Live, Sources, create_api
from service.audit import AuditLog, note_beside
from service.clock import EPOCH, Clock, SystemClock, TurnedClock
from service.config import Config
from service.guard import Guarded, disagreement
from service.health import Part, Watch, examine
from service.ingest import Ingest
from service.jobs import Cadence, Jobs, Kind, Timetable
from service.mqtt import MqttLink
from service.operations import OpenPredictor, open_bundle
from service.orders import read_told
from service.points import load_points
from service.publish import Publisher
from service.store import RegimeRecord, SqlStore
from service.store.acts import Acts
from service.web import Hasty
from service.what_if import Answering

log = logging.getLogger(__name__)

_BEAT_S = 0.5
"""Real seconds between two looks at the clock; a turned clock wakes the loop at once."""
_LOOK_S = 10.0
"""Real seconds between two looks at every part."""
_COUNTED_S = 5.0
"""Real seconds, at least, between two counts of rows."""


class Service:
    """Everything of one building, wired. `start` begins, `stop` ends; the API is `create_api(service.sources())`.

    Args:
        config: what it is told.
        clock: the time; from the configuration when None.
        open_predictor: makes the predictor inside a job's child; importable by name.

    Raises:
        BadDescriptionError: building, points or a cadence that cannot be read. StoreError: a store that cannot be opened.
    """

    def __init__(self, config: Config, clock: Clock | None = None, open_predictor: OpenPredictor = open_bundle) -> None:
        self.config = config
        self.building = load_building(config.building.name)
        self.points = load_points(self.building, config.building.points)
        self.clock = clock or (TurnedClock() if config.clock.source == "topic" else SystemClock())
        told = config.jobs
        kinds = ("calibration", "plan", "weather", "compaction", "backup", "savings")
        cadences = {kind: getattr(told, kind) for kind in kinds}
        if not config.weather.url.get_secret_value():
            cadences["weather"] = "never"
        self._cadences = {kind: Cadence.parse(text) for kind, text in cadences.items()}
        self.store = SqlStore(config.store.url.get_secret_value(), is_only_writer=True)
        self._open_predictor = open_predictor
        self.jobs = Jobs(
            [
                Kind(
                    "calibration",
                    operations.calibration_job,
                    self._enter_calibration,
                    told.calibration_limit_s,
                    told.memory_limit_mb,
                ),
                Kind("plan", operations.planning_job, self._enter_plan, told.plan_limit_s, told.memory_limit_mb),
                Kind("weather", weather.weather_job, self._enter_weather, told.upkeep_limit_s, told.memory_limit_mb),
                Kind("compaction", retention.compaction_job, self._enter_said, told.upkeep_limit_s, told.memory_limit_mb),
                Kind("savings", savings.savings_job, self._enter_savings, told.upkeep_limit_s, told.memory_limit_mb),
                Kind("backup", retention.backup_job, self._enter_said, told.upkeep_limit_s, told.memory_limit_mb),
            ],
            self.store,
            self.clock,
        )
        self.answering = Answering(config, open_predictor)
        subscriptions = self.points.subscriptions + self._clock_topics()
        self.link = MqttLink(config.mqtt, self.building.name, subscriptions, self._heard, self.points.low_qos)
        heartbeat = f"{config.mqtt.root}/{self.building.name}/heartbeat"
        self.publisher = Publisher(self.points, self.store, self.link, self.clock, config.publish, heartbeat)
        self.announcer = Announcer(
            config, self.building, lambda topic, text: self.link.publish(topic, text, is_retained=True) is not None
        )
        self.audit = AuditLog(Acts(self.store), note_beside(config.api.token_file))
        self._told = read_told(self.store, config, self.clock.now())
        self.ingest = Ingest(
            self.points,
            self.store,
            self.clock,
            config.ingest,
            self.link.acknowledge,
            self.publisher.heard,
            ignored={self.link.status_topic, heartbeat, *self.announcer.topics},
            clock_topic=next(iter(self._clock_topics()), None),
            tell=lambda topic, payload: self.link.publish(topic, payload, qos=0),
        )
        self.link.on_sent, self.link.on_connected = self.publisher.sent, self._reconnected
        self._timetable: Timetable | None = None
        self._published: pd.Timestamp | None = None
        self._compared: pd.Timestamp | None = None  # the hour for which `_apart_k` was looked at
        self._apart_k: float | None = None
        self._steadiness = retention.Steadiness(self.store)
        self._watch = Watch()
        self._looked_s = 0.0
        self._rows: dict[str, int] = {}
        self._counted_until_s = 0.0
        self._beat_s: float | None = None  # when the loop last came round (steady clock)
        self._is_plan_new = threading.Event()
        self._is_upholding = False
        self._is_told_stale = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._problem = ""

    def start(self) -> None:
        """Mark jobs that a former process left half-done, then listen, connect and tick; returns at once, broker or not."""
        for job in self.store.interrupt_jobs(self.clock.now()):
            log.warning("job %d (%s) was interrupted by the end of the former process", job.id, job.kind)
        self.store.put("resampling", self.points.rules)  # API, jobs and compaction make hours by the same rules
        self.publisher.resume()
        self.ingest.start()
        self.link.start()
        self._thread.start()

    def stop(self) -> None:
        """End in order: no more jobs and setpoints, then the line, then what was heard is committed, then the store.

        Retained setpoints are cleared: a broker must not go on telling what nobody stands behind.
        """
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self.publisher.release(is_only_retained=True)
        self.announcer.clear()
        self.jobs.stop()
        self.answering.stop()
        self.link.stop()
        self.publisher.current()  # takes what the broker confirmed last
        self.ingest.stop()
        self.store.close()

    def sources(self) -> Sources:
        """Return what the API reads."""
        return Sources(
            config=self.config,
            building=self.building,
            points=self.points,
            store=self.store,
            clock=self.clock,
            decide=self.decide,
            ask=self.ask,
            live=self.live,
            told=lambda: self._told,
            changed=self.hear_people,
            audit=self.audit,
            parts=self.parts,
            rows=self.rows,
            beat_age_s=lambda: None if self._beat_s is None else time.monotonic() - self._beat_s,
            what_if=lambda question: self.answering.ask(self.clock.now(), question),
        )

    def parts(self, decided: Guarded | None = None) -> list[Part]:
        """Look at every part: whether it is right, since when, and what comes next. `decided`: what `decide` just answered."""
        now, mqtt = self.clock.now(), self.config.mqtt
        if now == EPOCH:
            return [Part("clock", "waiting", "the clock topic has not spoken yet.", "Nothing is published before it does.")]
        due = self._timetable.due if self._timetable is not None else dict.fromkeys(self._cadences)
        broker = (self.link.is_connected, f"{mqtt.host}:{mqtt.port}")
        found = examine(self.config, self.points, self.store, now, broker, (decided or self.decide()).origin, due)
        return self._watch.look(found, now)

    def rows(self) -> dict[str, int]:
        """Return how many rows each table had a while ago: millions take seconds to count, so a thread of its own does it."""
        if not self._rows:
            self._count()
        elif time.monotonic() > self._counted_until_s:
            self._counted_until_s = math.inf
            threading.Thread(target=self._count, name="count", daemon=True).start()
        return dict(self._rows)

    def _count(self) -> None:
        began_s = time.monotonic()
        try:
            self._rows = self.store.counts()
        except StoreError:
            log.debug("rows were not counted", exc_info=True)
        now_s = time.monotonic()
        self._counted_until_s = now_s + max(_COUNTED_S, 200 * (now_s - began_s))

    def decide(self) -> Guarded:
        """Return the settings that may leave now, after the guard."""
        return operations.decide(self.store, self.building, self.config, self.clock.now(), self._told, self._apart_k)

    def hear_people(self) -> None:
        """Take what people told the service since (mode, confirmation, overrides) and act on it within the next tick."""
        try:
            self._told = read_told(self.store, self.config, self.clock.now())
            self._is_told_stale = False
        except StoreError:
            self._is_told_stale = True  # the next tick asks again
        self._is_plan_new.set()

    def ask(self, kind: str) -> int:
        """Start a job now and return its place in the journal. Raises JobOverlapError while one of its kind runs."""
        return self.jobs.start(kind, self.config, self.clock.now(), self._open_predictor)

    def live(self) -> Live:
        """Return what only this process knows."""
        heard, mqtt = self.ingest.status(), self.config.mqtt
        counters = {
            "mqtt_messages_total": float(heard.n_messages),
            "mqtt_connections_total": float(self.link.n_connections),
            "mqtt_connection_failures_total": float(self.link.n_failures),
            "mqtt_published_total": float(self.link.n_published),
            "readings_accepted_total": float(heard.n_accepted),
            "store_commits_total": float(heard.n_commits),
            "messages_waiting": float(heard.n_waiting),
            "setpoints_sent_total": float(self.publisher.n_sent),
            "setpoints_expired_total": float(self.publisher.n_expired),
            "outgoing_waiting": float(len(self.publisher.outbox)),
            "outgoing_dropped_total": float(self.publisher.outbox.n_dropped),
        }
        problems = [p for p in (heard.failure, self._problem) if p]
        return Live(self.link.is_connected, f"{mqtt.host}:{mqtt.port}", counters, tuple(problems), dict(self.publisher.echoed()))

    def tick(self) -> None:
        """Do what is due at this instant."""
        now = self.clock.now()
        if now == EPOCH:
            return  # the clock topic has not spoken yet: nobody knows what time it is
        if self._timetable is None:
            self._timetable = Timetable(self._cadences, self.building.site.time_zone, now)
        if self._is_told_stale:
            self.hear_people()
        if now.floor("h") != self._compared:
            self._compared = now.floor("h")
            with contextlib.suppress(StoreError):  # what was found last stands
                self._apart_k = disagreement(self.store, self.building, now)
        step = now.floor(f"{self.config.publish.step_min}min")
        is_plan_new = self._is_plan_new.is_set()
        if step != self._published or is_plan_new:
            self._is_plan_new.clear()
            self._publish(now)
            self._published = step
        elif self.announcer.is_stale and self.link.is_connected:
            decided = self.decide()
            self._announce(decided, operations.leaving(decided, self._told, now), now)
        for late in self.publisher.tick():
            log.warning("%s = %g was not confirmed by the BMS within its time", late.setting, late.value)
        if self._is_upholding:
            self.publisher.beat(self._told.mode)
        is_steady = self._steadiness.look(now)
        for kind in self._timetable.take_due(now):
            if kind == "compaction" and not is_steady:
                log.info("compaction waits: the clock has not gone on without a jump for a day")
                continue
            self._start_quietly(kind)

    # -- the loop

    def _run(self) -> None:
        seen = EPOCH
        while not self._stopping.is_set():
            try:
                self.tick()
                self._problem = ""
                if time.monotonic() - self._looked_s > _LOOK_S:
                    self._looked_s = time.monotonic()
                    self.parts()  # says in the log what changed
            except SetwiseError as e:
                self._report(str(e))
            except Exception as e:  # the loop carries the setpoints: it outlives everything
                self._report(f"{type(e).__name__}: {e}")
                log.debug("in the loop", exc_info=True)
            self._beat_s = time.monotonic()
            if isinstance(self.clock, TurnedClock):
                self.clock.wait(seen, _BEAT_S)
                seen = self.clock.now()
            else:
                self._stopping.wait(_BEAT_S)

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            log.error("%s", problem)
        self._problem = problem

    def _publish(self, now: pd.Timestamp) -> None:
        guarded = self.decide()
        leaving = operations.leaving(guarded, self._told, now)
        regime = self._regime(guarded, leaving, now)
        self._is_upholding = bool(leaving)
        until = operations.valid_until(now, self.config.publish)
        self.publisher.set(leaving, until, guarded.plan_id, guarded.reasons())
        self.publisher.release([name for name in self.building.settings.names if name not in leaving])
        with contextlib.suppress(StoreError):  # a gap, and the report on savings says so
            self.store.note_regime(regime)
        self._announce(guarded, leaving, now)

    def _announce(self, guarded: Guarded, leaving: Mapping[str, float], now: pd.Timestamp) -> None:
        """Tell people what is in force; whatever fails here stops no setpoint."""
        try:
            followed = None if guarded.plan_id is None else self.store.plan(guarded.plan_id)
            plan, parts = followed or self.store.plan_in_force(now), self.parts(guarded)
        except StoreError as e:
            log.debug("nothing is announced: %s", e)
            return
        until = operations.valid_until(now, self.config.publish)
        self.announcer.tell(guarded, leaving, self._told.mode, until, plan, parts)

    def _reconnected(self, first: int) -> None:
        self.publisher.reconnected(first)
        self.announcer.reconnected()

    def _regime(self, guarded: Guarded, leaving: Mapping[str, float], now: pd.Timestamp) -> RegimeRecord:
        """Return how the building is run from now on: what a saving is proven with."""
        unconfirmed = [name for name, p in self.publisher.current().items() if p.state == "unconfirmed" and name in leaving]
        hindrance = "" if self.link.is_connected else "the broker was away"
        if unconfirmed:
            hindrance = f"the BMS did not confirm {', '.join(unconfirmed)}"
        reaching = {name: value for name, value in leaving.items() if name in self.points.commands}
        return savings.regime_now(self.config, self.building, guarded, self._told, reaching, hindrance, now)

    def _heard(self, message: Any) -> None:
        self.ingest.take(message)

    def _clock_topics(self) -> tuple[str, ...]:
        if self.config.clock.source != "topic":
            return ()
        return (f"{self.config.mqtt.root}/{self.building.name}/clock",)

    # -- jobs

    def _start_quietly(self, kind: str) -> None:
        try:
            self.ask(kind)
        except JobOverlapError as e:
            log.info("%s", e)
        except StoreError as e:
            log.error("%s The %s job waits for its next turn.", e, kind)

    def _enter_calibration(self, job: int, result: Mapping[str, Any]) -> None:
        if operations.enter_calibration(self.store, job, result, self.clock.now()):
            self._start_quietly("plan")

    def _enter_said(self, job: int, result: Mapping[str, Any]) -> None:
        self.store.end_job(job, "done", self.clock.now(), result["said"])

    def _enter_weather(self, job: int, result: Mapping[str, Any]) -> None:
        with self.store.transaction():
            self.store.add_forecast(result["frame"], result["made"])
            self.store.end_job(job, "done", self.clock.now(), result["said"])

    def _enter_savings(self, job: int, result: Mapping[str, Any]) -> None:
        with self.store.transaction():
            self.store.put(savings.KEY, {"made": result["made"].isoformat(), **result["report"]})
            self.store.end_job(job, "done", self.clock.now(), result["report"]["said"])

    def _enter_plan(self, job: int, result: Mapping[str, Any]) -> None:
        operations.enter_plan(self.store, job, result, self.clock.now())
        self._is_plan_new.set()


class _ToldToEnd(BaseException):
    """SIGTERM, as an exception: whatever runs is unwound in order."""


def serve(config: Config, announce: Callable[[str], None], open_predictor: OpenPredictor = open_bundle) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    Args:
        config: what it is told.
        announce: shows the token of the first start and the address to a person.
        open_predictor: see `Service`.

    Raises:
        SetwiseError: see `Service`; also an address that cannot be listened on. An unreachable broker is not an error.
    """

    def end(_signal: int, _frame: object) -> None:
        raise _ToldToEnd

    # Readings keep two threads busy; with Python's 5 ms an API read would wait for its turn at every step it takes.
    sys.setswitchinterval(0.001)
    signal.signal(signal.SIGTERM, end)
    try:
        with _listen(config) as listening:
            service = Service(config, open_predictor=open_predictor)
            try:
                _serve(service, listening, announce)
            finally:
                service.stop()
    except _ToldToEnd:
        log.info("told to end: done")


def _serve(service: Service, listening: socket.socket, announce: Callable[[str], None]) -> None:
    api = service.config.api
    token = None if api.is_open else first_token(api.token_file)
    if token is not None:
        _hand_over(token, api.token_file, announce)
    settings = uvicorn.Config(
        create_api(service.sources()),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        http=Hasty.within(api.request_limit_s),
        limit_concurrency=api.max_connections,
        server_header=False,
        proxy_headers=bool(api.trusted_proxies),
        forwarded_allow_ips=api.trusted_proxies or None,
        ssl_certfile=api.cert,
        ssl_keyfile=api.key,
    )
    try:
        settings.load()
    except (OSError, ValueError) as e:
        raise BadDescriptionError(file="[api] cert, key", reason=f"the certificate cannot be used: {e}") from e
    service.start()
    # What was imported stays. Without this a collection of garbage looks through all of it: 100 ms in which nothing else runs.
    gc.collect()
    gc.freeze()
    scheme = "http" if api.cert is None else "https"
    announce(f"Page and API: {scheme}://{api.host}:{listening.getsockname()[1]}/")
    uvicorn.Server(settings).run(sockets=[listening])


def _hand_over(token: str, file: Path, announce: Callable[[str], None]) -> None:
    """Show the first token to a person; where nobody looks on (a unit, a container) it goes to a file, not into a log."""
    if sys.stdout.isatty():
        announce(f"Access token of an admin, shown once: {token}")
        return
    place = file.with_name(f"{file.name}.first")
    write_private(place, token + "\n")
    announce(f"Access token of an admin: read it in {place}, then delete that file")


def _listen(config: Config) -> socket.socket:
    try:
        return socket.create_server((config.api.host, config.api.port))
    except OSError as e:
        place = f"{config.api.host}:{config.api.port}"
        raise BadDescriptionError(file="[api]", reason=f"cannot listen on {place}: {e.strerror}. Choose another port.") from e
