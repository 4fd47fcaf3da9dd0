"""The HTTP API: what the service knows and decided, as JSON that teaches. /docs draws it.

Everything under /v1 and /metrics wants a bearer token (unless api.is_open); /healthz and the page itself do not. Each route says
in `x-role` who may ask it. Values are in inside units, instants in UTC (ISO 8601); gaps are null. An error is always {"error",
"message", "facts", "what_to_do"}. Every write goes through one function, `act`: one transaction with its entry in the audit log
and
its answer kept for the idempotency key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from importlib.resources import files
from typing import Annotated, Any, Literal, cast

import pandas as pd
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, model_validator
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from building.description import Building
from building.errors import (
    BadReadingError,
    BrokerError,
    JobOverlapError,
    KeyReusedError,
    NoAnswerError,
    NotAuthorisedError,
    RoleTooLowError,
    ServiceFailedError,
    SetwiseError,
    StoreError,
    TooManyAttemptsError,
    UnknownNameError,
    did_you_mean,
)
from building.indices.comfort import comfort_band, is_occupied
from building.variables import Role, Variable
from service import orders, savings
from service.access import Attempts, Caller, Token, create_token, revoke_token, tokens, who_is
from service.access import Role as Rank
from service.audit import AuditLog
from service.clock import Clock
from service.config import Config, Mode
from service.guard import PRECEDENCE, Guarded, is_cooling_season
from service.health import Part
from service.metrics import metrics_text
from service.operations import ENDS, leaving, own_schedule, valid_until
from service.orders import Told
from service.points import Points, read_forecast
from service.reference import reference_page
from service.store import JobRecord, PlanRecord, SqlStore
from service.store.acts import Acts, Override
from service.web import Gate
from service.what_if import Change, Question, front_plan

log = logging.getLogger(__name__)

LARGEST_ANSWER = 200_000
"""Values one answer of /v1/series may hold."""
_LATE_S, _HUNG_S = 60.0, 600.0
"""So long (real time) the loop may stand still before the service is not ready, before it should be ended."""
STALE_AFTER_H = 2.0
"""A zone without a reading for so long counts as unknown."""


@dataclass(frozen=True)
class Live:
    """What only the running process knows."""

    is_connected: bool
    broker: str
    counters: Mapping[str, float]
    problems: tuple[str, ...] = ()
    echoed: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """What the API reads and whom it asks; `service.app` makes one from the real things."""

    config: Config
    building: Building
    points: Points
    store: SqlStore
    clock: Clock
    decide: Callable[[], Guarded]
    ask: Callable[[str], int]
    live: Callable[[], Live]
    told: Callable[[], Told]
    changed: Callable[[], None]
    audit: AuditLog
    parts: Callable[[Guarded], Sequence[Part]] = lambda decided: ()
    rows: Callable[[], Mapping[str, int]] = dict
    beat_age_s: Callable[[], float | None] = lambda: None
    what_if: Callable[[Question], Mapping[str, Any]] = lambda _: {}


# -- answers

Reason = Annotated[str, Field(min_length=3, max_length=200, description="why, for people", examples=["council meeting tonight"])]


class Problem(BaseModel):
    """Every error looks like this."""

    error: str = Field(description="name of the error", examples=["JobOverlapError"])
    message: str = Field(description="what was found, what the limit is")
    facts: dict[str, Any] = Field(description="the facts the message was made from")
    what_to_do: str


class SettingNow(BaseModel):
    """One setpoint."""

    variable: str
    value: float
    unit: str
    low: float = Field(description="least value the guard lets out")
    high: float = Field(description="greatest")
    valid_until: datetime = Field(description="after this instant the BMS should return to its own schedule")
    meaning: str
    published: str | None = Field(
        description="waiting, sent, acknowledged, unconfirmed, expired or replaced; null when it was never sent"
    )
    confirmed_value: float | None = Field(description="last value sent, when the BMS acknowledged it")
    bms_value: float | None = Field(description="what the BMS last said it took, since the service's start")
    source: str = Field(description="who decided: safety, override, plan or own (see `precedence` of /v1/status)")
    is_leaving: bool = Field(description="whether it is sent in the mode in force")


class Setpoints(BaseModel):
    """The settings in force now, after the guard."""

    now: datetime
    mode: Mode = Field(description="watch, maintenance: nothing is sent; advise: only what a person confirmed or holds")
    origin: str = Field(description="optimised, or own: the building's own schedule")
    plan_issued: datetime | None
    notes: list[str] = Field(description="what the guard did and why")
    settings: list[SettingNow]


class Block(BaseModel):
    """Values of one variable on the stamps of the answer."""

    unit: str
    values: list[float | None]
    low: list[float | None] | None = Field(
        default=None, description="of a predicted output: 90 % of the hours should lie between low and high"
    )
    high: list[float | None] | None = None


class PlanAnswer(BaseModel):
    """A plan: settings over the coming days, and what is promised of it."""

    id: int
    state: str
    is_in_force: bool
    origin: str
    issued: datetime
    start: datetime
    end: datetime
    step_min: int
    stamps: list[datetime]
    settings: dict[str, Block]
    own: dict[str, Block] = Field(description="the building's own schedule on the same stamps")
    meta: dict[str, Any] = Field(
        description="predicted objectives, those of the references, saving, reason, and where the forecast came from"
    )


class FrontPoint(BaseModel):
    """One plan of the front."""

    values: dict[str, float]
    is_feasible: bool
    is_chosen: bool


class FrontAnswer(BaseModel):
    """The plans that no other plan beats, and what they were compared with."""

    made: datetime
    objectives: dict[str, str] = Field(description="name and unit; least is best")
    points: list[FrontPoint]
    references: dict[str, dict[str, float]]
    baseline: str
    tolerance: dict[str, float]
    meta: dict[str, Any]


class FrontPlan(BaseModel):
    """The plan behind a point of the front."""

    point: int
    values: dict[str, float]
    is_feasible: bool
    is_chosen: bool
    start: datetime
    end: datetime
    step_min: int
    stamps: list[datetime]
    settings: dict[str, Block]
    own: dict[str, Block] = Field(description="the building's own schedule on the same stamps")


Shift = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]


class ChangeIn(BaseModel):
    """A setting over some hours: at a `value`, or `by` so much above (below) what it would be there."""

    setting: str = Field(max_length=200, examples=["heating_setpoint"])
    start: datetime | None = Field(default=None, description="from this hour on; the first hour when left out")
    end: datetime | None = Field(default=None, description="up to, not with, this instant; the end of the week when left out")
    value: Shift | None = Field(default=None, description="inside unit, within the bounds of the setting", examples=[20.0])
    by: Shift | None = Field(default=None, description="inside unit; what leaves the bounds is held at them", examples=[None])

    @model_validator(mode="after")
    def _one_of_two(self) -> ChangeIn:
        if (self.value is None) == (self.by is None):
            raise ValueError("give either value or by")
        return self


class WhatIfIn(BaseModel):
    """Changes to a week."""

    base: Literal["own", "plan", "front"] = Field(
        description="what is changed: the own schedule, the plan in force, or a point of the newest front"
    )
    point: int | None = Field(default=None, ge=0, le=1000, description="of the front; for base front")
    changes: list[ChangeIn] = Field(default=[], max_length=500)


class WeekAnswer(BaseModel):
    """A week as predicted."""

    figures: dict[str, float] = Field(description="objectives, least is best")
    settings: dict[str, Block]
    hourly: dict[str, Block] = Field(description="coldest_zone, warmest_zone, worst_co2, hvac_power")


class WhatIfAnswer(BaseModel):
    """The coming week under other settings, beside the own schedule's and the plan's."""

    stamps: list[datetime]
    own: WeekAnswer
    plan: WeekAnswer | None = Field(description="null while no plan is in force")
    asked: WeekAnswer = Field(description="with the settings as the guard would let them out")
    units: dict[str, str] = Field(description="of the figures")
    low: list[float] = Field(description="comfort band, degC")
    high: list[float]
    is_occupied: list[bool]
    notes: list[str] = Field(description="what the guard would change and why; hours that the base does not cover")
    calibrated: datetime | None = Field(description="the calibration it stands on; null: default parameters, take it as a sketch")
    forecast: dict[str, str] = Field(description="by input, where the coming week comes from")
    seconds: float = Field(description="how long the answer took")


class CalibrationAnswer(BaseModel):
    """A calibration as it was stored."""

    made: datetime
    state: Literal["accepted", "refused"]
    calibration: dict[str, Any]


class Calibrations(BaseModel):
    """The calibration in force and the last one tried; they differ when the last was refused."""

    accepted: CalibrationAnswer | None
    last: CalibrationAnswer | None
    bounds: dict[str, tuple[float, float]] = Field(description="by parameter, the least and greatest value that is searched")


class PointNow(BaseModel):
    """A measured variable and its last reading."""

    variable: str
    topic: str
    unit: str
    role: str
    zone: str | None
    meaning: str
    value: float | None
    stamp: datetime | None
    age_s: float | None
    flag: str | None


class ZoneNow(BaseModel):
    """A zone against its comfort band."""

    zone: str
    air_temperature: float | None
    co2: float | None
    stamp: datetime | None
    low: float = Field(description="comfort band, degC")
    high: float
    state: Literal["ok", "cold", "warm", "unknown"]


class Zones(BaseModel):
    """All zones now. The band counts while people are there."""

    now: datetime
    is_occupied: bool | None = Field(description="null when occupancy is not known")
    outdoor_running_mean_known: bool
    zones: list[ZoneNow]


class SeriesAnswer(BaseModel):
    """Hourly (or raw) series."""

    kind: Literal["measured", "predicted"]
    stamps: list[datetime]
    series: dict[str, Block]


class Job(BaseModel):
    """One line of the journal."""

    id: int
    kind: str
    started: datetime
    ended: datetime | None
    duration_s: float | None
    outcome: str
    log: str = Field(description="what came of it")
    tail: str = Field(description="the last lines its process wrote")
    peak_mb: float | None = Field(description="most resident memory of its process")


class Accepted(BaseModel):
    """A job was started; follow it at /v1/jobs/{job}."""

    job: int
    kind: str


class ForecastIn(BaseModel):
    """A forecast: hourly (or finer) values from `start` on, inside units."""

    issued: datetime
    start: datetime
    step_min: float = 60
    series: dict[str, Annotated[list[float], Field(min_length=1)]] = Field(
        examples=[{"outdoor_air_temperature": [3.1, 2.8, 2.5]}]
    )


class ForecastKept(BaseModel):
    """What was kept of a forecast."""

    n_hours: int
    variables: list[str]


class Refusal(BaseModel):
    """Messages refused for one reason."""

    reason: str
    n: int
    last: datetime
    topic: str
    detail: str


class ModeNow(BaseModel):
    """The mode in force, and who chose it."""

    mode: Mode
    since: datetime | None = Field(description="null while it is the configured one")
    who: str
    reason: str


class ModeIn(BaseModel):
    """A mode, and why."""

    mode: Mode
    reason: Reason


class OverrideNow(BaseModel):
    """A value that a person holds a setting at."""

    id: int
    setting: str
    value: float
    unit: str
    made: datetime
    until: datetime
    who: str
    reason: str
    is_in_force: bool
    ended: datetime | None = Field(description="when it was taken back or replaced, before its end")
    ended_by: str | None


class OverrideIn(BaseModel):
    """An override: what, until when, why. The service never lifts it before its end."""

    setting: str = Field(max_length=200, examples=["heating_setpoint"])
    value: float = Field(allow_inf_nan=False, examples=[21.5])
    until: datetime = Field(examples=["2026-02-02T18:00Z"])
    reason: Reason


class Confirmation(BaseModel):
    """Why a plan is confirmed or withdrawn."""

    reason: Reason


class PlanState(BaseModel):
    """What became of a plan."""

    plan: int
    state: Literal["confirmed", "withdrawn"]


class TokenNow(BaseModel):
    """A token as it is kept: its hash stays here."""

    id: str
    name: str
    role: Rank
    made: datetime
    expires: datetime | None
    revoked: datetime | None
    is_living: bool


class TokenIn(BaseModel):
    """A token to be made."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,39}$", examples=["wall screen"])
    role: Rank
    days: float | None = Field(default=365, gt=0, le=3650, description="until it expires; null for never")


class TokenMade(TokenNow):
    """A new token, shown this once."""

    token: str | None = Field(description="null when the answer is repeated for an idempotency key: it is kept nowhere")


class AuditEntry(BaseModel):
    """Who did what."""

    seq: int
    at: datetime
    who: str
    role: str
    action: str
    target: str
    detail: dict[str, Any]
    hash: str


class AuditAnswer(BaseModel):
    """The log, newest first, and whether it is whole."""

    n: int
    head: str = Field(
        description="number and hash of the newest entry; note it elsewhere to prove later that nothing was cut off"
    )
    faults: list[str] | None = Field(description="what a look over the whole log found; null when it was not asked for")
    entries: list[AuditEntry]


class TrialNow(BaseModel):
    """The switchback trial as configured, and where it stands."""

    block: Literal["day", "week"]
    start: date
    end: date = Field(description="last day")
    seed: int
    washout_h: int
    state: Literal["to come", "running", "over"]
    today: Literal["plan", "own"] | None
    day: int | None = Field(description="of the trial, from 1")
    n_days: int


class Arm(BaseModel):
    """Means over the days of one side; null where nothing was measured."""

    energy_kwh: float | None = Field(description="a day")
    cost: float | None = Field(default=None, description="a day, in `currency`, by the tariffs of building.toml")
    outdoor_air_temperature: float | None = Field(description="degC")
    discomfort: float | None = Field(description="K.h per zone and day outside the comfort band, people present")
    co2_excess: float | None = Field(description="ppm.h per zone and day over the CO2 limit, people present")
    co2: float | None = Field(description="ppm, people present")


class SavingsDay(BaseModel):
    """One local day."""

    day: date
    side: Literal["plan", "own"] | None
    energy_kwh: float | None
    expected_kwh: float | None = Field(description="what the baseline says of this day; null where it was not used")
    outdoor_air_temperature: float | None
    left_out: str | None = Field(description="why the day does not count; null where it does")


class SavingsReport(BaseModel):
    """What was saved, with its uncertainty; figures are null until there are days enough."""

    made: datetime
    method: Literal["switchback", "before_after"]
    is_model_based: bool = Field(description="true without a trial: what else changed since counts as saving")
    source: str = Field(description="the method, and where it is from")
    said: str = Field(description="the whole in a sentence")
    energy: str = Field(description="what the energy is made of")
    currency: str = Field(default="", description="of `cost`")
    is_enough: bool = Field(description="whether both sides have `least_days`")
    n_own: int
    n_plan: int
    least_days: int
    confidence: float
    baseline_kwh: float | None = Field(description="what the plan's days would have used under the own schedule")
    reported_kwh: float | None
    saved_kwh: float | None
    saved_low_kwh: float | None
    saved_high_kwh: float | None
    saving: float | None = Field(description="share of the baseline, 0..1; negative where more was used")
    low: float | None
    high: float | None
    cv_rmse: float | None = Field(description="of the baseline on the own days")
    is_shown: bool | None = Field(description="Guideline 14: the 68 % uncertainty is at most half the saving")
    arms: dict[str, Arm]
    left_out: dict[str, int] = Field(description="by reason, how many days")
    days: list[SavingsDay]


class SavingsAnswer(BaseModel):
    """The trial, if there is one, and the last report, if there is one."""

    trial: TrialNow | None
    report: SavingsReport | None
    next: str = Field(description="what comes next, or what to do")


class Me(BaseModel):
    """Whose token this is."""

    name: str
    role: Rank


class PartNow(BaseModel):
    """One part of the service."""

    name: str
    state: Literal["ok", "waiting", "degraded", "fault"] = Field(
        description="waiting: it will come by itself; degraded: works with less; fault: does not work"
    )
    since: datetime | None
    fact: str
    next: str = Field(description="what happens next, or what to do")


class Status(BaseModel):
    """The service in one page."""

    building: str
    title: str
    time_zone: str
    now: datetime
    is_broker_connected: bool
    broker: str
    problems: list[str]
    last_reading: datetime | None
    origin: str
    guard_notes: list[str]
    mode: ModeNow
    precedence: dict[str, str] = Field(description="who decides a setpoint, strongest first")
    overrides: list[OverrideNow] = Field(description="in force now")
    unconfirmed: list[str] = Field(description="settings whose last setpoint the BMS did not confirm in time")
    changeover: str = Field(description="both, heating or cooling: what the plant can do now")
    plan_waiting: int | None = Field(description="mode advise: the plan that waits for a person; null when none does")
    plan_issued: datetime | None
    plan_end: datetime | None
    calibration_made: datetime | None
    running: list[str]
    jobs: list[Job]
    refusals: list[Refusal]
    counters: dict[str, float]
    rows: dict[str, int]
    parts: list[PartNow] = Field(description="is each part right, since when, what comes next")


# -- the application


_WHAT_TO_DO: dict[type[SetwiseError], tuple[int, str]] = {
    TooManyAttemptsError: (429, "Wait as long as Retry-After says, then send the right token."),
    RoleTooLowError: (403, "Ask an admin for a token of that role."),
    NotAuthorisedError: (401, "Send the header 'Authorization: Bearer <token>'."),
    KeyReusedError: (422, "Take a new key for each new request."),
    NoAnswerError: (503, "Ask again; a fresh process answers, which takes some seconds. Ask less often, or look at the log."),
    JobOverlapError: (409, "Wait until it is done (/v1/jobs), then ask again."),
    UnknownNameError: (404, "Take a name from /v1/points."),
    StoreError: (503, "Look at the disk and the database; the service goes on by itself."),
    ServiceFailedError: (503, "End the process and start it again; what it keeps is safe."),
    BrokerError: (503, "Look at the broker; the service connects by itself."),
    BadReadingError: (422, "Correct the message and send it again."),
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "token missing, wrong, expired or revoked"},
    403: {"model": Problem, "description": "a good token that may not do this"},
    404: {"model": Problem, "description": "there is no such thing, or not yet"},
    422: {"model": Problem, "description": "the question cannot be answered as asked"},
    429: {"model": Problem, "description": "too many wrong tokens from this address; Retry-After says how long to wait"},
    503: {"model": Problem, "description": "the store or the broker does not answer"},
}
_OVERLAP: dict[int | str, dict[str, Any]] = {**_ERRORS, 409: {"model": Problem, "description": "one is running already"}}
_UNANSWERED: dict[int | str, dict[str, Any]] = {**_ERRORS, 503: {"model": Problem, "description": "nobody could answer now"}}
HOURLY_UNITS = {"coldest_zone": "degC", "warmest_zone": "degC", "worst_co2": "ppm", "hvac_power": "W"}
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class NotYetError(HTTPException):
    """Something that does not exist yet."""

    def __init__(self, what: str, what_to_do: str) -> None:
        super().__init__(404, what)
        self.what_to_do = what_to_do


class Api(FastAPI):
    """An application behind its gate: limits and headers hold for every answer, errors of its own included."""

    gate: Callable[[ASGIApp], ASGIApp]

    def build_middleware_stack(self) -> ASGIApp:
        """Put the gate outermost."""
        return self.gate(super().build_middleware_stack())


# Who asks: FastAPI reads these annotations from the module, so they stand here; `create_api` puts `caller` into the app's state.

BEARER = HTTPBearer(auto_error=False, description="a token of `setwise token create` or POST /v1/tokens")
Shown = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


@dataclass(frozen=True)
class Acting:
    """One request to change something: who sends it, which request it is, and its idempotency key."""

    who: Caller
    request: str
    key: str | None


def _as(request: Request, role: Rank) -> Caller:
    who: Caller = request.app.state.caller(request)
    who.must_be(role)
    return who


def as_viewer(request: Request, _shown: Shown) -> Caller:
    """Let viewers, operators and admins in. Raises NotAuthorisedError."""
    return _as(request, "viewer")


def as_operator(request: Request, _shown: Shown) -> Caller:
    """Let operators and admins in. Raises NotAuthorisedError."""
    return _as(request, "operator")


def as_admin(request: Request, _shown: Shown) -> Caller:
    """Let admins in. Raises NotAuthorisedError."""
    return _as(request, "admin")


GUARDS: dict[Rank, Callable[..., Caller]] = {"viewer": as_viewer, "operator": as_operator, "admin": as_admin}
Key = Annotated[str | None, Header(min_length=1, max_length=200, description="same key and request: same answer, done once")]


def operator_acts(request: Request, who: Annotated[Caller, Depends(as_operator)], idempotency_key: Key = None) -> Acting:
    """Return the request of an operator to change something."""
    return Acting(who, f"{request.method} {request.url.path}", idempotency_key)


def admin_acts(request: Request, who: Annotated[Caller, Depends(as_admin)], idempotency_key: Key = None) -> Acting:
    """Return the request of an admin to change something."""
    return Acting(who, f"{request.method} {request.url.path}", idempotency_key)


ByOperator = Annotated[Acting, Depends(operator_acts)]
ByAdmin = Annotated[Acting, Depends(admin_acts)]


def create_api(sources: Sources) -> FastAPI:
    """Return the application that serves API and dashboard."""
    config, building, store, clock = sources.config, sources.building, sources.store, sources.clock
    acts, attempts, writing = Acts(store), Attempts(config.api.failed_attempts), threading.Lock()
    variables: dict[str, Variable] = {v.name: v for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER}

    def caller(request: Request) -> Caller:
        shown = request.headers.get("authorization")
        if config.api.is_open and not shown:
            return Caller("open", "operator")
        address = request.client.host if request.client else "unknown"
        attempts.check(address)
        try:
            found = who_is(config.api.token_file, shown)
        except NotAuthorisedError:
            if shown and attempts.failed(address):
                log.warning("%d wrong tokens from %s: it has to wait from now on", config.api.failed_attempts + 1, address)
            raise
        attempts.succeeded(address)
        return found

    def open_to(role: Rank, tag: str, responses: dict[int | str, dict[str, Any]] = _ERRORS) -> dict[str, Any]:
        """Return what a route of a role says of itself, its guard included."""
        guards = [Depends(GUARDS[role])]
        return {"tags": [tag], "dependencies": guards, "responses": responses, "openapi_extra": {"x-role": role}}

    def act(
        by: Acting,
        action: str,
        target: str,
        detail: Mapping[str, Any],
        work: Callable[[], BaseModel],
        status: int = 200,
        unkept: Mapping[str, Any] | None = None,
    ) -> Response:
        """Do `work`, log it and keep its answer, all of it or nothing, one write at a time.

        Args:
            by: whose request.
            action, target, detail: what the log says; no secret.
            work: does it and returns the answer; it may raise, and then nothing happened.
            status: of the answer.
            unkept: fields of the answer that are kept as told here, because nobody may keep them.
        """
        said = json.dumps(dict(detail), sort_keys=True, default=str)
        request = f"{by.request} {hashlib.sha256(said.encode()).hexdigest()[:16]}"
        key = None if by.key is None else hashlib.sha256(f"{by.who.name}\n{by.key}".encode()).hexdigest()
        now = clock.now()
        with writing:
            kept = None if key is None else acts.kept_answer(key, now)
            if kept is not None:
                if kept[0] != request:
                    raise KeyReusedError(key=by.key, former=kept[0].rpartition(" ")[0])
                return JSONResponse(kept[2], kept[1], headers={"Idempotency-Replayed": "true"})
            with acts.transaction():
                sources.audit.append(by.who.name, by.who.role, action, target, detail, now)
                answer = work().model_dump(mode="json")
                if key is not None:
                    acts.keep_answer(key, request, status, answer | dict(unkept or {}), now)
            try:
                sources.audit.note_head()
            except OSError as e:
                log.error("the head of the audit log could not be noted: %s", e)
        sources.changed()
        return JSONResponse(answer, status)

    api = Api(
        title="setwise",
        version="1",
        description=f"{building.facts.title}: settings that cost least energy for good comfort and air.",
        docs_url=None,
        redoc_url=None,
    )
    api.gate = lambda app: Gate(app, config.api.max_body_kb * 1024, config.api.request_limit_s, config.api.cert is not None)
    api.state.caller = caller
    _speak_plainly(api)

    @api.get("/healthz", tags=["service"], summary="Is the process alive?", response_class=PlainTextResponse)
    def healthz() -> str:
        """Answers, and 503 when the loop that carries the setpoints stands still: end the process and start it again."""
        _must_beat(sources, _HUNG_S)
        return "ok\n"

    @api.get("/readyz", tags=["service"], summary="Is the service ready?", response_class=PlainTextResponse)
    def readyz() -> str:
        """200 while the loop beats and the store answers; 503 with a reason otherwise. A broker that is away is no reason."""
        _must_beat(sources, _LATE_S)
        store.get("schema_version")  # a store that does not answer raises, and that is a 503
        return "ready\n"

    @api.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse, **open_to("viewer", "service"))
    def metrics() -> str:
        return metrics_text(sources)

    @api.get("/v1/status", **open_to("viewer", "service"))
    def status() -> Status:
        """The service in one page: broker, plan, calibration, jobs, refusals."""
        with store.moment():
            live, decision, told, now = sources.live(), sources.decide(), sources.told(), clock.now()
            sent = store.last_publications()
            plan = store.plan_in_force(clock.now())
            calibration = store.last_calibration(is_accepted=True)
            jobs = store.jobs(limit=12)
            newest = store.last(sources.points.measured.names)
            return Status(
                building=building.name,
                title=building.facts.title,
                time_zone=building.site.time_zone,
                now=clock.now(),
                is_broker_connected=live.is_connected,
                broker=live.broker,
                problems=list(live.problems),
                last_reading=max((r.stamp for r in newest.values()), default=None),
                origin=decision.origin,
                guard_notes=[str(a) for a in decision.actions],
                mode=_mode(told),
                precedence=PRECEDENCE,
                overrides=[_override(o, building, now) for o in told.in_force(now).values()],
                unconfirmed=[name for name, p in sent.items() if p.state == "unconfirmed"],
                changeover=changeover_now(),
                plan_waiting=plan.id if told.mode == "advise" and plan is not None and plan.id != told.confirmed_plan else None,
                plan_issued=None if plan is None else plan.issued,
                plan_end=None if plan is None else plan.plan.end,
                calibration_made=None if calibration is None else calibration.made,
                running=[j.kind for j in jobs if j.outcome == "running"],
                jobs=[_job(j) for j in jobs],
                refusals=[Refusal(reason=r.reason, n=r.n, last=r.last, topic=r.topic, detail=r.detail) for r in store.refusals()],
                counters=dict(live.counters),
                rows=dict(sources.rows()),
                parts=[PartNow(**asdict(p)) for p in sources.parts(decision)],
            )

    @api.get("/v1/setpoints", **open_to("viewer", "decisions"))
    def setpoints() -> Setpoints:
        """The settings in force now, after the guard: what is, or in another mode would be, published."""
        decision, sent, told, echoed = sources.decide(), store.last_publications(), sources.told(), sources.live().echoed
        going = leaving(decision, told, clock.now())
        until = valid_until(clock.now(), config.publish)
        rows = []
        for name, value in decision.settings.items():
            variable, record = variables[name], sent.get(name)
            confirmed = record.value if record is not None and record.state == "acknowledged" else None
            rows.append(
                SettingNow(
                    variable=name,
                    value=value,
                    unit=variable.quantity.unit,
                    low=variable.low,
                    high=variable.high,
                    valid_until=until,
                    meaning=variable.meaning,
                    published=None if record is None else record.state,
                    confirmed_value=confirmed,
                    bms_value=echoed.get(name),
                    source=decision.sources[name],
                    is_leaving=name in going,
                )
            )
        return Setpoints(
            now=clock.now(),
            mode=told.mode,
            origin=decision.origin,
            plan_issued=decision.issued,
            notes=[str(a) for a in decision.actions],
            settings=rows,
        )

    @api.get("/v1/plan", **open_to("viewer", "decisions"))
    def plan() -> PlanAnswer:
        """The plan in force; the newest plan when none is."""
        record = store.plan_in_force(clock.now())
        newest = [record] if record is not None else store.plans(limit=1)
        if not newest:
            raise NotYetError("there is no plan yet.", "Ask for one: POST /v1/plans.")
        return _plan(newest[0], building, own_on(pd.DatetimeIndex(newest[0].plan.frame.index)), is_in_force=record is not None)

    def own_on(index: pd.DatetimeIndex) -> pd.DataFrame:
        try:
            profile = own_schedule(building, store.last_calibration(is_accepted=True))
        except Exception:  # a damaged calibration: the guard says so, and follows baseline.toml as well
            profile = building.own_schedule()
        whole = profile.unroll(index, building.site.time_zone)
        return whole[[n for n in building.settings.names if n in whole]]

    @api.get("/v1/front", **open_to("viewer", "decisions"))
    def front() -> FrontAnswer:
        """The front of the last search: what was possible, and which plan was chosen."""
        record = store.last_front()
        if record is None:
            raise NotYetError("there is no front yet.", "Ask for a plan: POST /v1/plans.")
        return _front(record.data, record.made)

    @api.get("/v1/front/{point}", **open_to("viewer", "decisions"))
    def front_point(point: Annotated[int, Path(ge=0, le=1000)]) -> FrontPlan:
        """The plan behind a point of the last search's front, by its place in `points` of /v1/front."""
        frame, record = front_plan(store, point), store.last_front()
        if record is None:
            raise NotYetError("there is no front yet.", "Ask for a plan: POST /v1/plans.")
        found = _front(record.data, record.made).points[point]
        step = frame.index[1] - frame.index[0]
        return FrontPlan(
            point=point,
            **found.model_dump(),
            start=frame.index[0],
            end=frame.index[-1] + step,
            step_min=int(step / pd.Timedelta(minutes=1)),
            stamps=list(frame.index),
            settings=_blocks(frame, building),
            own=_blocks(own_on(pd.DatetimeIndex(frame.index)), building),
        )

    @api.post("/v1/what-if", **open_to("viewer", "decisions", _UNANSWERED))
    def what_if(body: WhatIfIn) -> WhatIfAnswer:
        """The coming week under other settings, from the metamodel, in under a second once it is warm. Changes nothing."""
        began_s = time.monotonic()
        changes = tuple(
            Change(c.setting, None if c.start is None else _utc(c.start), None if c.end is None else _utc(c.end), c.value, c.by)
            for c in body.changes
        )
        said = sources.what_if(Question(body.base, changes, body.point))
        weeks = {
            name: WeekAnswer(
                figures=week["figures"],
                settings={n: Block(unit=building.settings[n].quantity.unit, values=v) for n, v in week["settings"].items()},
                hourly={n: Block(unit=HOURLY_UNITS[n], values=v) for n, v in week["hourly"].items()},
            )
            for name, week in said["weeks"].items()
        }
        rest = {k: v for k, v in said.items() if k != "weeks"}
        seconds = round(time.monotonic() - began_s, 3)
        return WhatIfAnswer(own=weeks["own"], plan=weeks.get("plan"), asked=weeks["asked"], seconds=seconds, **rest)

    @api.get("/v1/calibration", **open_to("viewer", "building"))
    def calibration() -> Calibrations:
        """The calibration in force, and the last one tried with its verdict."""
        accepted, last = store.last_calibration(is_accepted=True), store.last_calibration()
        bounds = {n: (building.parameter_space[n].low, building.parameter_space[n].high) for n in building.parameter_space.names}
        return Calibrations(accepted=_calibration(accepted), last=_calibration(last), bounds=bounds)

    @api.get("/v1/points", **open_to("viewer", "building"))
    def points() -> list[PointNow]:
        """Every measured variable: where it comes from and its last reading."""
        now, newest = clock.now(), store.last(sources.points.measured.names, is_usable=False)
        answer = []
        for v in sources.points.measured:
            reading = newest.get(v.name)
            answer.append(
                PointNow(
                    variable=v.name,
                    topic=sources.points.facts.points[v.name].topic,
                    unit=v.quantity.unit,
                    role=v.role.value,
                    zone=v.zone,
                    meaning=v.meaning,
                    value=None if reading is None else reading.value,
                    stamp=None if reading is None else reading.stamp,
                    age_s=None if reading is None else (now - reading.stamp).total_seconds(),
                    flag=None if reading is None else reading.flag,
                )
            )
        return answer

    @api.get("/v1/zones", **open_to("viewer", "building"))
    def zones() -> Zones:
        """Every zone's last temperature and CO2 against the comfort band of now."""
        return zones_now(sources)

    @api.get("/v1/series", **open_to("viewer", "building"))
    def series(
        variable: Annotated[list[str], Query(description="repeat for several", examples=[["outdoor_air_temperature"]])],
        start: Annotated[datetime | None, Query(description="UTC; a week ago when left out")] = None,
        end: Annotated[datetime | None, Query(description="UTC; now when left out (predicted: a week ahead)")] = None,
        kind: Literal["measured", "predicted"] = "measured",
        is_raw: Annotated[bool, Query(description="readings as they came instead of hourly means")] = False,
    ) -> SeriesAnswer:
        """Measured readings, or predictions and forecasts: of each hour the newest issued so far, outputs with their interval."""
        variable = list(dict.fromkeys(variable))
        for name in variable:
            if name not in variables:
                hint = did_you_mean(name, variables)
                raise UnknownNameError(name=name, kind="measured variable", owner=f"'{building.name}'", hint=hint)
        now = clock.now()
        last = _utc(end) if end is not None else now + pd.Timedelta(hours=168 if kind == "predicted" else 1)
        first = _utc(start) if start is not None else now - pd.Timedelta(hours=168)
        if not first < last or (last - first) / pd.Timedelta(hours=1) * len(variable) > LARGEST_ANSWER:
            raise HTTPException(422, f"the period {first} .. {last} is empty or holds more than {LARGEST_ANSWER} values.")
        ends = {n: tuple(f"{n}{end}" for end in ENDS) for n in variable if kind == "predicted" and n in building.outputs}
        if kind == "predicted":
            frame = store.forecast([*variable, *(e for two in ends.values() for e in two)], first, last, at=now)
        else:
            frame = store.series(variable, first, last) if is_raw else store.hourly(variable, first, last)
        return SeriesAnswer(
            kind=kind,
            stamps=list(frame.index),
            series={
                n: Block(
                    unit=variables[n].quantity.unit,
                    values=_gaps(frame[n]),
                    **{side: _gaps(frame[end]) for side, end in zip(("low", "high"), ends.get(n, ()), strict=False)},
                )
                for n in variable
            },
        )

    @api.get("/v1/jobs", **open_to("viewer", "work"))
    def jobs(kind: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 20) -> list[Job]:
        """The journal, newest first."""
        return [_job(j) for j in store.jobs(kind, limit)]

    @api.get("/v1/jobs/{job}", **open_to("viewer", "work"))
    def one_job(job: Number) -> Job:
        """One line of the journal."""
        found = store.job(job)
        if found is None:
            raise NotYetError(f"there is no job {job}.", "Take a number from /v1/jobs.")
        return _job(found)

    def start_job(by: Acting, action: str, target: str, kind: str) -> Response:
        return act(by, action, target, {}, lambda: Accepted(job=sources.ask(kind), kind=kind), 202)

    @api.post("/v1/calibrations", status_code=202, response_model=Accepted, **open_to("operator", "work", _OVERLAP))
    def calibrate(by: ByOperator) -> Response:
        """Calibrate now, on what was measured."""
        return start_job(by, "calibrate", "calibration", "calibration")

    @api.post("/v1/plans", status_code=202, response_model=Accepted, **open_to("operator", "work", _OVERLAP))
    def search_plan(by: ByOperator) -> Response:
        """Search a plan for the coming days now."""
        return start_job(by, "search", "plan", "plan")

    @api.post("/v1/compactions", status_code=202, response_model=Accepted, **open_to("operator", "work", _OVERLAP))
    def compact(by: ByOperator) -> Response:
        """Compact and forget old readings now, as [store] says."""
        return start_job(by, "compact", "store", "compaction")

    @api.post("/v1/backups", status_code=202, response_model=Accepted, **open_to("operator", "work", _OVERLAP))
    def back_up(by: ByOperator) -> Response:
        """Make a backup now, in the folder that [store] names."""
        return start_job(by, "back up", "store", "backup")

    @api.get("/v1/savings", **open_to("viewer", "decisions"))
    def last_savings() -> SavingsAnswer:
        """What was saved: the switchback trial, and the last report with its interval, both arms and every day."""
        kept, trial = store.get(savings.KEY), savings.trial_now(config.savings, building, clock.now())
        return SavingsAnswer(
            trial=None if trial is None else TrialNow(**trial),
            report=None if kept is None else SavingsReport(**kept),
            next=savings.next_step(config, trial, kept),
        )

    @api.post("/v1/weather", status_code=202, response_model=Accepted, **open_to("operator", "work", _OVERLAP))
    def ask_weather(by: ByOperator) -> Response:
        """Ask the weather service that [weather] names now."""
        return start_job(by, "ask", "weather", "weather")

    @api.post("/v1/savings", status_code=202, response_model=Accepted, **open_to("operator", "work", _OVERLAP))
    def report_savings(by: ByOperator) -> Response:
        """Make the savings report now."""
        return start_job(by, "report", "savings", "savings")

    @api.post("/v1/forecasts", status_code=201, response_model=ForecastKept, **open_to("operator", "work"))
    def add_forecast(body: ForecastIn, by: ByOperator) -> Response:
        """Give a forecast of weather or occupancy; plans made later use it."""
        latest = clock.now() + pd.Timedelta(seconds=sources.config.ingest.max_future_s)
        text = body.model_dump_json()
        hourly, issued = read_forecast("/v1/forecasts", text.encode(), sources.points.forecastable, latest)
        detail = {"issued": issued, "hours": len(hourly), "sha256": hashlib.sha256(text.encode()).hexdigest()}

        def work() -> ForecastKept:
            store.add_forecast(hourly, issued)
            return ForecastKept(n_hours=len(hourly), variables=[str(c) for c in hourly.columns])

        return act(by, "add_forecast", ", ".join(str(c) for c in hourly.columns), detail, work, 201)

    # -- what people tell the service

    @api.get("/v1/mode", **open_to("viewer", "people"))
    def mode() -> ModeNow:
        """The mode in force: watch, advise, auto or maintenance; since when, by whom and why."""
        return _mode(sources.told())

    @api.put("/v1/mode", response_model=ModeNow, **open_to("operator", "people"))
    def set_mode(body: ModeIn, by: ByOperator) -> Response:
        """Change the mode; it stays over a restart. What was sent is released when the new mode sends nothing."""
        now = clock.now()

        def work() -> ModeNow:
            orders.set_mode(store, body.mode, now, by.who.name, body.reason)
            return ModeNow(mode=body.mode, since=now, who=by.who.name, reason=body.reason)

        return act(by, "set_mode", body.mode, body.model_dump(), work)

    @api.get("/v1/overrides", **open_to("viewer", "people"))
    def overrides(limit: Annotated[int, Query(ge=1, le=500)] = 50) -> list[OverrideNow]:
        """Overrides, newest first: in force, ended and expired."""
        return [_override(o, building, clock.now()) for o in acts.overrides(limit)]

    @api.post("/v1/overrides", status_code=201, response_model=OverrideNow, **open_to("operator", "people"))
    def add_override(body: OverrideIn, by: ByOperator) -> Response:
        """Hold a setting at a value until an instant. Only safety limits pass it; the service never lifts it before."""
        until, now = _utc(body.until), clock.now()

        def work() -> OverrideNow:
            made = orders.add_override(store, building, config, body.setting, body.value, until, now, by.who.name, body.reason)
            return _override(made, building, now)

        return act(by, "override", body.setting, body.model_dump(mode="json"), work, 201)

    @api.delete("/v1/overrides/{override}", response_model=OverrideNow, **open_to("operator", "people"))
    def end_override(
        override: Number,
        by: ByOperator,
        reason: Annotated[str, Query(min_length=3, max_length=200, description="why, for people")],
    ) -> Response:
        """Take an override back before its end."""
        now = clock.now()
        found = next((o for o in acts.overrides(10_000) if o.id == override and o.is_in_force(now)), None)
        if found is None:
            raise NotYetError(f"there is no override {override} in force.", "Take a number from /v1/overrides.")

        def work() -> OverrideNow:
            acts.end_override(override, now, by.who.name)
            return _override(replace(found, ended=now, ended_by=by.who.name), building, now)

        return act(by, "end_override", found.setting, {"override": override, "reason": reason}, work)

    def known_plan(plan: int) -> PlanRecord:
        found = store.plan(plan)
        if found is None or found.state != "accepted" or found.plan.end <= clock.now():
            raise NotYetError(f"there is no plan {plan} that could be followed.", "Take its id from /v1/plan.")
        return found

    @api.post("/v1/plans/{plan}/confirm", response_model=PlanState, **open_to("operator", "people"))
    def confirm_plan(plan: Number, body: Confirmation, by: ByOperator) -> Response:
        """Confirm a plan: in mode advise its setpoints leave from now on."""
        known_plan(plan)

        def work() -> PlanState:
            orders.confirm_plan(store, plan)
            return PlanState(plan=plan, state="confirmed")

        return act(by, "confirm_plan", str(plan), body.model_dump(), work)

    @api.post("/v1/plans/{plan}/withdraw", response_model=PlanState, **open_to("operator", "people"))
    def withdraw_plan(plan: Number, body: Confirmation, by: ByOperator) -> Response:
        """Withdraw a plan: it is not followed any more, in any mode; the one before it is, or the own schedule."""
        known_plan(plan)

        def work() -> PlanState:
            store.withdraw_plan(plan)
            return PlanState(plan=plan, state="withdrawn")

        return act(by, "withdraw_plan", str(plan), body.model_dump(), work)

    # -- who may what

    @api.get("/v1/me", **open_to("viewer", "access"))
    def me(who: Annotated[Caller, Depends(as_viewer)]) -> Me:
        """Whose token this is, and its role."""
        return Me(name=who.name, role=who.role)

    @api.get("/v1/tokens", **open_to("admin", "access"))
    def list_tokens() -> list[TokenNow]:
        """Every token, without the token itself."""
        return [_token(t) for t in tokens(config.api.token_file)]

    @api.post("/v1/tokens", status_code=201, response_model=TokenMade, **open_to("admin", "access"))
    def new_token(body: TokenIn, by: ByAdmin) -> Response:
        """Make a token. It is shown in this answer and nowhere else."""

        def work() -> TokenMade:
            made, secret = create_token(config.api.token_file, body.name, body.role, body.days)
            return TokenMade(**_token(made).model_dump(), token=secret)

        return act(by, "create_token", body.name, body.model_dump(), work, 201, unkept={"token": None})

    @api.delete("/v1/tokens/{token}", response_model=TokenNow, **open_to("admin", "access"))
    def void_token(token: Annotated[str, Path(pattern="^[0-9a-z]{5,8}$")], by: ByAdmin) -> Response:
        """Revoke a token, by its id; it opens nothing from this instant on."""
        return act(by, "revoke_token", token, {}, lambda: _token(revoke_token(config.api.token_file, token)))

    @api.get("/v1/audit", **open_to("admin", "access"))
    def audit(
        after: Annotated[int, Query(ge=0, le=2**31 - 1, description="only entries with a higher number")] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        is_verified: Annotated[bool, Query(description="also look over the whole log for changes")] = False,
    ) -> AuditAnswer:
        """Who did what, newest first. The log is append-only, and each entry holds the one before."""
        head = sources.audit.head()
        entries = [
            AuditEntry(
                seq=e.seq,
                at=pd.Timestamp(e.at, unit="ms", tz="UTC"),
                who=e.who,
                role=e.role,
                action=e.action,
                target=e.target,
                detail=json.loads(e.detail),
                hash=e.hash,
            )
            for e in sources.audit.entries(after, limit)
        ]
        faults = list(sources.audit.verify().faults) if is_verified else None
        return AuditAnswer(n=head.seq, head=str(head), faults=faults, entries=entries)

    def changeover_now() -> str:
        state = config.guard.changeover
        if state == "calendar":
            return "cooling" if is_cooling_season(clock.now(), building.site.time_zone, config.guard) else "heating"
        return "both" if state == "none" else state

    # -- pages

    page = files("service") / "dashboard"

    @api.get("/", include_in_schema=False)
    def index() -> Response:
        return Response((page / "index.html").read_bytes(), media_type="text/html; charset=utf-8")

    @api.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(api.openapi()))

    api.mount("/dashboard", StaticFiles(directory=str(page)), name="dashboard")
    return api


def zones_now(sources: Sources) -> Zones:
    """Return every zone's last readings against the comfort band of the present hour."""
    building, store, now = sources.building, sources.store, sources.clock.now()
    limits = building.limits
    names = [f"{z.name}_{what}" for z in building.zones for what in ("air_temperature", "co2")]
    newest = store.last([*names, "occupancy_share"])
    start = now.floor("h") - pd.Timedelta(days=14)
    outdoor = store.hourly(["outdoor_air_temperature"], start, now.floor("h") + pd.Timedelta(hours=1))["outdoor_air_temperature"]
    is_known = bool(outdoor.notna().any())
    whole = outdoor.interpolate(limit_direction="both") if is_known else outdoor.fillna(12.0)
    low_t, high_t = comfort_band(pd.DatetimeIndex(whole.index), whole.to_numpy(), building.site.time_zone, limits)
    low, high = float(low_t[-1]), float(high_t[-1])
    oldest = now - pd.Timedelta(hours=STALE_AFTER_H)
    present = newest.get("occupancy_share")
    rows = []
    for zone in building.zones:
        temperature, co2 = newest.get(f"{zone.name}_air_temperature"), newest.get(f"{zone.name}_co2")
        state: Literal["ok", "cold", "warm", "unknown"] = "unknown"
        if temperature is not None and temperature.stamp >= oldest:
            state = "cold" if temperature.value < low else "warm" if temperature.value > high else "ok"
        rows.append(
            ZoneNow(
                zone=zone.name,
                air_temperature=None if temperature is None else temperature.value,
                co2=None if co2 is None or co2.stamp < oldest else co2.value,
                stamp=None if temperature is None else temperature.stamp,
                low=low,
                high=high,
                state=state,
            )
        )
    occupied = None if present is None or present.stamp < oldest else bool(is_occupied(present.value, limits))
    return Zones(now=now, is_occupied=occupied, outdoor_running_mean_known=is_known, zones=rows)


def _speak_plainly(api: FastAPI) -> None:
    """Give every error the same shape."""

    def answer(code: int, error: str, message: str, facts: Mapping[str, Any], what_to_do: str) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if code == 401 else {}
        if code == 429:
            headers["Retry-After"] = str(facts["wait_s"])
        plain = {k: v if isinstance(v, str | int | float | bool | None) else str(v) for k, v in facts.items()}
        problem = Problem(error=error, message=message, facts=plain, what_to_do=what_to_do)
        return JSONResponse(problem.model_dump(), code, headers=headers)

    @api.exception_handler(SetwiseError)
    async def refused(_request: Request, error: SetwiseError) -> JSONResponse:
        code, what_to_do = next(
            (known for kind, known in _WHAT_TO_DO.items() if isinstance(error, kind)), (422, "Change what the message names.")
        )
        return answer(code, type(error).__name__, str(error), error.facts, what_to_do)

    @api.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        return answer(422, "RequestError", f"{place}: {first['msg']}.", {"place": place}, "See /docs for what this route takes.")

    @api.exception_handler(Exception)
    async def fault(_request: Request, _error: Exception) -> JSONResponse:
        said = "the service made a mistake; its log says which."
        return answer(500, "InternalError", said, {}, "Send what 'setwise diagnostics' writes to whoever looks after it.")

    @api.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        what_to_do = error.what_to_do if isinstance(error, NotYetError) else "See /docs for the routes there are."
        return answer(error.status_code, type(error).__name__, str(error.detail), {"path": request.url.path}, what_to_do)


def document() -> dict[str, Any]:
    """Return the OpenAPI document of the medium office's service, as docs/openapi.json keeps it."""
    from building.description import load_building

    nothing = cast(Any, None)
    office = load_building("medium_office")
    kept = Sources(Config(), office, *(nothing,) * 9)
    return create_api(kept).openapi()


def _utc(instant: datetime) -> pd.Timestamp:
    if not 1970 <= instant.year <= 2200:
        raise HTTPException(422, f"{instant} lies outside 1970 .. 2200.")
    stamp = pd.Timestamp(instant)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _mode(told: Told) -> ModeNow:
    return ModeNow(mode=told.mode, since=told.order.since, who=told.order.who, reason=told.order.reason)


def _override(o: Override, building: Building, now: pd.Timestamp) -> OverrideNow:
    unit = building.settings[o.setting].quantity.unit if o.setting in building.settings else ""
    return OverrideNow(
        id=o.id,
        setting=o.setting,
        value=o.value,
        unit=unit,
        made=o.made,
        until=o.until,
        who=o.who,
        reason=o.reason,
        is_in_force=o.is_in_force(now),
        ended=o.ended,
        ended_by=o.ended_by,
    )


def _token(t: Token) -> TokenNow:
    is_living = t.why_not(pd.Timestamp.now(tz="UTC")) is None
    facts = {"id": t.id, "name": t.name, "role": t.role, "made": t.made, "expires": t.expires, "revoked": t.revoked}
    return TokenNow.model_validate({**facts, "is_living": is_living})


def _gaps(series: pd.Series) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in series]


def _job(record: JobRecord) -> Job:
    duration = None if record.ended is None else (record.ended - record.started).total_seconds()
    return Job(**asdict(record), duration_s=duration)


def _must_beat(sources: Sources, most_s: float) -> None:
    age = sources.beat_age_s()
    if age is not None and age > most_s:
        raise ServiceFailedError(reason=f"the loop that carries the setpoints has stood still for {age:.0f} s.")


def _calibration(record: Any) -> CalibrationAnswer | None:
    return None if record is None else CalibrationAnswer(made=record.made, state=record.state, calibration=record.data)


def _blocks(frame: pd.DataFrame, building: Building) -> dict[str, Block]:
    """Return a frame of settings as blocks with their units."""
    return {str(n): Block(unit=building.settings[str(n)].quantity.unit, values=_gaps(frame[n])) for n in frame.columns}


def _plan(record: PlanRecord, building: Building, own: pd.DataFrame, is_in_force: bool) -> PlanAnswer:
    plan = record.plan
    return PlanAnswer(
        id=record.id,
        state=record.state,
        is_in_force=is_in_force,
        origin=plan.origin,
        issued=record.issued,
        start=plan.start,
        end=plan.end,
        step_min=plan.step_min,
        stamps=list(plan.frame.index),
        settings=_blocks(plan.frame, building),
        own=_blocks(own, building),
        meta=dict(plan.meta),
    )


def _front(data: Mapping[str, Any], made: pd.Timestamp) -> FrontAnswer:
    names = data["objectives"]
    chosen = data.get("chosen")
    return FrontAnswer(
        made=made,
        objectives={n: data.get("units", {}).get(n, "") for n in names},
        points=[
            FrontPoint(values=dict(zip(names, row, strict=True)), is_feasible=violation <= 0, is_chosen=i == chosen)
            for i, (row, violation) in enumerate(zip(data["values"], data["violation"], strict=True))
        ],
        references={name: r["values"] for name, r in data["references"].items()},
        baseline=data["baseline"],
        tolerance=data["tolerance"],
        meta=dict(data["meta"]),
    )
