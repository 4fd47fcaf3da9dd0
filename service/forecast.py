"""What was measured and what is expected, made whole: what a planning job stands on, and a sentence for every gap filled.

A predictor needs every input in every hour. Sensors fail and nobody forecasts wind; each rule below is stated, and what it did is
carried into the plan ("the plan says which"). A weather variable that was never measured and has no stand-in is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from building.checks import brought_inside
from building.description import Building
from building.errors import TooFewDataError
from building.plan import WeekProfile, week_places
from building.sun import BEAM_COLUMNS
from building.timeline import DAY_TYPES
from building.variables import Role, Signature
from service.store import Store

BRIDGED_H = 6
"""Gaps in weather up to this long are bridged linearly, gaps in settings and occupancy by the last value."""
PERSISTENCE_DAYS = 3
"""Where no forecast is stored, an hour of the coming week is the mean of the same hour on the last days measured."""
PROFILE_DAYS = 28
"""Occupancy is expected as it was measured on the same type of day, over so many days."""
CALM_WIND = 3.5
"""Wind speed [m/s] for a building without anemometer: near the mean of inland weather files."""


@dataclass(frozen=True)
class Series:
    """Hourly inputs without gaps.

    Attributes:
        frame: hourly UTC, a column per series input.
        sources: by variable, where its values come from, for people.
        outside: by variable, what lay outside the bounds and was brought inside (see `checks.brought_inside`).
    """

    frame: pd.DataFrame
    sources: dict[str, str]
    outside: dict[str, str] = field(default_factory=dict)


def measured_series(store: Store, building: Building, outputs: Signature, start: pd.Timestamp, end: pd.Timestamp) -> Series:
    """Return everything measured from `start` to `end`, hourly, NaN where nothing was; beams computed from the sun.

    Wind and pressure without any reading get a stand-in, and `sources` says so; other columns keep their gaps.

    Raises:
        TooFewDataError: another weather variable without any reading.
    """
    names = [n for n in (*_series_inputs(building.inputs), *outputs.names) if n not in BEAM_COLUMNS]
    frame = store.hourly(names, start, end)
    sources = {}
    for v in building.inputs.having(Role.WEATHER):
        if v.name not in BEAM_COLUMNS and frame[v.name].isna().all():
            frame[v.name], sources[v.name] = _stand_in(building, v.name)
    return Series(_with_sun(building, frame), sources)


def past_inputs(measured: Series, building: Building, own: WeekProfile, bounds: Signature) -> Series:
    """Return the measured hours with their inputs made whole; outputs keep their gaps.

    Weather: gaps up to `BRIDGED_H` linearly, longer ones by the mean of the same hour on other days. Settings and occupancy: the
    last value for `BRIDGED_H`, then `own`.

    Args:
        measured: `measured_series`' answer.
        building: its inputs decide the columns.
        own: the building's own schedule; settings and occupancy.
        bounds: inputs of the predictor; what lies outside their bounds is brought inside, and `outside` says so.
    """
    frame = measured.frame.copy()
    profile = own.unroll(pd.DatetimeIndex(frame.index), building.site.time_zone)
    sources: dict[str, str] = {}
    for variable in building.inputs:
        name = variable.name
        if variable.role is Role.PARAMETER or name in BEAM_COLUMNS:
            continue
        series = frame[name]
        n_missing = int(series.isna().sum())
        if variable.role is Role.WEATHER:
            filled = series.interpolate(method="time", limit=BRIDGED_H, limit_area="inside")
            filled = filled.fillna(_same_hour_mean(series)).interpolate(method="time", limit_direction="both")
            rule = f"up to {BRIDGED_H} h bridged, longer gaps by the same hour of other days"
        else:
            filled = series.ffill(limit=BRIDGED_H).fillna(profile[name])
            rule = f"last value for {BRIDGED_H} h, then the own schedule"
        frame[name] = filled
        sources[name] = "measured" if n_missing == 0 else f"measured but for {n_missing} of {len(series)} h ({rule})"
    frame, outside = brought_inside(frame, _measurable(bounds))
    return Series(_with_sun(building, frame), sources | measured.sources, outside)


def expected_inputs(
    store: Store,
    measured: pd.DataFrame,
    past: pd.DataFrame,
    building: Building,
    own: WeekProfile,
    bounds: Signature,
    start: pd.Timestamp,
    horizon_h: int,
    at: pd.Timestamp,
) -> Series:
    """Return the series inputs of the coming hours: stored forecasts where there are any, else the fallback rules.

    Weather falls back to the mean of the same hour on the last `PERSISTENCE_DAYS` days; occupancy to its mean on the same type of
    day over the last `PROFILE_DAYS` days, then to the own schedule; settings are the own schedule.

    Args:
        store: asked for forecasts.
        measured: the hours before as they were measured, with gaps: what occupancy is expected from.
        past: the same, as `past_inputs` completed them: what weather is expected from.
        building: its inputs decide the columns.
        own: the building's own schedule.
        bounds: as for `past_inputs`.
        start: first hour.
        horizon_h: how many.
        at: forecasts issued later do not count.
    """
    index = pd.date_range(start, periods=horizon_h, freq="h")
    names = [n for n in _series_inputs(building.inputs) if n not in BEAM_COLUMNS]
    stored = store.forecast(names, start, start + pd.Timedelta(hours=horizon_h), at=at)
    profile = own.unroll(index, building.site.time_zone)
    columns: dict[str, pd.Series] = {}
    sources: dict[str, str] = {}
    for variable in building.inputs.only(names):
        name = variable.name
        if variable.role is Role.SETTING:
            columns[name], sources[name] = profile[name], "own schedule"
            continue
        known = stored[name]
        bridged = known.interpolate(method="time", limit=BRIDGED_H, limit_area="inside")
        if variable.role is Role.WEATHER:
            fallback = _persistence(past[name], index)
            rule = f"mean of the last {PERSISTENCE_DAYS} days by hour"
        else:
            fallback = _usual(measured[name], index, building.site.time_zone).fillna(profile[name])
            rule = f"as measured on the same type of day over the last {PROFILE_DAYS} days, else the own schedule"
        columns[name] = bridged.fillna(fallback)
        n_stored = int(bridged.notna().sum())
        if n_stored == len(index):
            sources[name] = "forecast"
        elif n_stored == 0:
            sources[name] = rule
        else:
            sources[name] = f"forecast for {n_stored} h, then {rule}"
    frame, outside = brought_inside(pd.DataFrame(columns, index=index), _measurable(bounds))
    return Series(_with_sun(building, frame), sources, outside)


def _series_inputs(inputs: Signature) -> Sequence[str]:
    return [v.name for v in inputs if v.role is not Role.PARAMETER]


def _measurable(bounds: Signature) -> Signature:
    """Return the series that are given rather than computed: the beams follow from the direct irradiance brought inside."""
    return bounds.only(n for n in _series_inputs(bounds) if n not in BEAM_COLUMNS)


def _with_sun(building: Building, frame: pd.DataFrame) -> pd.DataFrame:
    wanted = [c for c in BEAM_COLUMNS if c in building.inputs]
    if not wanted:
        return frame
    whole = building.with_sun(frame)
    return whole.drop(columns=[c for c in BEAM_COLUMNS if c not in wanted])


def _same_hour_mean(series: pd.Series) -> pd.Series:
    hours = pd.DatetimeIndex(series.index).hour
    return series.groupby(hours).transform("mean")


def _persistence(past: pd.Series, index: pd.DatetimeIndex) -> pd.Series:
    recent = past.iloc[-24 * PERSISTENCE_DAYS :]
    by_hour = recent.groupby(pd.DatetimeIndex(recent.index).hour).mean().reindex(range(24)).interpolate(limit_direction="both")
    return pd.Series(by_hour.to_numpy()[index.hour], index=index)


def _usual(past: pd.Series, index: pd.DatetimeIndex, time_zone: str) -> pd.Series:
    """Return the mean of `past` on the same type of day and local hour; NaN where it has none."""
    recent = past.iloc[-24 * PROFILE_DAYS :].dropna()
    table = np.full((len(DAY_TYPES), 24), np.nan)
    if len(recent):
        day, hour = week_places(pd.DatetimeIndex(recent.index), time_zone)
        means = recent.groupby(day * 24 + hour).mean()
        table.flat[np.asarray(means.index, dtype=int)] = means.to_numpy()
    day, hour = week_places(index, time_zone)
    return pd.Series(table[day, hour], index=index)


def _stand_in(building: Building, name: str) -> tuple[float, str]:
    if name == "outdoor_air_pressure":
        # International standard atmosphere (ISO 2533), troposphere.
        value = 101325.0 * (1 - 2.25577e-5 * building.site.elevation) ** 5.25588
        return value, "no sensor: standard atmosphere at the site's elevation"
    if name == "wind_speed":
        return CALM_WIND, f"no sensor: {CALM_WIND} m/s throughout"
    hint = "Connect this sensor, or a weather service that publishes it, and wait for its readings."
    raise TooFewDataError(what=f"'{name}'", found=0, wanted=1, hint=hint)
