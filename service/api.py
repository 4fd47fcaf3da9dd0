"""The HTTP API: what the service knows and decided, as JSON that teaches. /docs draws it.

Everything under /v1 and /metrics wants a bearer token (unless api.is_open); /healthz and the page itself do not. Values are in
inside units, instants in UTC (ISO 8601); gaps are null. An error is always {"error", "message", "facts", "what_to_do"}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from building.description import Building
from building.errors import (
    BadReadingError,
    BrokerError,
    JobOverlapError,
    NotAuthorisedError,
    SetwiseError,
    StoreError,
    UnknownNameError,
    did_you_mean,
)
from building.indices.comfort import comfort_band, is_occupied
from building.variables import Role, Variable
from service.access import check_token
from service.clock import Clock
from service.config import Config
from service.guard import Guarded
from service.operations import ENDS, valid_until
from service.points import Points, read_forecast
from service.store import JobRecord, PlanRecord, Store

LARGEST_ANSWER = 200_000
"""Values one answer of /v1/series may hold."""
STALE_AFTER_H = 2.0
"""A zone without a reading for so long counts as unknown."""


@dataclass(frozen=True)
class Live:
    """What only the running process knows."""

    is_connected: bool
    broker: str
    counters: Mapping[str, float]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """What the API reads and whom it asks; `service.app` makes one from the real things."""

    config: Config
    building: Building
    points: Points
    store: Store
    clock: Clock
    decide: Callable[[], Guarded]
    ask: Callable[[str], int]
    live: Callable[[], Live]


# -- answers


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
    valid_until: datetime = Field(description="after this instant the BMS should return to its own schedule")
    meaning: str
    published: str | None = Field(
        description="waiting, sent, acknowledged, unconfirmed, expired or replaced; null when it was never sent"
    )
    confirmed_value: float | None = Field(description="last value sent, when the BMS acknowledged it")


class Setpoints(BaseModel):
    """The settings in force now, after the guard."""

    now: datetime
    mode: Literal["auto", "advise"] = Field(description="advise: shown here, not published")
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


class CalibrationAnswer(BaseModel):
    """A calibration as it was stored."""

    made: datetime
    state: Literal["accepted", "refused"]
    calibration: dict[str, Any]


class Calibrations(BaseModel):
    """The calibration in force and the last one tried; they differ when the last was refused."""

    accepted: CalibrationAnswer | None
    last: CalibrationAnswer | None


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
    outcome: str
    log: str


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
    plan_issued: datetime | None
    plan_end: datetime | None
    calibration_made: datetime | None
    running: list[str]
    jobs: list[Job]
    refusals: list[Refusal]
    counters: dict[str, float]
    rows: dict[str, int]


# -- the application


_WHAT_TO_DO: dict[type[SetwiseError], tuple[int, str]] = {
    NotAuthorisedError: (401, "Send the header 'Authorization: Bearer <token>'."),
    JobOverlapError: (409, "Wait until it is done (/v1/jobs), then ask again."),
    UnknownNameError: (404, "Take a name from /v1/points."),
    StoreError: (503, "Look at the disk and the database; the service goes on by itself."),
    BrokerError: (503, "Look at the broker; the service connects by itself."),
    BadReadingError: (422, "Correct the message and send it again."),
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "token missing or wrong"},
    404: {"model": Problem, "description": "there is no such thing, or not yet"},
    422: {"model": Problem, "description": "the question cannot be answered as asked"},
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class NotYetError(HTTPException):
    """Something that does not exist yet."""

    def __init__(self, what: str, what_to_do: str) -> None:
        super().__init__(404, what)
        self.what_to_do = what_to_do


def create_api(sources: Sources) -> FastAPI:
    """Return the application that serves API and dashboard."""
    config, building, store, clock = sources.config, sources.building, sources.store, sources.clock
    variables: dict[str, Variable] = {v.name: v for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER}

    def authorised(request: Request) -> None:
        if not config.api.is_open:
            check_token(config.api.token_file, request.headers.get("authorization"))

    api = FastAPI(
        title="setwise", description=f"{building.facts.title}: settings that cost least energy for good comfort and air."
    )
    guarded = [Depends(authorised)]
    _speak_plainly(api)

    @api.get("/healthz", tags=["service"], summary="Is the process fit to serve?", response_class=PlainTextResponse)
    def healthz() -> str:
        store.get("schema_version")  # a store that does not answer raises, and that is a 503
        return "ok\n"

    @api.get("/metrics", tags=["service"], summary="Prometheus metrics", response_class=PlainTextResponse, dependencies=guarded)
    def metrics() -> str:
        return metrics_text(sources)

    @api.get("/v1/status", tags=["service"], dependencies=guarded, responses=_ERRORS)
    def status() -> Status:
        """The service in one page: broker, plan, calibration, jobs, refusals."""
        live, decision = sources.live(), sources.decide()
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
            plan_issued=None if plan is None else plan.issued,
            plan_end=None if plan is None else plan.plan.end,
            calibration_made=None if calibration is None else calibration.made,
            running=[j.kind for j in jobs if j.outcome == "running"],
            jobs=[_job(j) for j in jobs],
            refusals=[Refusal(reason=r.reason, n=r.n, last=r.last, topic=r.topic, detail=r.detail) for r in store.refusals()],
            counters=dict(live.counters),
            rows=store.counts(),
        )

    @api.get("/v1/setpoints", tags=["decisions"], dependencies=guarded, responses=_ERRORS)
    def setpoints() -> Setpoints:
        """The settings in force now, after the guard: what is (or, in advise mode, would be) published."""
        decision, sent = sources.decide(), store.last_publications()
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
                    valid_until=until,
                    meaning=variable.meaning,
                    published=None if record is None else record.state,
                    confirmed_value=confirmed,
                )
            )
        return Setpoints(
            now=clock.now(),
            mode=config.publish.mode,
            origin=decision.origin,
            plan_issued=decision.issued,
            notes=[str(a) for a in decision.actions],
            settings=rows,
        )

    @api.get("/v1/plan", tags=["decisions"], dependencies=guarded, responses=_ERRORS)
    def plan() -> PlanAnswer:
        """The plan in force; the newest plan when none is."""
        record = store.plan_in_force(clock.now())
        newest = [record] if record is not None else store.plans(limit=1)
        if not newest:
            raise NotYetError("there is no plan yet.", "Ask for one: POST /v1/plans.")
        return _plan(newest[0], building, is_in_force=record is not None)

    @api.get("/v1/front", tags=["decisions"], dependencies=guarded, responses=_ERRORS)
    def front() -> FrontAnswer:
        """The front of the last search: what was possible, and which plan was chosen."""
        record = store.last_front()
        if record is None:
            raise NotYetError("there is no front yet.", "Ask for a plan: POST /v1/plans.")
        return _front(record.data, record.made)

    @api.get("/v1/calibration", tags=["building"], dependencies=guarded, responses=_ERRORS)
    def calibration() -> Calibrations:
        """The calibration in force, and the last one tried with its verdict."""
        accepted, last = store.last_calibration(is_accepted=True), store.last_calibration()
        return Calibrations(accepted=_calibration(accepted), last=_calibration(last))

    @api.get("/v1/points", tags=["building"], dependencies=guarded, responses=_ERRORS)
    def points() -> list[PointNow]:
        """Every measured variable: where it comes from and its last reading."""
        now, newest = clock.now(), store.last(sources.points.measured.names)
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

    @api.get("/v1/zones", tags=["building"], dependencies=guarded, responses=_ERRORS)
    def zones() -> Zones:
        """Every zone's last temperature and CO2 against the comfort band of now."""
        return zones_now(sources)

    @api.get("/v1/series", tags=["building"], dependencies=guarded, responses=_ERRORS)
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

    @api.get("/v1/jobs", tags=["work"], dependencies=guarded, responses=_ERRORS)
    def jobs(kind: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 20) -> list[Job]:
        """The journal, newest first."""
        return [_job(j) for j in store.jobs(kind, limit)]

    @api.get("/v1/jobs/{job}", tags=["work"], dependencies=guarded, responses=_ERRORS)
    def one_job(job: int) -> Job:
        """One line of the journal."""
        found = store.job(job)
        if found is None:
            raise NotYetError(f"there is no job {job}.", "Take a number from /v1/jobs.")
        return _job(found)

    overlap: dict[int | str, dict[str, Any]] = {**_ERRORS, 409: {"model": Problem, "description": "one is running already"}}

    @api.post("/v1/calibrations", status_code=202, tags=["work"], dependencies=guarded, responses=overlap)
    def calibrate() -> Accepted:
        """Calibrate now, on what was measured."""
        return Accepted(job=sources.ask("calibration"), kind="calibration")

    @api.post("/v1/plans", status_code=202, tags=["work"], dependencies=guarded, responses=overlap)
    def search_plan() -> Accepted:
        """Search a plan for the coming days now."""
        return Accepted(job=sources.ask("plan"), kind="plan")

    @api.post("/v1/forecasts", status_code=201, tags=["work"], dependencies=guarded, responses=_ERRORS)
    def add_forecast(body: ForecastIn) -> ForecastKept:
        """Give a forecast of weather or occupancy; plans made later use it."""
        latest = clock.now() + pd.Timedelta(seconds=sources.config.ingest.max_future_s)
        frame, issued = read_forecast("/v1/forecasts", body.model_dump_json().encode(), sources.points.forecastable, latest)
        hourly = frame.resample("60min").mean()
        store.add_forecast(hourly, issued)
        return ForecastKept(n_hours=len(hourly), variables=[str(c) for c in hourly.columns])

    page = files("service") / "dashboard"

    @api.get("/", include_in_schema=False)
    def index() -> Response:
        return Response((page / "index.html").read_bytes(), media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

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


def metrics_text(sources: Sources) -> str:
    """Return metrics in the Prometheus text format, version 0.0.4; names carry their unit."""
    store, now, live = sources.store, sources.clock.now(), sources.live()
    newest = store.last(sources.points.measured.names)
    calibration, plan = store.last_calibration(is_accepted=True), store.plan_in_force(now)
    lines: list[str] = []

    def metric(name: str, kind: str, meaning: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> None:
        lines.extend((f"# HELP setwise_{name} {meaning}", f"# TYPE setwise_{name} {kind}"))
        for labels, value in samples:
            shown = ",".join(f"{k}={json.dumps(str(v), ensure_ascii=False)}" for k, v in labels.items())
            lines.append(f"setwise_{name}{{{shown}}} {value:g}" if shown else f"setwise_{name} {value:.10g}")

    metric("mqtt_connected", "gauge", "1 while the broker is connected.", [({}, float(live.is_connected))])
    for name, value in sorted(live.counters.items()):
        kind = "counter" if name.endswith("_total") else "gauge"
        metric(name, kind, f"Counted by the running process: {name.replace('_', ' ')}.", [({}, value)])
    metric(
        "refused_messages_total",
        "counter",
        "Messages refused, by reason.",
        [({"reason": r.reason}, r.n) for r in store.refusals()],
    )
    ages = [({"variable": n}, (now - r.stamp).total_seconds()) for n, r in newest.items()]
    metric("reading_age_seconds", "gauge", "Age of the last reading of each variable.", ages)
    metric("plan_age_seconds", "gauge", "Age of the plan in force.", [({}, (now - plan.issued).total_seconds())] if plan else [])
    metric(
        "calibration_age_seconds",
        "gauge",
        "Age of the accepted calibration.",
        [({}, (now - calibration.made).total_seconds())] if calibration else [],
    )
    metric(
        "setpoint",
        "gauge",
        "Settings in force after the guard, inside units.",
        [({"variable": n}, value) for n, value in sources.decide().settings.items()],
    )
    metric("rows", "gauge", "Rows of each table of the store.", [({"table": t}, n) for t, n in store.counts().items()])
    return "\n".join(lines) + "\n"


def _speak_plainly(api: FastAPI) -> None:
    """Give every error the same shape."""

    def answer(code: int, error: str, message: str, facts: Mapping[str, Any], what_to_do: str) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if code == 401 else None
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

    @api.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        what_to_do = error.what_to_do if isinstance(error, NotYetError) else "See /docs for the routes there are."
        return answer(error.status_code, type(error).__name__, str(error.detail), {"path": request.url.path}, what_to_do)


def _utc(instant: datetime) -> pd.Timestamp:
    stamp = pd.Timestamp(instant)
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _gaps(series: pd.Series) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in series]


def _job(record: JobRecord) -> Job:
    return Job(id=record.id, kind=record.kind, started=record.started, ended=record.ended, outcome=record.outcome, log=record.log)


def _calibration(record: Any) -> CalibrationAnswer | None:
    return None if record is None else CalibrationAnswer(made=record.made, state=record.state, calibration=record.data)


def _plan(record: PlanRecord, building: Building, is_in_force: bool) -> PlanAnswer:
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
        settings={
            str(n): Block(unit=building.settings[str(n)].quantity.unit, values=_gaps(plan.frame[n])) for n in plan.frame.columns
        },
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
