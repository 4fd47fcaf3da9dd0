"""What was saved, from what was measured and from how the building was really run.

A switchback trial (`[savings] trial`) says for each local day whether it runs the plan or the building's own schedule; the guard
follows (`own_day`). Every step the service notes how the building was run (`regime_now`): a day that was not run as the trial
asked (an override, a plan too old, a broker away, a service that stood still) is left out, and the report says why. Without a
trial the days before the first plan are the baseline; that is IPMVP option C and hangs on a model of the weather, so the report
calls it model-based. The statistics are calibration/savings.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Building, load_building
from building.documents import plain
from building.indices.comfort import comfort_band, distance_outside, is_occupied
from building.indices.energy import HVAC_OUTPUTS, final_power
from building.units import CO2, TEMPERATURE
from building.variables import Role
from calibration.savings import LEAST_DAYS, Savings, savings, switchback
from service.config import Config, PublishSection, SavingsSection
from service.guard import Guarded
from service.orders import Told
from service.store import RegimeRecord, SqlStore, Store

KEY = "savings"
"""Under this key the store keeps the last report."""
MOST_ASTRAY_MIN = 60
"""A day counts when it was run otherwise than it should be for at most so long."""
BRIDGED_H = 2
"""Gaps in a power up to this long are bridged linearly; a day with a longer one is left out."""
LONGEST_DAYS = 365
"""Without a trial: so many days before the first plan, and so many last days, at most."""
_CHUNK_DAYS = 28
"""So many days are read from the store at a time: memory stays flat over two years."""
_DAY_MIN = 1440

SOURCES = {
    "switchback": "switchback trial; IPMVP option C (adjusted baseline on the own days), interval after ASHRAE Guideline 14-2002 "
    "B-15",
    "before_after": "model-based: IPMVP option C, baseline regressed on outdoor temperature and weekend before the first plan; "
    "whatever else changed since (people, equipment, season) counts as saving. Interval after ASHRAE Guideline 14-2002 B-15",
}
"""By method: what it is and where it is from."""


# -- the trial


@lru_cache(maxsize=8)
def _drawn(told: SavingsSection) -> Mapping[date, str]:
    if told.trial == "none":
        return {}
    days = switchback(date.fromisoformat(told.start), told.weeks, np.random.default_rng(told.seed), told.trial)
    return dict(zip(days.index, days, strict=True))


def assigned(told: SavingsSection, day: date) -> str:
    """Return what the trial asks for on a local day: ``plan``, ``own``, or nothing outside a trial."""
    return _drawn(told).get(day, "")


def local_day(instant: pd.Timestamp, building: Building) -> date:
    """Return the date at the building."""
    return date.fromisoformat(f"{instant.tz_convert(building.site.time_zone):%Y-%m-%d}")


def own_day(told: SavingsSection, building: Building, now: pd.Timestamp) -> str:
    """Return why the own schedule rules today, or nothing."""
    today = local_day(now, building)
    if assigned(told, today) != "own":
        return ""
    return f"switchback day {_number_of(told, today)} of {7 * told.weeks}"


def trial_now(told: SavingsSection, building: Building, now: pd.Timestamp) -> dict[str, Any] | None:
    """Return how the trial stands today; None without one."""
    if told.trial == "none":
        return None
    first, today = date.fromisoformat(told.start), local_day(now, building)
    last = first + timedelta(days=7 * told.weeks - 1)
    state = "to come" if today < first else "over" if today > last else "running"
    return {
        "block": told.trial,
        "start": first,
        "end": last,
        "seed": told.seed,
        "washout_h": told.washout_h,
        "state": state,
        "today": assigned(told, today) or None,
        "day": _number_of(told, today) if state == "running" else None,
        "n_days": 7 * told.weeks,
    }


def _number_of(told: SavingsSection, day: date) -> int:
    return (day - date.fromisoformat(told.start)).days + 1


def next_step(config: Config, trial: Mapping[str, Any] | None, kept: Mapping[str, Any] | None) -> str:
    """Return what comes next, or what to do, in a sentence."""
    if trial is None:
        advice = "A switchback trial proves more than before and after: set [savings] trial and start."
        return advice if kept is not None else f"The report is made by the savings job ({config.jobs.savings}). {advice}"
    if trial["state"] == "to come":
        return f"The trial begins on {trial['start']}."
    if trial["state"] == "running":
        side = _SIDES[trial["today"]]
        return f"Day {trial['day']} of {trial['n_days']}, today {side}; the trial ends on {trial['end']}."
    return f"The trial ended on {trial['end']}; the plan is followed every day. Another start begins another trial."


# -- how the building is run, noted at each step


def regime_now(
    config: Config,
    building: Building,
    guarded: Guarded,
    told: Told,
    reaching: Mapping[str, float],
    hindrance: str,
    now: pd.Timestamp,
) -> RegimeRecord:
    """Return how the building is run during the step that begins at `now`.

    Args:
        config: step and trial.
        building: its time zone.
        guarded: what the guard gave.
        told: mode and overrides.
        reaching: settings that leave and have a command topic.
        hindrance: why the BMS does not take what leaves; empty when it does.
        now: UTC.
    """
    held = tuple(sorted(told.in_force(now)))
    why = next((a.why for a in guarded.actions if a.setting is None), "")
    if told.mode in ("watch", "maintenance"):
        run, why = "none", f"mode {told.mode}: nothing was sent"
    elif told.mode == "advise" and not set(reaching) - set(held):
        run, why = "own", "no plan was confirmed"  # nothing of ours reaches the BMS: it runs its own schedule
    elif hindrance or not reaching:
        run, why = "none", hindrance or "no setting has a command topic"
    else:
        run = "own" if guarded.plan_id is None else "plan"
    return RegimeRecord(
        now, _end_of_step(now, config.publish), run, assigned(config.savings, local_day(now, building)), held, why
    )


def _end_of_step(now: pd.Timestamp, told: PublishSection) -> pd.Timestamp:
    step = f"{told.step_min}min"
    return now.floor(step) + pd.Timedelta(step)


# -- the report


def savings_job(config: Config, now: pd.Timestamp, *_unused: Any) -> dict[str, Any]:
    """Body of a savings job: open the store, report, return plain data."""
    store = SqlStore(config.store.url.get_secret_value())
    try:
        return {"made": now, "report": report(store, load_building(config.building.name), config, now)}
    finally:
        store.close()


def report(store: Store, building: Building, config: Config, now: pd.Timestamp) -> dict[str, Any]:
    """Return the savings report, up to yesterday.

    A switchback report once a trial has begun, else before and after.

    Args:
        store: measured hours, and how the building was run.
        building: zones, limits, efficiencies.
        config: the trial.
        now: UTC.
    """
    told, today = config.savings, local_day(now, building)
    regimes = store.regimes(pd.Timestamp(0, tz="UTC"), now)
    trial = trial_now(told, building, now)
    if trial is not None and trial["state"] != "to come":
        method, first, last = "switchback", trial["start"], min(trial["end"] + timedelta(days=1), today)
        days = [first + timedelta(days=i) for i in range((last - first).days)]
        verdicts = _switchback_sides(told, building, regimes, days)
    else:
        method = "before_after"
        days = _days_before_after(store, building, regimes, now)
        verdicts = _before_after_sides(building, regimes, days)
    lived, energy = lived_days(store, building, days, told.washout_h if method == "switchback" and told.trial == "day" else 0)
    table = lived.assign(side=[side for side, _ in verdicts], left_out=[why for _, why in verdicts])
    return {"energy": energy, "currency": building.facts.currency, **judged(table, method, told.confidence)}


def judged(days: pd.DataFrame, method: str, confidence: float) -> dict[str, Any]:
    """Judge a table of days.

    Args:
        days: by local date: ``energy_kwh``, ``outdoor_air_temperature``, ``side``, and if there are ``left_out`` (why a day does
            not count; empty where it does), ``discomfort``, ``co2_excess``, ``co2``.
        method: a key of `SOURCES`.
        confidence: two-sided.

    Returns:
        Plain data: the figures, both arms, every day with what the baseline says of it, and `said`, the whole in a sentence.
    """
    days = days.assign(left_out=days.get("left_out", ""))
    unmeasured = days[["energy_kwh", "outdoor_air_temperature"]].isna().any(axis=1) & (days["left_out"] == "")
    days.loc[unmeasured, "left_out"] = "energy or outdoor temperature was not measured for more than two hours together"
    used = days[days["left_out"] == ""]
    own = used[used["side"] == "own"]
    if len(own):
        low, high = own["outdoor_air_temperature"].min(), own["outdoor_air_temperature"].max()
        beyond = (days["left_out"] == "") & (days["side"] == "plan") & ~days["outdoor_air_temperature"].between(low, high)
        days.loc[beyond, "left_out"] = f"outside {low:.1f} .. {high:.1f} degC, the weather of the own days: no baseline for it"
        used = days[days["left_out"] == ""]
    n = {side: int((used["side"] == side).sum()) for side in ("own", "plan")}
    found = (
        savings(used[["energy_kwh", "outdoor_air_temperature", "side"]], confidence) if min(n.values()) >= LEAST_DAYS else None
    )
    expected = {} if found is None else found.expected_kwh
    told: dict[str, Any] = plain(
        {
            "method": method,
            "is_model_based": method != "switchback",
            "source": SOURCES[method],
            "said": _said(found, n, days),
            "is_enough": found is not None,
            "n_own": n["own"],
            "n_plan": n["plan"],
            "least_days": LEAST_DAYS,
            "confidence": confidence,
            **_figures(found),
            "arms": {side: _arm(used[used["side"] == side]) for side in ("own", "plan")},
            "left_out": {str(why): int(k) for why, k in days["left_out"].value_counts().items() if why},
            "days": [
                {
                    "day": f"{day}",
                    "side": row["side"] or None,
                    "energy_kwh": row["energy_kwh"],
                    "expected_kwh": expected.get(day),
                    "outdoor_air_temperature": row["outdoor_air_temperature"],
                    "left_out": row["left_out"] or None,
                }
                for day, row in zip(days.index, days.to_dict("records"), strict=True)
            ],
        }
    )
    return told


def _figures(found: Savings | None) -> dict[str, Any]:
    names = ("baseline_kwh", "reported_kwh", "saved_kwh", "saved_low_kwh", "saved_high_kwh", "saving", "low", "high", "cv_rmse")
    if found is None:
        return {**dict.fromkeys(names), "is_shown": None}
    low, high = found.saving - found.uncertainty, found.saving + found.uncertainty
    shares = (found.saving, low, high)
    values = (found.baseline_kwh, found.reported_kwh, *(s * found.baseline_kwh for s in shares), *shares, found.cv_rmse)
    return {**dict(zip(names, values, strict=True)), "is_shown": found.is_shown}


def _said(found: Savings | None, n: Mapping[str, int], days: pd.DataFrame) -> str:
    n_out = int((days["left_out"] != "").sum())
    outside = f" {n_out} of {len(days)} days were left out; the list says why." if n_out else ""
    if found is None:
        wanted = " and ".join(f"{n[side]} of {LEAST_DAYS} days under {what}" for side, what in _SIDES.items())
        return f"Not enough days yet: {wanted}.{outside}"
    kwh, half = found.saving * found.baseline_kwh, found.uncertainty * found.baseline_kwh
    verb = "Saved" if found.saving >= 0 else "Used more:"
    shown = (
        "" if found.is_shown else " By Guideline 14 that is not shown yet: the interval at 68 % is wider than half the saving."
    )
    return (
        f"{verb} {abs(kwh):.0f} kWh, {100 * abs(found.saving):.1f} % of {found.baseline_kwh:.0f} kWh, over {found.n_plan} days "
        f"under the plan against {found.n_own} under the own schedule; {100 * found.confidence:.0f} % interval of what was saved "
        f"{kwh - half:.0f} .. {kwh + half:.0f} kWh.{shown}{outside}"
    )


_SIDES = {"own": "the own schedule", "plan": "the plan"}


def _arm(days: pd.DataFrame) -> dict[str, float | None]:
    """Return the means of one side's days: energy, its cost, weather; discomfort [K.h per zone and day], CO2 [ppm.h, ppm]."""
    names = ("energy_kwh", "cost", "outdoor_air_temperature", "discomfort", "co2_excess", "co2")
    return {name: days[name].mean() if name in days and len(days) else None for name in names}


# -- which side a day is on


def _switchback_sides(
    told: SavingsSection, building: Building, regimes: Sequence[RegimeRecord], days: Sequence[date]
) -> list[tuple[str, str]]:
    washed = _washed_out(told, days)
    verdicts = []
    for day, minutes in _minutes(building, regimes, days, told.washout_h if told.trial == "day" else 0):
        side, why = assigned(told, day), ""
        asked = {regimes[i].assigned for i in minutes if i >= 0}
        if day in washed:
            why = f"washout: the first {told.washout_h} h after a switch"
        elif asked and asked != {side}:
            why = "the trial was set up otherwise on that day"
        else:
            why = _astray(side, regimes, minutes)
        verdicts.append((side, why))
    return verdicts


def _washed_out(told: SavingsSection, days: Sequence[date]) -> set[date]:
    """Return the days that follow a switch of a trial by weeks too closely."""
    if told.trial != "week":
        return set()
    washed: set[date] = set()
    for day in days:
        if assigned(told, day) != assigned(told, day - timedelta(days=1)):
            washed |= {day + timedelta(days=i) for i in range(math.ceil(told.washout_h / 24))}
    return washed


def _astray(side: str, regimes: Sequence[RegimeRecord], minutes: Mapping[int, int]) -> str:
    """Return why a day was not run as its side asks; nothing when it was, but for `MOST_ASTRAY_MIN`."""
    lost: dict[str, int] = {}
    for i, n in minutes.items():
        if i < 0:
            why = "the service did not run"
        elif regimes[i].held:
            why = f"a person held {', '.join(regimes[i].held)}"
        elif regimes[i].run == side:
            continue
        else:
            why = regimes[i].why or f"the {'plan' if regimes[i].run == 'plan' else 'own schedule'} was followed"
        lost[why] = lost.get(why, 0) + n
    if sum(lost.values()) <= MOST_ASTRAY_MIN:
        return ""
    worst = max(lost, key=lambda why: lost[why])
    return f"run otherwise for {sum(lost.values()) / 60:.1f} h: {worst}"


def _days_before_after(store: Store, building: Building, regimes: Sequence[RegimeRecord], now: pd.Timestamp) -> list[date]:
    followed = [r for r in regimes if r.run == "plan"]
    today = local_day(now, building)
    first = local_day(followed[0].since, building) if followed else today
    before = [first - timedelta(days=i) for i in range(LONGEST_DAYS, 0, -1)]
    after = [first + timedelta(days=i) for i in range((today - first).days)][-LONGEST_DAYS:]
    heard = store.hourly(["outdoor_air_temperature"], _midnight(before[0], building), _midnight(first, building))
    measured = heard["outdoor_air_temperature"].first_valid_index()
    began = first if measured is None else local_day(pd.Timestamp(str(measured)), building)
    return [day for day in before if day >= began] + after


def _before_after_sides(building: Building, regimes: Sequence[RegimeRecord], days: Sequence[date]) -> list[tuple[str, str]]:
    followed = [r for r in regimes if r.run == "plan"]
    first = local_day(followed[0].since, building) if followed else date.max
    verdicts = []
    for day, minutes in _minutes(building, regimes, days, 0):
        if day >= first:
            verdicts.append(("plan", _astray("plan", regimes, minutes)))
        else:
            held = sum(n for i, n in minutes.items() if i >= 0 and regimes[i].held)
            verdicts.append(("own", "a person held a setting" if held > MOST_ASTRAY_MIN else ""))
    return verdicts


def _minutes(
    building: Building, regimes: Sequence[RegimeRecord], days: Sequence[date], from_h: int
) -> list[tuple[date, dict[int, int]]]:
    """Return by day how many minutes each record held, by its place; -1 where there is none. The later word is the valid one."""
    found = []
    for day in days:
        start, end = _midnight(day, building) + pd.Timedelta(hours=from_h), _midnight(day + timedelta(days=1), building)
        of_minute = np.full(int((end - start) / pd.Timedelta(minutes=1)), -1)
        for i, r in enumerate(regimes):
            if r.until > start and r.since < end:
                edges = [int(max(0.0, (t - start) / pd.Timedelta(minutes=1))) for t in (r.since, r.until)]
                of_minute[edges[0] : edges[1]] = i
        places, counts = np.unique(of_minute, return_counts=True)
        found.append((day, dict(zip(places.tolist(), counts.tolist(), strict=True))))
    return found


def _midnight(day: date, building: Building) -> pd.Timestamp:
    return pd.Timestamp(day).tz_localize(building.site.time_zone, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")


# -- what was measured on each day


def lived_days(store: Store, building: Building, days: Sequence[date], from_h: int = 0) -> tuple[pd.DataFrame, str]:
    """Return what was measured on each local day, and what its energy is made of.

    Args:
        store: measured hours.
        building: zones, limits, efficiencies.
        days: local dates, rising.
        from_h: hours after midnight that are left out of energy, comfort and air.

    Returns:
        A row per day: ``energy_kwh``, ``cost`` [the building's currency], ``outdoor_air_temperature`` (daily mean),
        ``discomfort`` [K.h per zone], ``co2_excess`` [ppm.h per zone], ``co2`` (mean of occupied hours) [ppm]; NaN where it was
        not measured.
    """
    columns = ["energy_kwh", "cost", "outdoor_air_temperature", "discomfort", "co2_excess", "co2"]
    powers, energy = _metered(store, building)
    chunks = [pd.DataFrame(columns=columns, dtype=float)]
    for i in range(0, len(days), _CHUNK_DAYS):
        of = list(days[i : i + _CHUNK_DAYS])
        start, end = _midnight(of[0], building), _midnight(of[-1] + timedelta(days=1), building)
        chunks.append(_lived_chunk(store, building, powers, start, end, from_h).reindex(of))
    found = pd.concat([c for c in chunks if len(c)] or chunks)
    return found.reindex(columns=columns), energy


def _metered(store: Store, building: Building) -> tuple[list[str], str]:
    outputs = building.outputs.names
    heard = store.last([n for n in (*HVAC_OUTPUTS, "facility_electricity") if n in outputs])
    powers = [n for n in HVAC_OUTPUTS if n in heard]
    silent = [n for n in HVAC_OUTPUTS if n in outputs and n not in heard]
    if powers:
        missing = f"; not measured: {', '.join(silent)}" if silent else ""
        return powers, f"HVAC site energy from {', '.join(powers)}, at the efficiencies of building.toml{missing}"
    if "facility_electricity" in heard:
        return ["facility_electricity"], "electricity of the whole building: no HVAC consumption is measured"
    return [], "no consumption is measured"


def _lived_chunk(
    store: Store, building: Building, powers: Sequence[str], start: pd.Timestamp, end: pd.Timestamp, from_h: int
) -> pd.DataFrame:
    zone = building.site.time_zone
    temperatures, co2s = (list(building.outputs.having(Role.INDOOR, quantity=q).names) for q in (TEMPERATURE, CO2))
    outdoor = store.hourly(["outdoor_air_temperature"], start - pd.Timedelta(days=14), end)["outdoor_air_temperature"]
    outdoor = outdoor.interpolate(limit=BRIDGED_H, limit_area="inside")
    frame = store.hourly([*powers, *temperatures, *co2s, "occupancy_share"], start, end)
    index = pd.DatetimeIndex(frame.index)
    local = index.tz_convert(zone)
    y = pd.DataFrame(0.0, index=index, columns=list(building.outputs.names))
    bridged = frame[list(powers)].interpolate(limit=BRIDGED_H, limit_area="inside")
    y[list(powers)] = bridged
    if "facility_electricity" in powers:
        by_carrier = {"electricity": y["facility_electricity"].to_numpy()}
    else:
        by_carrier = final_power(y.to_numpy(), building.outputs, building.efficiency).hvac_by_carrier()
    kwh = sum(by_carrier.values()) / 1000
    share = frame["occupancy_share"].fillna(building.own_schedule().unroll(index, zone)["occupancy_share"])
    occupied = is_occupied(share.to_numpy(), building.limits)
    low, high = comfort_band(pd.DatetimeIndex(outdoor.index), outdoor.bfill().ffill().fillna(12.0), zone, building.limits)
    band = slice(len(outdoor) - len(frame), None)
    ceiling = building.site.outdoor_co2 + building.limits["co2_above_outdoor"]
    hours = pd.DataFrame(
        {
            "energy_kwh": kwh if powers else np.nan,
            "cost": _cost(building, by_carrier, local) if powers else np.nan,
            "outdoor_air_temperature": outdoor.iloc[band].to_numpy(),
            "discomfort": _mean(distance_outside(frame[temperatures].to_numpy(), low[band], high[band])) * occupied,
            "co2_excess": _mean(np.maximum(frame[co2s].to_numpy() - ceiling, 0.0)) * occupied,
            "co2": np.where(occupied, _mean(frame[co2s].to_numpy()), np.nan),
        },
        index=index,
    )
    judged_hours = hours[local.hour >= from_h].drop(columns="outdoor_air_temperature")
    by_day = judged_hours.groupby(local[local.hour >= from_h].date)
    sums = by_day.sum(min_count=1)
    sums["co2"] = by_day["co2"].mean()
    sums.loc[by_day["energy_kwh"].apply(lambda e: bool(e.isna().any())), ["energy_kwh", "cost"]] = np.nan
    weather = hours["outdoor_air_temperature"].groupby(local.date)
    return sums.assign(outdoor_air_temperature=weather.mean().where(~weather.apply(lambda t: bool(t.isna().any()))))


def _cost(building: Building, by_carrier: Mapping[str, NDArray[np.float64]], local: pd.DatetimeIndex) -> NDArray[np.float64]:
    """Return what each hour cost by the building's tariffs, in its currency; NaN where a carrier has no price."""
    if not by_carrier.keys() <= building.carriers.keys():
        return np.full(len(local), np.nan)
    total = np.zeros(len(local))
    for name, power in by_carrier.items():
        of = building.carriers[name]
        price = of.price if of.price_by_hour is None else np.asarray(of.price_by_hour, dtype=float)[local.hour]
        total += power / 1000 * price
    return total


def _mean(values_tz: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean over the zones that were measured, NaN where none was, shape (time, zone) -> (time,)."""
    known = np.isfinite(values_tz)
    n = known.sum(axis=1)
    return np.where(n > 0, np.where(known, values_tz, 0.0).sum(axis=1) / np.maximum(n, 1), np.nan)
