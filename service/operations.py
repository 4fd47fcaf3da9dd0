"""The verbs of the service: recalibrate, replan, decide, enter. Recording is in ingest.py, sending in publish.py.

`recalibrate` and `replan` compute and change nothing; they run in the child of a job. `enter_calibration` and `enter_plan` store
a result together with the end of its journal entry, in one transaction; they run in the service. Heavy libraries (onnxruntime,
cma, pymoo) are imported inside the verbs: the service itself never loads them and stays small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Building, load_building
from building.documents import plain
from building.errors import SetwiseError, TooFewDataError
from building.plan import Plan, WeekProfile
from building.predictor import Predictor
from building.scenario import Scenario
from building.timeline import WARM_UP_H
from building.variables import Role
from calibration.residual import Correction
from service.config import Config, PublishSection
from service.forecast import Series, expected_inputs, measured_series, past_inputs
from service.guard import Guarded, Moment, guard, is_cooling_season, observe
from service.orders import Order, Told
from service.savings import own_day
from service.store import DocumentRecord, SqlStore, Store

if TYPE_CHECKING:
    from calibration.search import Budget

ENDS = (".low", ".high")
"""Under `<output>.low` and `<output>.high` the ends of a prediction's interval are kept beside it."""
LEAST_MEASURED_H = 24
"""Hours with outdoor temperature that the last fortnight must have before a plan is searched at all."""

FRONT_PLANS = "front_plans"
"""Under this name the store keeps the plans of the newest front: ``made``, ``settings``, ``start``, ``step_min`` and ``values``,
shape (points, steps, settings). Only of the newest: they are nearly all of a front's size."""

NOTHING_TOLD = Told(Order("auto"))
"""Nobody confirmed, held or changed anything."""

OpenPredictor = Callable[[Config], Predictor]


def open_bundle(config: Config) -> Predictor:
    """Return the predictor of the configured bundle.

    Raises:
        BadBundleError: see `service.signing.open_signed`.
    """
    from models.runtime.session import OnnxPredictor
    from service.signing import opened

    with opened(config.building.bundle, config.bundle.public_key) as bundle:
        return OnnxPredictor(bundle, config.jobs.threads)


# -- in the child


def calibration_job(config: Config, now: pd.Timestamp, open_predictor: OpenPredictor = open_bundle) -> dict[str, Any]:
    """Body of a calibration job: open what is needed, recalibrate, return plain data."""
    store = SqlStore(config.store.url.get_secret_value())
    try:
        return recalibrate(store, load_building(config.building.name), open_predictor(config), config, now)
    finally:
        store.close()


def planning_job(config: Config, now: pd.Timestamp, open_predictor: OpenPredictor = open_bundle) -> dict[str, Any]:
    """Body of a planning job: open what is needed, replan, return plain data."""
    store = SqlStore(config.store.url.get_secret_value())
    try:
        return replan(store, load_building(config.building.name), open_predictor(config), config, now)
    finally:
        store.close()


@dataclass(frozen=True)
class Situation:
    """What any plan of the coming days stands on: what was measured, what is expected, and the calibration that explains both.

    Attributes:
        start: first hour planned.
        calibration: the one in force, or None: default parameters.
        own: the building's own schedule.
        measured: hourly, as measured, with its gaps.
        past: the same, its inputs made whole.
        future: expected weather and occupancy, settings by the own schedule.
        before: the past as a scenario; the last hours of it are `last`, which a search is given.
        after: the future as a scenario.
        correct: how the last errors go on into the forecast; None without a calibration.
    """

    start: pd.Timestamp
    calibration: DocumentRecord | None
    own: WeekProfile
    measured: Series
    past: Series
    future: Series
    before: Scenario
    after: Scenario
    correct: Correction | None

    @property
    def last(self) -> Scenario:
        """The week before `start`."""
        return self.before.between(self.start - pd.Timedelta(hours=WARM_UP_H), self.start)


def situation(store: Store, building: Building, predictor: Predictor, config: Config, now: pd.Timestamp) -> Situation:
    """Gather what the planning of the coming days stands on.

    Raises:
        TooFewDataError: less than a day of weather measured, or a weather variable that nobody measures.
    """
    start = now.floor("h")
    horizon = pd.date_range(start, periods=config.jobs.horizon_h, freq="h")
    measured = measured_series(store, building, predictor.outputs, start - pd.Timedelta(hours=config.jobs.history_h), start)
    n_known = int(measured.frame["outdoor_air_temperature"].iloc[-2 * WARM_UP_H :].notna().sum())
    if n_known < LEAST_MEASURED_H:
        hint = "A plan needs the recent past; wait for the readings of a day."
        raise TooFewDataError(what="the last fortnight", found=n_known, wanted=LEAST_MEASURED_H, hint=hint)

    from calibration.present import present
    from calibration.report import Calibration

    record = store.last_calibration(is_accepted=True)
    own = own_schedule(building, record)
    past = past_inputs(measured, building, own, predictor.inputs)
    future = expected_inputs(
        store, measured.frame, past.frame, building, own, predictor.inputs, start, config.jobs.horizon_h, at=now
    )
    recent = past.frame.iloc[-2 * WARM_UP_H :]
    if record is None:
        parameters = building.parameter_space.defaults()
        before, correct = Scenario.from_frame(predictor.inputs, recent, parameters), None
    else:
        calibration = Calibration.from_dict(record.data)
        parameters = dict(calibration.parameters)
        before, correct = present(predictor, calibration, recent, horizon, building.site.time_zone)
    after = Scenario.from_frame(predictor.inputs, future.frame, parameters)
    return Situation(start, record, own, measured, past, future, before, after, correct)


def recalibrate(
    store: Store,
    building: Building,
    predictor: Predictor,
    config: Config,
    now: pd.Timestamp,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Fit the predictor to what was measured up to `now`.

    Args:
        store: read only.
        building: names and spaces.
        predictor: what is fitted.
        config: history and seed.
        now: the last whole hour before it is the last used.
        budget: of the search; the usual one when None.

    Returns:
        ``made`` and ``calibration`` (`Calibration.to_dict`), accepted or refused.

    Raises:
        TooFewDataError, MissingColumnError: see `calibration.calibrate.calibrate`.
    """
    from calibration.calibrate import calibrate
    from calibration.search import USUAL_BUDGET

    end = now.floor("h")
    measured = measured_series(store, building, predictor.outputs, end - pd.Timedelta(hours=config.jobs.history_h), end)
    first = measured.frame["outdoor_air_temperature"].first_valid_index()
    frame = measured.frame if first is None else measured.frame.loc[first:]
    former = store.last_calibration(is_accepted=True)
    space = building.parameter_space.only(*(n for n in building.parameter_space.names if n in predictor.inputs))
    known = {} if former is None else {n: v for n, v in former.data["parameters"].items() if n in space.names}
    found = calibrate(
        predictor,
        frame,
        space,
        seed=config.jobs.seed,
        time_zone=building.site.time_zone,
        start=known,
        budget=budget or USUAL_BUDGET,
    )
    return {"made": now, "calibration": {**found.to_dict(), "stand_ins": measured.sources}}


def replan(
    store: Store,
    building: Building,
    predictor: Predictor,
    config: Config,
    now: pd.Timestamp,
    n_plans: int = 100,
    generations: int = 70,
) -> dict[str, Any]:
    """Search and choose a plan for the coming days.

    Args:
        store: read only: what was measured, forecasts, the calibration in force, the last plan.
        building: names, site, limits.
        predictor: what answers.
        config: horizon and seed.
        now: issue time; the plan begins with its hour.
        n_plans, generations: size of the search.

    Returns:
        ``plan`` (`Plan.to_dict`); ``front`` (`Front.to_dict` without the plans, with ``chosen`` and ``units``); ``front_plans``
        (the plans of the front's points, see `FRONT_PLANS`); ``predicted``, a frame of the outputs over the last measured
        week and under the chosen plan, with the ends of their intervals (`ENDS`).

    Raises:
        TooFewDataError: see `situation`.
    """
    from calibration.residual import site_spread, widen
    from optim.choice import choose
    from optim.objectives import UNITS
    from optim.search import search

    present_day = situation(store, building, predictor, config, now)
    measured, past, future = present_day.measured, present_day.past, present_day.future
    before, after, correct, record = present_day.before, present_day.after, present_day.correct, present_day.calibration
    former = store.plan_in_force(now)
    front = search(
        predictor,
        building,
        present_day.last,
        after,
        seed=config.jobs.seed,
        n_plans=n_plans,
        generations=generations,
        correct=correct,
        warm_start=None if former is None else former.plan,
    )
    plan = choose(front, issued=now)
    used = {v.name: future.sources[v.name] for v in building.inputs if v.name in future.sources and v.role is not Role.SETTING}
    meta = {
        **plan.meta,
        "forecast": used,
        "past": {n: s for n, s in past.sources.items() if s != "measured"},
        "outside": [
            f"{n} of the {when}: {s}" for when, of in (("past", past), ("forecast", future)) for n, s in of.outside.items()
        ],
        "calibration": None if record is None else record.made.isoformat(),
    }
    plan = Plan(plan.frame, plan.origin, now, meta)

    # The week before as well, so that measured and predicted can be laid over each other from the first plan on.
    planned = after.frame().assign(**{str(n): plan.hourly()[n] for n in plan.frame.columns})
    whole = before.then(Scenario.from_frame(predictor.inputs, planned))
    y_to = predictor.predict(whole.values[None])[0]
    n_before = len(before)
    names = list(predictor.outputs.names)
    low_to, high_to = around(predictor, y_to, whole.values)
    errors_to = measured.frame[names].reindex(before.index).to_numpy(dtype=float) - y_to[:n_before]
    judged = slice(WARM_UP_H, n_before)
    spread_o = site_spread(errors_to[judged], y_to[judged], low_to[judged], high_to[judged], predictor.outputs)
    below_to, above_to = y_to - low_to, high_to - y_to
    if correct is not None:
        y_to[n_before:] = correct(y_to[None, n_before:])[0]
    low_to, high_to = widen(y_to, below_to, above_to, spread_o, predictor.outputs)
    columns = [*names, *(f"{n}{end}" for end in ENDS for n in names)]
    predicted = pd.DataFrame(np.hstack([y_to, low_to, high_to]), index=whole.index, columns=columns).iloc[WARM_UP_H:]

    same = [i for i in range(len(front)) if np.allclose(front.plans_nts[i], plan.frame[list(front.settings)].to_numpy())]
    data = {k: v for k, v in front.to_dict().items() if k not in ("plans", "vectors")}
    data["references"] = {name: {"values": r["values"], "note": r["note"]} for name, r in data["references"].items()}
    chosen = {"chosen": same[0] if same else None, "units": {n: UNITS.get(n, "") for n in front.objectives}}
    plans = {"settings": list(front.settings), "start": front.start.isoformat(), "step_min": front.step_min}
    plans["values"] = np.round(front.plans_nts, 3).tolist()
    return {"made": now, "plan": plan.to_dict(), "front": {**data, **chosen}, "front_plans": plans, "predicted": predicted}


def around(predictor: Predictor, y_to: NDArray[np.float64], x_ti: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the ends of a bundle's intervals around its answer; the answer itself twice where there are none."""
    from models.runtime.intervals import Intervals
    from models.runtime.session import OnnxPredictor

    intervals = Intervals.of(predictor.bundle) if isinstance(predictor, OnnxPredictor) else None
    if intervals is None:
        return y_to, y_to
    low, high = intervals.around(y_to[None], x_ti[None])
    return low[0], high[0]


def own_schedule(building: Building, calibration: DocumentRecord | None) -> WeekProfile:
    """Return the building's own schedule: baseline.toml, and what a calibration found of settings nobody measures."""
    own = building.own_schedule()
    profile = None if calibration is None else calibration.data.get("profile")
    if not profile:
        return own
    fitted = WeekProfile.from_dict(profile)
    if fitted.values.shape[1] != own.values.shape[1]:
        return own
    values = own.values.copy()
    for c, name in enumerate(own.columns):
        if name in fitted.columns:
            values[:, :, c] = fitted.values[:, :, fitted.columns.index(name)]
    return WeekProfile(own.columns, values)


# -- in the service


def decide(
    store: Store, building: Building, config: Config, now: pd.Timestamp, told: Told = NOTHING_TOLD, apart_k: float | None = None
) -> Guarded:
    """Return the settings that may leave now; `leaving` says which of them do. `apart_k`: what `guard.disagreement` found last.

    A store that fails, or holds nonsense, leaves the own schedule of baseline.toml. What people hold, they hold all the same.
    """
    held, season = told.in_force(now), is_cooling_season(now, building.site.time_zone, config.guard)
    trial = own_day(config.savings, building, now)
    try:
        with store.moment():
            own = own_schedule(building, store.last_calibration(is_accepted=True))
            moment = observe(store, building, now, own)
            confirmed = None
            if told.mode == "advise" and told.confirmed_plan is not None:
                confirmed = store.plan(told.confirmed_plan)
        if confirmed is not None and confirmed.state == "accepted" and confirmed.plan.at(now) is not None:
            moment = replace(moment, plan=confirmed)  # a newer plan waits for a person
        asked = replace(moment, overrides=held, is_cooling_season=season, own_day=trial, disagreement=apart_k)
        return guard(asked, building, config.guard)
    except Exception as e:  # whatever is wrong with what was kept, the building gets its setpoints, and people the reason
        row = building.own_schedule().unroll(pd.DatetimeIndex([now.floor("h")]), building.site.time_zone).iloc[0]
        moment = Moment(now, {n: float(row[n]) for n in building.settings.names})
        why = str(e) if isinstance(e, SetwiseError) else f"what is kept cannot be used ({type(e).__name__}: {e})"
        moment = replace(moment, unusable=why, overrides=held, is_cooling_season=season)
        return guard(moment, building, config.guard)


def leaving(guarded: Guarded, told: Told, now: pd.Timestamp) -> dict[str, float]:
    """Return those of the guarded settings that leave in the mode in force.

    auto: all. advise: all of a plan that a person confirmed, and what people hold. watch and maintenance: none.
    """
    if told.mode == "auto":
        return guarded.settings
    if told.mode != "advise":
        return {}
    if guarded.plan_id is not None and guarded.plan_id == told.confirmed_plan:
        return guarded.settings
    held = told.in_force(now)
    return {name: value for name, value in guarded.settings.items() if name in held}


def valid_until(now: pd.Timestamp, config: PublishSection) -> pd.Timestamp:
    """Return until when a setpoint of the present step holds."""
    return now.floor(f"{config.step_min}min") + pd.Timedelta(minutes=config.valid_for_min)


def enter_calibration(store: Store, job: int, result: Mapping[str, Any], now: pd.Timestamp) -> bool:
    """Store a calibration and close its journal entry; return whether it was accepted. A refused one replaces nothing."""
    data = result["calibration"]
    is_accepted = bool(data["is_accepted"])
    with store.transaction():
        store.add_calibration(plain(data), result["made"], is_accepted)
        said = "" if is_accepted else f"the calibration was refused: {'; '.join(data['refusals'])}. The last accepted one stays."
        store.end_job(job, "done" if is_accepted else "refused", now, said)
    return is_accepted


def enter_plan(store: Store, job: int, result: Mapping[str, Any], now: pd.Timestamp) -> None:
    """Store front, plan and predictions and close the journal entry."""
    plan = Plan.from_dict(plain(result["plan"]))
    predicted: pd.DataFrame = result["predicted"]
    made: pd.Timestamp = result["made"]
    start = plan.start
    known = store.forecast([str(n) for n in predicted.columns], predicted.index[0], start, at=now)
    # An hour of the past keeps the prediction that was made before it; only hours without one get it afterwards.
    missing = predicted[predicted.index < start].where(known.isna().to_numpy())
    with store.transaction():
        store.add_front(plain(result["front"]), made)
        store.put(FRONT_PLANS, {"made": made.isoformat(), **result["front_plans"]})
        store.add_plan(plan, made)
        store.add_forecast(pd.concat([missing, predicted[predicted.index >= start]]), made)
        store.end_job(job, "done", now, str(plan.meta.get("reason", "")))
