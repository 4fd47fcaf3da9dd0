"""What if the settings of the coming week were others? Answered by the metamodel, in a warm child process.

`answer` is the question itself, a plain function. `Answering` keeps a child in which the bundle is open and the past is already
given, so that an answer takes a fraction of a second; it ends by itself when nobody asks for a while. Whatever breaks in it (a
crash, too much memory, a question that takes too long) ends the child and never the service. Nothing here changes anything: what
is asked is not published, kept or planned.

A question passes the guard on its way: what comes back is the week that would really leave, with a note for every rule that
changed it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Building, load_building
from building.errors import NoAnswerError, OutsideBoundsError, SetwiseError, ShapeError, UnknownNameError, did_you_mean
from building.predictor import Predictor
from building.units import CO2, TEMPERATURE
from service.config import Config
from service.guard import Moment, guard, is_cooling_season
from service.jobs import end_with_parent, leave_out_needless, resident_mb
from service.operations import FRONT_PLANS, OpenPredictor, Situation, situation
from service.store import SqlStore, Store

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Base = Literal["own", "plan", "front"]

IDLE_S = 300.0
"""Real seconds without a question after which the child is ended."""
FIRST_LIMIT_S, LIMIT_S = 60.0, 15.0
"""Real seconds a child may take to come up, and a question may take then."""
PATIENCE_S = 5.0
"""Real seconds a question waits for those before it."""
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Change:
    """A setting over some hours: at a value, or by so much above (below) what it would be there.

    Attributes:
        setting: its name.
        start, end: UTC; hours that begin in between are changed. None: the first hour, the end of the week.
        value: inside unit. by: inside unit. One of the two.
    """

    setting: str
    start: pd.Timestamp | None = None
    end: pd.Timestamp | None = None
    value: float | None = None
    by: float | None = None


@dataclass(frozen=True)
class Question:
    """Changes to a week: the building's own schedule, the plan in force, or a point of the newest front."""

    base: Base
    changes: tuple[Change, ...] = ()
    point: int | None = None


@dataclass(frozen=True)
class Ready:
    """The coming week with its past given: what questions of one hour share.

    Attributes:
        key: what it was made for.
        situation: what is known.
        outlook: the same as the objectives want it (`optim.outlook.Outlook`).
        predictor: with the past given.
        own_ts: the own schedule, shape (hours, settings), `outlook.settings` order.
    """

    key: tuple[object, ...]
    situation: Situation
    outlook: Any
    predictor: Predictor
    own_ts: Array


def prepare(store: Store, building: Building, predictor: Predictor, config: Config, now: pd.Timestamp) -> Ready:
    """Gather what questions of this hour share. Raises TooFewDataError: see `operations.situation`."""
    from optim.outlook import Outlook

    known = situation(store, building, predictor, config, now)
    outlook = Outlook.of(building, known.last, known.after, predictor.outputs)
    own_ts = known.after.values[:, known.after.inputs.positions(outlook.settings.names)]
    return Ready(key_of(store, now), known, outlook, predictor.given(known.last), own_ts)


def key_of(store: Store, now: pd.Timestamp) -> tuple[object, ...]:
    """Return what a `Ready` is good for: one hour and one calibration. Forecasts that come within the hour wait for the next."""
    calibration = store.last_calibration(is_accepted=True)
    return now.floor("h"), None if calibration is None else calibration.id


def answer(
    ready: Ready, store: Store, building: Building, config: Config, now: pd.Timestamp, question: Question
) -> dict[str, Any]:
    """Predict the week of a question beside the own schedule's and the plan's.

    Returns:
        ``stamps``; ``weeks``, by name (``own``, ``plan`` where one is in force, ``asked``) a week: ``settings`` and ``hourly``
        (lists by name), ``figures`` (objectives by name); ``low``, ``high``, ``is_occupied``: comfort band and presence;
        ``notes``: what the guard changed, and where a base ends early; ``calibrated`` and ``forecast``: what all of it stands on.

    Raises:
        UnknownNameError: a setting, or a base that there is not.
        OutsideBoundsError: a value that the guard would never let out.
        OutsideTrainingBoundsError: see `Predictor.predict`.
        NoAnswerError: the predictor answered something that is not a number.
    """
    from optim.objectives import OBJECTIVES, UNITS

    outlook, index = ready.outlook, ready.outlook.future.index
    plan_ts, plan_note = _plan_in_force(ready, store, now)
    base_ts, base_note = _base(ready, store, question, plan_ts, plan_note)
    asked_ts, notes = _guarded(ready, _changed(base_ts, index, question.changes, building), building, config)
    named = {"own": ready.own_ts, **({} if plan_ts is None else {"plan": plan_ts}), "asked": asked_ts}
    y_nto = ready.predictor.predict(outlook.scenarios(np.stack(list(named.values()))))
    if ready.situation.correct is not None:
        y_nto = ready.situation.correct(y_nto)
    if not np.isfinite(y_nto).all():
        raise NoAnswerError(reason="the metamodel answered something that is not a number.")
    figures = {name: measure(y_nto, outlook) for name, measure in OBJECTIVES.items()}
    hourly = _hourly(y_nto, outlook)
    weeks = {
        name: {
            "settings": {s: values_ts[:, i].tolist() for i, s in enumerate(outlook.settings.names)},
            "figures": {f: float(values[n]) for f, values in figures.items()},
            "hourly": {h: values[n].tolist() for h, values in hourly.items()},
        }
        for n, (name, values_ts) in enumerate(named.items())
    }
    calibration = ready.situation.calibration
    return {
        "stamps": list(index),
        "weeks": weeks,
        "units": {name: UNITS.get(name, "") for name in figures},
        "low": outlook.low_t.tolist(),
        "high": outlook.high_t.tolist(),
        "is_occupied": outlook.is_occupied_t.tolist(),
        "notes": [*base_note, *notes],
        "calibrated": None if calibration is None else calibration.made,
        "forecast": dict(ready.situation.future.sources),
    }


def _hourly(y_nto: Array, outlook: Any) -> dict[str, Array]:
    """Return what people look at, shape (plans, hours) each: coldest and warmest zone [degC], worst CO2 [ppm], HVAC power [W]."""
    from building.indices.energy import final_power
    from optim.objectives import zones

    temperature, co2 = zones(y_nto, outlook, TEMPERATURE), zones(y_nto, outlook, CO2)
    power = final_power(y_nto, outlook.outputs, outlook.building.efficiency).hvac_by_carrier()
    return {
        "coldest_zone": temperature.min(axis=-1),
        "warmest_zone": temperature.max(axis=-1),
        "worst_co2": co2.max(axis=-1),
        "hvac_power": np.sum(list(power.values()), axis=0),
    }


def _base(ready: Ready, store: Store, question: Question, plan_ts: Array | None, plan_note: list[str]) -> tuple[Array, list[str]]:
    if question.base == "own":
        return ready.own_ts, []
    if question.base == "plan":
        if plan_ts is None:
            hint = " Ask with base 'own', or search one: POST /v1/plans."
            raise UnknownNameError(name="plan", kind="plan in force", owner="this hour", hint=hint)
        return plan_ts, plan_note
    frame = front_plan(store, question.point)
    return _over(ready, frame, f"point {question.point} of the front")


def front_plan(store: Store, point: int | None) -> pd.DataFrame:
    """Return the plan of a point of the newest front, a column per setting.

    Raises:
        UnknownNameError: no such point, or a front without its plans (made before 0.2).
    """
    kept, newest = store.get(FRONT_PLANS), store.last_front()
    n = 0 if kept is None or newest is None or kept["made"] != newest.made.isoformat() else len(kept["values"])
    if point is None or not 0 <= point < n:
        hint = f" It has the points 0 .. {n - 1}." if n else " There are no plans of a front yet: POST /v1/plans."
        raise UnknownNameError(name=point, kind="point", owner="the newest front", hint=hint)
    values = kept["values"][point]
    index = pd.date_range(pd.Timestamp(kept["start"]), periods=len(values), freq=f"{kept['step_min']}min")
    return pd.DataFrame(values, index=index, columns=kept["settings"])


def _plan_in_force(ready: Ready, store: Store, now: pd.Timestamp) -> tuple[Array | None, list[str]]:
    record = store.plan_in_force(now)
    return (None, []) if record is None else _over(ready, record.plan.frame, "the plan in force")


def _over(ready: Ready, frame: pd.DataFrame, what: str) -> tuple[Array, list[str]]:
    """Return a plan over the coming week, hourly; hours it does not cover follow the own schedule."""
    index, names = ready.outlook.future.index, ready.outlook.settings.names
    missing = [n for n in names if n not in frame]
    if missing:
        raise ShapeError(what=what, shape=frame.shape, wanted=f"the settings {', '.join(missing)} as well")
    hourly = frame[list(names)].resample("60min").mean().reindex(index).to_numpy(dtype=float)
    bare = ~np.isfinite(hourly).all(axis=1)
    notes = []
    if bare.any():
        notes = [f"{what} does not cover {int(bare.sum())} of these {len(index)} hours; there the own schedule stands in."]
    return np.where(bare[:, None], ready.own_ts, hourly), notes


def _changed(base_ts: Array, index: pd.DatetimeIndex, changes: Sequence[Change], building: Building) -> pd.DataFrame:
    frame = pd.DataFrame(base_ts, index=index, columns=list(building.settings.names))
    for change in changes:
        if change.setting not in building.settings:
            hint = did_you_mean(change.setting, building.settings.names)
            raise UnknownNameError(name=change.setting, kind="setting", owner=f"'{building.name}'", hint=hint)
        v = building.settings[change.setting]
        if change.value is not None and not v.low <= change.value <= v.high:
            raise OutsideBoundsError(variable=v.name, value=change.value, unit=v.quantity.unit, low=v.low, high=v.high)
        hours = np.ones(len(index), dtype=bool)
        if change.start is not None:
            hours &= index >= change.start.floor("h")
        if change.end is not None:
            hours &= index < change.end
        if change.value is not None:
            frame.loc[hours, v.name] = change.value
        elif change.by is not None:
            frame.loc[hours, v.name] += change.by
    return frame


def _guarded(ready: Ready, frame: pd.DataFrame, building: Building, config: Config) -> tuple[Array, list[str]]:
    """Return the week as the guard would let it out, hour after hour, and a note for every rule that changed something.

    Frost is left out: whether a zone will be so cold is what is being asked.
    """
    outlook = ready.outlook
    share_t = outlook.series("occupancy_share")
    density = float(outlook.series("occupant_density")[0])
    frost = float(ready.situation.own.values[:, :, ready.situation.own.columns.index("heating_setpoint")].max())
    recent = outlook.last_settings()
    changed: dict[tuple[str, str], list[tuple[pd.Timestamp, str]]] = {}
    rows = []
    names = list(frame.columns)
    for t, row in enumerate(frame.to_numpy()):
        stamp = frame.index[t]
        moment = Moment(
            now=stamp,
            own=dict(zip(names, row.tolist(), strict=True)),
            recent={name: [value] for name, value in recent.items()},
            occupancy_share=float(share_t[t]),
            occupant_density=density,
            frost_setpoint=frost,
            is_cooling_season=is_cooling_season(stamp, building.site.time_zone, config.guard),
        )
        out = guard(moment, building, config.guard)
        for action in out.actions:
            if action.setting is not None:
                changed.setdefault((action.setting, action.rule), []).append((stamp, action.why))
        recent = out.settings
        rows.append([out.settings[n] for n in names])
    zone = building.site.time_zone
    notes = [
        f"the guard would change {setting} in {len(hours)} h, first {hours[0][0].tz_convert(zone):%a %H:%M}: {hours[0][1]}."
        for (setting, _), hours in changed.items()
    ]
    return np.array(rows), notes


# -- the child


def _answer_on(line: Any, config: Config, open_predictor: OpenPredictor) -> None:
    """Body of the child: open what is needed once, then answer until the line ends."""
    leave_out_needless()
    end_with_parent()
    with contextlib.suppress(OSError):
        os.nice(5)  # setpoints and readings go first
    try:
        store, building = SqlStore(config.store.url.get_secret_value()), load_building(config.building.name)
        predictor = open_predictor(config)
    except SetwiseError as e:
        line.send(NoAnswerError(reason=str(e)))
        return
    ready: Ready | None = None
    while True:
        try:
            now, question = line.recv()
        except EOFError:
            return
        try:
            if ready is None or ready.key != key_of(store, now):
                ready = prepare(store, building, predictor, config, now)
            line.send(answer(ready, store, building, config, now, question))
        except SetwiseError as e:
            line.send(e)


# -- in the service


class Answering:
    """A child that answers one question after another. It comes up with the first and ends when nobody asks."""

    def __init__(self, config: Config, open_predictor: OpenPredictor, idle_s: float = IDLE_S) -> None:
        self._config = config
        self._open_predictor = open_predictor
        self._idle_s = idle_s
        self._turn = threading.Lock()
        self._child: tuple[Any, Any] | None = None  # process and line
        self._idle: threading.Timer | None = None
        self._is_stopped = False

    def ask(self, now: pd.Timestamp, question: Question) -> Mapping[str, Any]:
        """Return `answer`'s answer.

        Raises:
            NoAnswerError: others ask, or the child broke or took too long; it is ended, and the next question starts another.
            SetwiseError: what `answer` and `prepare` refuse; what opening the bundle refuses is a NoAnswerError.
        """
        if not self._turn.acquire(timeout=PATIENCE_S):
            raise NoAnswerError(reason=f"others have been asking for {PATIENCE_S:g} s.")
        try:
            if self._idle is not None:
                self._idle.cancel()
            return self._ask(now, question)
        finally:
            if self._child is not None:
                self._idle = threading.Timer(self._idle_s, self._rest)
                self._idle.daemon = True
                self._idle.start()
            self._turn.release()

    @property
    def pid(self) -> int | None:
        """The child's process, or None."""
        child = self._child
        return None if child is None else child[0].pid

    def stop(self) -> None:
        """End the child; no other is started."""
        self._is_stopped = True
        if self._idle is not None:
            self._idle.cancel()
        self._end()

    def _ask(self, now: pd.Timestamp, question: Question) -> Mapping[str, Any]:
        is_first = self._child is None
        process, line = self._child or self._start()
        limit_s = FIRST_LIMIT_S if is_first else LIMIT_S
        began_s = time.monotonic()
        try:
            line.send((now, question))
            while not line.poll(0.25):
                if time.monotonic() - began_s > limit_s:
                    raise self._broken(f"it took longer than {limit_s:g} s.")
                if resident_mb(process.pid) > self._config.jobs.memory_limit_mb:
                    raise self._broken(f"it took more than {self._config.jobs.memory_limit_mb:g} MB of memory.")
            said = line.recv()
        except (OSError, EOFError) as e:
            process.join(1.0)
            raise self._broken(f"the process that answers ended with exit code {process.exitcode}; the log says why.") from e
        if isinstance(said, NoAnswerError):
            self._end()  # it could not open what it answers with, or that is broken
        if isinstance(said, SetwiseError):
            raise said
        answered: Mapping[str, Any] = said
        return answered

    def _start(self) -> tuple[Any, Any]:
        if self._is_stopped:
            raise NoAnswerError(reason="the service is ending.")
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_answer_on, args=(theirs, self._config, self._open_predictor), name="setwise-what-if", daemon=True
        )
        process.start()
        theirs.close()
        self._child = (process, ours)
        return self._child

    def _broken(self, reason: str) -> NoAnswerError:
        log.warning("what-if: %s", reason)
        self._end()
        return NoAnswerError(reason=reason)

    def _rest(self) -> None:
        if self._turn.acquire(blocking=False):  # somebody who asks now keeps it
            try:
                self._end()
            finally:
                self._turn.release()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        process, line = child
        line.close()
        process.terminate()
        process.join(2.0)
        if process.is_alive():
            process.kill()
            process.join(2.0)
