"""One EnergyPlus run; and EnergyPlus as a Predictor.

A run is described by values only, so that it can travel to another process or machine. Time: a run begins at midnight of local
*standard* time and lasts whole days; no daylight saving, no holidays, weekdays of the real calendar.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Building
from building.errors import (
    FailedRunError,
    IrregularTimeError,
    MissingColumnError,
    OutsideBoundsError,
    UnknownNameError,
    did_you_mean,
)
from building.plan import Plan
from building.predictor import GivenPast, Predictor, check_batch
from building.scenario import Scenario
from building.sun import beam_irradiance
from building.variables import Role, Signature
from simulation import knobs
from simulation.engine import engine_words, run_engine
from simulation.epjson import Epjson, hard_sized
from simulation.epw import Morph, find_weather, read_epw, write_morphed
from simulation.outputs import electric_coils, read_eso, requested, responses

Array = NDArray[np.float64]

STEPS_PER_HOUR = 4
SPIN_UP_H = 168
RAM_DISK = "/dev/shm" if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) else None


@dataclass(frozen=True)
class Run:
    """What one simulation needs.

    Attributes:
        weather: weather file, by name or path.
        parameters: value of every knob of the building; missing ones take the building's defaults.
        series: settings and occupancy shares, UTC index in steps of 15 or 60 min, whole days from local standard midnight.
        morph: a change of the weather, or None.
        adjust: a last edit of the model, by name of a function in this module's ADJUSTMENTS (efficiency checks), with its value.
    """

    weather: str
    parameters: Mapping[str, float]
    series: pd.DataFrame
    morph: Morph | None = None
    adjust: Mapping[str, float] = field(default_factory=dict)


def simulate(building: Building, run: Run, timeout_s: float = 600) -> pd.DataFrame:
    """Run EnergyPlus once, in a child process.

    The engine's own warm-up repeats the first day; drop the first `SPIN_UP_H` hours of the answer before judging anything.

    Args:
        building: names the model, its zones and knobs.
        run: what to simulate.
        timeout_s: wall seconds until the engine is killed.

    Returns:
        Hourly frame, UTC: every input of the building (weather as the engine saw it) and every output; plus the engine's final
        energies ``heating_gas`` and ``heating_electricity`` [W].

    Raises:
        FailedRunError: with the engine's own words. BadWeatherFileError, BadEpjsonError: a bad file.
        MissingColumnError, IrregularTimeError, NotFiniteError, SetpointsCrossError, OutsideBoundsError: bad series.
        UnknownNameError: a parameter without a knob.
    """
    epw_path = find_weather(run.weather)
    epw = read_epw(epw_path)
    step_min = _check_series(run.series, building, epw.utc_offset_h)
    series = quarter_hours(run.series) if step_min == 60 else run.series
    parameters = {**building.parameter_space.defaults(), **run.parameters}
    index = pd.date_range(
        run.series.index[0], run.series.index[-1] + pd.Timedelta(minutes=step_min), freq="60min", inclusive="left"
    )
    with tempfile.TemporaryDirectory(dir=RAM_DISK, prefix="setwise-") as name:
        folder = Path(name)
        epjson = build_epjson(building, run.weather, parameters, run.adjust)
        epjson["RunPeriod"] = {"run": _run_period(index, epw.utc_offset_h)}
        columns = knobs.driven(series, building)
        files = _schedule_files(columns, Plan(series).step_min, folder / "series.csv", epw.utc_offset_h)
        epjson["Schedule:File"] = {**epjson.get("Schedule:File", {}), **files}
        epjson.update(requested(building, with_final=True))
        weather_path = epw_path
        if run.morph is not None:
            weather_path = folder / "weather.epw"
            write_morphed(epw, run.morph, weather_path)
        (folder / "in.epJSON").write_text(json.dumps(epjson), encoding="utf-8")
        words = run_engine(["-w", str(weather_path), "-d", str(folder), str(folder / "in.epJSON")], folder, timeout_s)
        end = folder / "eplusout.end"
        if not end.exists() or "Successfully" not in end.read_text(encoding="utf-8"):
            raise FailedRunError(reason="no successful end was reported", engine=words or engine_words(folder))
        if [w for w in words.split(" | ") if w.startswith("Severe") and "did not converge" not in w.lower()]:
            raise FailedRunError(reason="severe lines in a run that ended", engine=words)
        frame = responses(read_eso(folder / "eplusout.eso"), building, index, electric_coils(epjson))
    beams = beam_irradiance(index, frame["direct_normal_irradiance"].to_numpy(), epw.latitude, epw.longitude)
    hourly = run.series if step_min == 60 else run.series.resample("60min").mean()
    constants = pd.DataFrame({n: parameters[n] for n in building.parameter_space.names}, index=index)
    joined = pd.concat([frame, beams, hourly[[*building.settings.names, *building.facts.occupancy]], constants], axis=1)
    extra = [c for c in frame if c not in building.inputs and c not in building.outputs]
    return joined[[*building.inputs.names, *building.outputs.names, *extra]]


def build_epjson(
    building: Building, weather: str, parameters: Mapping[str, float], adjust: Mapping[str, float] | None = None
) -> Epjson:
    """Return the hard-sized model with every parameter applied and room for the schedules.

    Raises:
        UnknownNameError: a parameter without a knob.
    """
    epjson = hard_sized(building.file(building.facts.energyplus_model), weather)
    next(iter(epjson["Timestep"].values()))["number_of_timesteps_per_hour"] = STEPS_PER_HOUR
    epw = read_epw(find_weather(weather))
    epjson["Site:Location"] = {
        epw.path.stem: {
            "latitude": epw.latitude,
            "longitude": epw.longitude,
            "time_zone": epw.utc_offset_h,
            "elevation": epw.elevation,
        }
    }
    knobs.prepare(epjson, building)
    for name, value in parameters.items():
        if name not in knobs.PARAMETERS:
            raise UnknownNameError(name=name, kind="knob", owner="the knob table", hint=did_you_mean(name, knobs.PARAMETERS))
        knobs.PARAMETERS[name](epjson, float(value), building)
    for name, value in (adjust or {}).items():
        ADJUSTMENTS[name](epjson, value)
    _make_room(epjson, building)
    return epjson


def _make_room(epjson: Epjson, building: Building) -> None:
    """Take out the schedules that the series of a run replace.

    Raises:
        UnknownNameError: building.toml names a schedule that the model does not have.
    """
    kinds = [t for t in epjson if t.startswith("Schedule:")]
    for name in building.facts.schedules:
        kind = next((t for t in kinds if name in epjson[t]), None)
        if kind is None:
            known = [n for t in kinds for n in epjson[t]]
            raise UnknownNameError(name=name, kind="schedule", owner="the model", hint=did_you_mean(name, known))
        del epjson[kind][name]


def _set_burner_efficiency(epjson: Epjson, value: float) -> None:
    for o in epjson.get("Coil:Heating:Fuel", {}).values():
        o["burner_efficiency"] = value


def _scale_cop(epjson: Epjson, factor: float) -> None:
    for o in epjson.get("Coil:Cooling:DX:SingleSpeed", {}).values():
        o["gross_rated_cooling_cop"] *= factor
    for o in epjson.get("Coil:Cooling:DX:TwoSpeed", {}).values():
        o["high_speed_gross_rated_cooling_cop"] *= factor
        o["low_speed_gross_rated_cooling_cop"] *= factor


def _scale_fan_pressure(epjson: Epjson, factor: float) -> None:
    apart = knobs.zone_fans(epjson)
    for kind in ("Fan:VariableVolume", "Fan:ConstantVolume", "Fan:OnOff"):
        for name, o in epjson.get(kind, {}).items():
            if name.lower() not in apart:
                o["pressure_rise"] *= factor
    for o in epjson.get("Fan:SystemModel", {}).values():
        o["design_electric_power_consumption"] *= factor
        o["design_pressure_rise"] *= factor


ADJUSTMENTS: dict[str, Callable[[Epjson, float], None]] = {
    "burner_efficiency": _set_burner_efficiency,
    "cop_factor": _scale_cop,
    "fan_pressure_factor": _scale_fan_pressure,
}
"""Efficiencies, which act after the predictor; here only so that the claim can be checked against the engine."""


def _check_series(series: pd.DataFrame, building: Building, utc_offset_h: float) -> int:
    """Return the step in minutes. Raises the errors of `simulate`."""
    wanted = [*building.settings.names, *building.facts.occupancy]
    missing = [c for c in wanted if c not in series]
    if missing:
        raise MissingColumnError(
            what="the series of a run", n_missing=len(missing), n_wanted=len(wanted), missing=", ".join(missing)
        )
    plan = Plan(series[wanted])  # refuses gaps, NaN and crossing setpoints
    plan.check(building.inputs.having(Role.SETTING, Role.OCCUPANCY))
    local = plan.start + pd.Timedelta(hours=utc_offset_h)
    if local != local.normalize() or (plan.end - plan.start) % pd.Timedelta(days=1):
        reason = f"a run is whole days from local standard midnight; this one starts at {local:%H:%M} local standard time"
        raise IrregularTimeError(what="the series of a run", step_min=plan.step_min, where=plan.start, reason=reason)
    return plan.step_min


def _run_period(index: pd.DatetimeIndex, utc_offset_h: float) -> dict[str, Any]:
    first = index[0] + pd.Timedelta(hours=utc_offset_h)
    last = index[-1] + pd.Timedelta(hours=utc_offset_h)
    return {
        "begin_year": first.year,
        "begin_month": first.month,
        "begin_day_of_month": first.day,
        "end_year": last.year,
        "end_month": last.month,
        "end_day_of_month": last.day,
        "use_weather_file_holidays_and_special_days": "No",
        "use_weather_file_daylight_saving_period": "No",
        "apply_weekend_holiday_rule": "No",
        "use_weather_file_rain_indicators": "Yes",
        "use_weather_file_snow_indicators": "Yes",
    }


def _schedule_files(series: pd.DataFrame, step_min: int, path: Path, utc_offset_h: float) -> dict[str, dict[str, Any]]:
    """Write one row per step of a year and return a Schedule:File per column, named as it."""
    per_day = 1440 // step_min
    local = pd.DatetimeIndex(series.index) + pd.Timedelta(hours=utc_offset_h)
    if ((local.month == 2) & (local.day == 29)).any():
        raise FailedRunError(reason="the period holds 29 February, which no weather file has; choose another", engine="")
    day = local.day_of_year.to_numpy() - 1 - ((local.is_leap_year) & (local.day_of_year.to_numpy() > 59))
    step = (local.hour.to_numpy() * 60 + local.minute.to_numpy()) // step_min
    # Rows outside the period are never read; they hold the first step so that no schedule is ever absurd.
    texts = [",".join(f"{x:.6g}" for x in row) for row in series.to_numpy(dtype=float)]
    lines = [texts[0]] * (365 * per_day)
    for place, text in zip((day * per_day + step).tolist(), texts, strict=True):
        lines[place] = text
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return {
        name: {
            "file_name": str(path),
            "column_number": i + 1,
            "rows_to_skip_at_top": 0,
            "number_of_hours_of_data": 8760,
            "column_separator": "Comma",
            "interpolate_to_timestep": "No",
            "minutes_per_item": step_min,
            "schedule_type_limits_name": "Any Number",
        }
        for i, name in enumerate(series.columns)
    }


class EnergyPlusPredictor:
    """EnergyPlus as a Predictor for one weather file and one start.

    The scenario's weather must be what the engine reports for that file and period (`simulate` returns it): the engine reads
    the file, not the array, so any other weather is refused.

    Args:
        building: the building.
        weather: weather file, by name or path.
        start: first hour of every scenario (UTC), local standard midnight.
        map: how runs are spread; the builtin runs one after the other.
    """

    def __init__(
        self,
        building: Building,
        weather: str,
        start: pd.Timestamp,
        map: Callable[[Callable[[Run], pd.DataFrame], Iterable[Run]], Iterable[pd.DataFrame]] = map,
    ) -> None:
        self.building = building
        self.weather = weather
        self.start = start
        self._map = map

    @property
    def inputs(self) -> Signature:
        """Channels of a scenario."""
        return self.building.inputs

    @property
    def outputs(self) -> Signature:
        """Channels of a response."""
        return self.building.outputs

    def predict(self, x_btc: Array) -> Array:
        """Simulate each scenario, shape (batch, time, inputs) -> (batch, time, outputs); see `Predictor`.

        Raises:
            ShapeError, FailedRunError. OutsideBoundsError: weather that is not the file's.
        """
        check_batch(x_btc, self.inputs)
        index = pd.date_range(self.start, periods=x_btc.shape[1], freq="60min")
        runs = [self._run(x_tc, index) for x_tc in x_btc]
        answers = []
        for x_tc, frame in zip(x_btc, self._map(_Simulation(self.building), runs), strict=True):
            self._check_weather(x_tc, frame)
            answers.append(frame[list(self.outputs.names)].to_numpy())
        return np.stack(answers)

    def given(self, past: Scenario) -> Predictor:
        """Fix a past; see `Predictor`."""
        return GivenPast(self, past)

    def _run(self, x_tc: Array, index: pd.DatetimeIndex) -> Run:
        frame = pd.DataFrame(x_tc, index=index, columns=list(self.inputs.names))
        parameters = {n: float(frame[n].iloc[0]) for n in self.building.parameter_space.names}
        return Run(self.weather, parameters, frame[[*self.building.settings.names, *self.building.facts.occupancy]])

    def _check_weather(self, x_tc: Array, frame: pd.DataFrame) -> None:
        c = self.inputs.position("outdoor_air_temperature")
        gap = np.abs(x_tc[:, c] - frame["outdoor_air_temperature"].to_numpy())
        gap[0] = 0.0  # between rows the engine interpolates, but a run has no row before its first
        if gap.max() > 0.1:
            t = int(gap.argmax())
            seen = float(frame["outdoor_air_temperature"].iloc[t])
            raise OutsideBoundsError(
                variable=f"outdoor_air_temperature at {frame.index[t]}", value=float(x_tc[t, c]), low=seen, high=seen, unit="degC"
            )


@dataclass(frozen=True)
class _Simulation:
    """`simulate` for one building, as a value that travels to workers."""

    building: Building

    def __call__(self, run: Run) -> pd.DataFrame:
        return simulate(self.building, run)


def quarter_hours(hourly: pd.DataFrame) -> pd.DataFrame:
    """Return hourly series in steps of 15 min, so that a share of an hour of `system_on` becomes whole quarters.

    Hours keep their value; `system_on` of 0.5 becomes two quarters on, late in the hour when the next hour is on, else early.
    Series without such shares stay hourly.
    """
    on = hourly["system_on"].to_numpy()
    if np.isin(on, (0.0, 1.0)).all():
        return hourly
    n_on = np.rint(on * 4).astype(int)
    late = np.append(on[1:], 0.0) > 0.5
    quarters = np.zeros((len(on), 4))
    for i in range(len(on)):
        quarters[i, 4 - n_on[i] :] = late[i]
        quarters[i, : n_on[i]] = np.maximum(quarters[i, : n_on[i]], not late[i])
    index = pd.date_range(hourly.index[0], periods=4 * len(on), freq="15min")
    out = pd.DataFrame(np.repeat(hourly.to_numpy(), 4, axis=0), index=index, columns=hourly.columns)
    out["system_on"] = quarters.ravel()
    return out
