"""The service of one building: the only place where real things meet.

    link (MQTT) -> ingest -> store -> jobs (children) -> store -> guard -> publisher -> link (MQTT)
                               |                           |
                               +------- API and page ------+

One loop (`Service.tick`) does all that time asks for: renew the setpoints at each step and when the plan changes, follow what was
published, start the jobs that are due, forget what is too old. Everything it needs is handed in, so tests turn the clock.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import uvicorn

from building.description import load_building
from building.errors import BadDescriptionError, JobOverlapError, SetwiseError, StoreError
from service import operations
from service.access import first_token
from service.api import Live, Sources, create_api
from service.clock import EPOCH, Clock, SystemClock, TurnedClock
from service.config import Config
from service.guard import Guarded
from service.ingest import Ingest
from service.jobs import Cadence, Jobs, Kind, Timetable
from service.mqtt import MqttLink
from service.operations import OpenPredictor, open_bundle
from service.points import load_points
from service.publish import Publisher
from service.store import SqlStore

log = logging.getLogger(__name__)

_DAY = pd.Timedelta(days=1)
_BEAT_S = 0.5
"""Real seconds between two looks at the clock; a turned clock wakes the loop at once."""


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
        self._cadences = {"calibration": Cadence.parse(config.jobs.calibration), "plan": Cadence.parse(config.jobs.plan)}
        self.store = SqlStore(config.store.url.get_secret_value())
        self._open_predictor = open_predictor
        self.jobs = Jobs(
            [
                Kind("calibration", operations.calibration_job, self._enter_calibration, config.jobs.calibration_limit_s),
                Kind("plan", operations.planning_job, self._enter_plan, config.jobs.plan_limit_s),
            ],
            self.store,
            self.clock,
        )
        self.link = MqttLink(config.mqtt, self.building.name, self.points.subscriptions + self._clock_topics(), self._heard)
        self.publisher = Publisher(self.points, self.store, self.link, self.clock, config.publish)
        self.ingest = Ingest(
            self.points,
            self.store,
            self.clock,
            config.ingest,
            self.link.acknowledge,
            self.publisher.heard,
            ignored={self.link.status_topic},
            clock_topic=next(iter(self._clock_topics()), None),
        )
        self.link.on_sent, self.link.on_connected = self.publisher.sent, self.publisher.reconnected
        self._timetable: Timetable | None = None
        self._published: pd.Timestamp | None = None
        self._forgotten: pd.Timestamp | None = None
        self._is_plan_new = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)
        self._problem = ""

    def start(self) -> None:
        """Mark jobs that a former process left half-done, then listen, connect and tick; returns at once, broker or not."""
        for job in self.store.interrupt_jobs(self.clock.now()):
            log.warning("job %d (%s) was interrupted by the end of the former process", job.id, job.kind)
        self.ingest.start()
        self.link.start()
        self._thread.start()

    def stop(self) -> None:
        """End in order: no more jobs and setpoints, then the line, then what was heard is committed, then the store."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self.jobs.stop()
        self.link.stop()
        self.ingest.stop()
        self.store.close()

    def sources(self) -> Sources:
        """Return what the API reads."""
        return Sources(self.config, self.building, self.points, self.store, self.clock, self.decide, self.ask, self.live)

    def decide(self) -> Guarded:
        """Return the settings that may leave now, after the guard."""
        return operations.decide(self.store, self.building, self.config, self.clock.now())

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
        }
        problems = [p for p in (heard.failure, self._problem) if p]
        return Live(self.link.is_connected, f"{mqtt.host}:{mqtt.port}", counters, tuple(problems))

    def tick(self) -> None:
        """Do what is due at this instant."""
        now = self.clock.now()
        if now == EPOCH:
            return  # the clock topic has not spoken yet: nobody knows what time it is
        if self._timetable is None:
            self._timetable = Timetable(self._cadences, self.building.site.time_zone, now)
        step = now.floor(f"{self.config.publish.step_min}min")
        is_plan_new = self._is_plan_new.is_set()
        if step != self._published or is_plan_new:
            self._is_plan_new.clear()
            self._publish(now)
            self._published = step
        self.publisher.tick()
        for kind in self._timetable.take_due(now):
            self._start_quietly(kind)
        self._forget(now)

    # -- the loop

    def _run(self) -> None:
        seen = EPOCH
        while not self._stopping.is_set():
            try:
                self.tick()
                self._problem = ""
            except SetwiseError as e:
                self._report(str(e))
            except Exception as e:  # the loop carries the setpoints: it outlives everything
                self._report(f"{type(e).__name__}: {e}")
                log.debug("in the loop", exc_info=True)
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
        if self.config.publish.mode == "advise":
            return
        guarded = operations.decide(self.store, self.building, self.config, now)
        until = operations.valid_until(now, self.config.publish)
        self.publisher.set(guarded.settings, until, guarded.plan_id, guarded.reasons())

    def _heard(self, message: Any) -> None:
        self.ingest.take(message)

    def _clock_topics(self) -> tuple[str, ...]:
        if self.config.clock.source != "topic":
            return ()
        return (f"{self.config.mqtt.root}/{self.building.name}/clock",)

    # -- jobs

    def _forget(self, now: pd.Timestamp) -> None:
        """Forget what is too old, once a day, after a day of steady time: a clock that jumped ahead must delete nothing."""
        age = None if self._forgotten is None else now - self._forgotten
        if age is not None and _DAY <= age < 2 * _DAY:
            self.store.forget(now - pd.Timedelta(days=self.config.store.keep_days))
        if age is None or not pd.Timedelta(0) <= age < _DAY:
            self._forgotten = now

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
        announce(f"Access token, shown once: {token}")
    settings = uvicorn.Config(create_api(service.sources()), log_config=None, access_log=False, timeout_graceful_shutdown=5)
    service.start()
    announce(f"Page and API: http://{api.host}:{listening.getsockname()[1]}/")
    uvicorn.Server(settings).run(sockets=[listening])


def _listen(config: Config) -> socket.socket:
    try:
        return socket.create_server((config.api.host, config.api.port))
    except OSError as e:
        place = f"{config.api.host}:{config.api.port}"
        raise BadDescriptionError(file="[api]", reason=f"cannot listen on {place}: {e.strerror}. Choose another port.") from e
