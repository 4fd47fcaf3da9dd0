"""Building: zones, site, files, variables and spaces; read from a strict building.toml.

An unknown key is an error with a did-you-mean; a missing key names itself. `load_building("medium_office")` finds the folder
in `buildings/` of the present folder or of setwise; a path to any folder with a building.toml works as well. Files it names
(the simulator's model, the weather) lie in that folder, or are the simulator's own, or are found by path.
"""

from __future__ import annotations

import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from building.errors import BadDescriptionError, MissingColumnError, ShapeError, UnknownKeyError, UnknownNameError, did_you_mean
from building.indices.limits import Limits, with_overrides
from building.parameters import Parameter, ParameterSpace
from building.plan import WeekProfile
from building.sun import beam_irradiance
from building.units import quantity
from building.variables import Role, Signature, Variable

BUILDINGS = Path(os.environ.get("SETWISE_BUILDINGS", Path(__file__).resolve().parent.parent / "buildings"))

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A section of a TOML file: frozen, and no key without a reader."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Site(Strict):
    """Where the building stands."""

    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    elevation: float = 0.0  # m
    time_zone: str
    weather: str  # name of a weather file of the simulator, or a path
    outdoor_co2: float = 420.0  # ppm

    @field_validator("time_zone")
    @classmethod
    def _exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as e:
            raise ValueError("not an IANA time zone such as Europe/Paris") from e
        return name


class Zone(Strict):
    """One conditioned zone."""

    name: str
    floor_area: float = Field(gt=0)  # m2
    volume: float = Field(gt=0)  # m3
    multiplier: float = Field(default=1.0, gt=0)
    in_model: str | None = None  # its name in the simulator's model, where that is another

    @property
    def model_name(self) -> str:
        """Its name in the simulator's model."""
        return self.in_model or self.name


class Follows(Strict):
    """What a schedule of the simulator's model follows: value = at_zero + (at_one - at_zero) * input."""

    input: str
    at_zero: float = 0.0
    at_one: float = 1.0


class Declared(Strict):
    """A variable as declared in building.toml; its name is the table's."""

    quantity: str
    low: float
    high: float
    meaning: str = ""

    @model_validator(mode="after")
    def _bounds_rise(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}")
        return self


class DeclaredParameter(Declared):
    """A parameter of the building, with its place in the search space."""

    scale: Literal["linear", "log", "choice"] = "linear"
    choices: tuple[float, ...] = ()  # of a choice
    default: float | None = None

    @model_validator(mode="after")
    def _default_lies_inside(self) -> Self:
        if self.default is not None and not self.low <= self.default <= self.high:
            raise ValueError(f"the default {self.default:g} lies outside {self.low:g} .. {self.high:g}")
        return self


class DeclaredSetting(Declared):
    """A setting of the BMS."""

    ramp: float | None = None  # greatest change per hour, None for free


class Efficiency(Strict):
    """Efficiencies that act after the predictor; the reference values are those the predictor was made with."""

    burner: float = Field(default=0.8, gt=0, le=1.1)  # a condensing boiler passes 1 on the lower heating value
    cooling_cop: float = Field(gt=0)
    reference_cooling_cop: float = Field(gt=0)
    fan_pressure: float = Field(gt=0)  # Pa
    reference_fan_pressure: float = Field(gt=0)  # Pa


class Carrier(Strict):
    """Price and emissions of one energy carrier; figures are data, with their source."""

    price: float  # currency per kWh
    price_by_hour: list[float] | None = Field(default=None, min_length=24, max_length=24)  # local hours, replaces `price`
    emission: float  # kg CO2e per kWh
    source: str


class BuildingFile(Strict):
    """building.toml as it stands."""

    name: str
    title: str
    currency: str = "EUR"
    site: Site
    energyplus_model: str
    zones: list[Zone]
    weather: dict[str, Declared]
    occupancy: dict[str, Declared]
    parameters: dict[str, DeclaredParameter]
    settings: dict[str, DeclaredSetting]
    zone_outputs: dict[str, Declared]
    outputs: dict[str, Declared]
    efficiency: Efficiency
    carriers: dict[str, Carrier]
    schedules: dict[str, Follows] = {}  # schedules of the simulator's model that follow a setting or an occupancy share
    limits: dict[str, float] = {}  # overrides of building/indices limits, by name

    @model_validator(mode="after")
    def _schedules_follow_something(self) -> Self:
        for name, follows in self.schedules.items():
            if follows.input not in {**self.settings, **self.occupancy}:
                raise ValueError(f"the schedule '{name}' follows '{follows.input}', which is no setting and no occupancy share")
        return self


class Building:
    """A building in its own words. See `BuildingFile` for the facts; the properties below are what the walk uses."""

    def __init__(self, facts: BuildingFile, folder: Path) -> None:
        self.facts = facts
        self.folder = folder
        self.name = facts.name
        self.site = facts.site.model_copy(update={"weather": self.file(facts.site.weather)})
        self.zones = facts.zones
        self.efficiency = facts.efficiency
        self.carriers = facts.carriers

    def file(self, name: str) -> str:
        """Return the path of a file in the building's folder, or the name as it is when there is none."""
        return str(self.folder / name) if (self.folder / name).is_file() else name

    @cached_property
    def floor_area(self) -> float:
        """Conditioned floor area with zone multipliers [m2]."""
        return sum(z.floor_area * z.multiplier for z in self.zones)

    @cached_property
    def inputs(self) -> Signature:
        """Weather, occupancy, parameters, settings: what a Predictor of this building is asked."""
        f = self.facts
        return Signature(
            *_declared(f.weather, Role.WEATHER),
            *_declared(f.occupancy, Role.OCCUPANCY),
            *_declared(f.parameters, Role.PARAMETER),
            *_declared(f.settings, Role.SETTING),
        )

    @cached_property
    def outputs(self) -> Signature:
        """Zone states, then building states and powers: what a Predictor of this building answers."""
        zoned = [
            Variable(f"{z.name}_{name}", quantity(d.quantity), Role.INDOOR, d.low, d.high, f"{d.meaning}, {z.name}", z.name)
            for name, d in self.facts.zone_outputs.items()
            for z in self.zones
        ]
        whole = [
            Variable(
                name,
                quantity(d.quantity),
                Role.CONSUMPTION if d.quantity == "power" else Role.INDOOR,
                d.low,
                d.high,
                d.meaning,
            )
            for name, d in self.facts.outputs.items()
        ]
        return Signature(*zoned, *whole)

    @cached_property
    def settings(self) -> Signature:
        """What the BMS may be told."""
        return self.inputs.having(Role.SETTING)

    @cached_property
    def parameter_space(self) -> ParameterSpace:
        """What may be calibrated."""
        return ParameterSpace(
            *(Parameter(n, d.low, d.high, d.scale, d.choices, d.default) for n, d in self.facts.parameters.items())
        )

    @cached_property
    def limits(self) -> Limits:
        """Limits of the indices (building/indices/limits.toml), with the overrides of this building."""
        return with_overrides(self.facts.limits)

    def ramps(self) -> dict[str, float]:
        """Return the greatest change per hour of each setting that has one."""
        return {n: d.ramp for n, d in self.facts.settings.items() if d.ramp is not None}

    def with_sun(self, frame: pd.DataFrame, what: str = "the frame") -> pd.DataFrame:
        """Return `frame` with the beam on each facade added, from `direct_normal_irradiance` and the site's place.

        Args:
            frame: hourly, UTC.
            what: how errors call the frame.

        Raises:
            MissingColumnError: no `direct_normal_irradiance`.
        """
        if "direct_normal_irradiance" not in frame:
            raise MissingColumnError(what=what, n_missing=1, n_wanted=1, missing="direct_normal_irradiance")
        beams = beam_irradiance(
            pd.DatetimeIndex(frame.index),
            frame["direct_normal_irradiance"].to_numpy(dtype=float),
            self.site.latitude,
            self.site.longitude,
        )
        return pd.concat([frame.drop(columns=[c for c in beams if c in frame]), beams], axis=1)

    @cached_property
    def _own_schedule(self) -> WeekProfile:
        return own_schedule(self.folder / "baseline.toml", (*self.facts.settings, *self.facts.occupancy))

    def own_schedule(self) -> WeekProfile:
        """Return the building's own schedule (baseline.toml, read once): every setting and every occupancy series, hourly."""
        return self._own_schedule


def _declared(table: dict[str, Any], role: Role) -> list[Variable]:
    return [Variable(n, quantity(d.quantity), role, d.low, d.high, d.meaning) for n, d in table.items()]


def own_schedule(path: Path, columns: tuple[str, ...]) -> WeekProfile:
    """Read a week profile from TOML: a table per column, a list of 24 hours per day type.

    Raises:
        UnknownKeyError: a column nobody reads.
        BadDescriptionError: a missing file, column, day type or hour; a value that is not a number.
    """
    data = read_toml(path)
    for key in data:
        if key not in columns:
            raise UnknownKeyError(file=path, key=key, section="the top", hint=did_you_mean(key, columns))
    missing = [c for c in columns if c not in data]
    if missing:
        raise BadDescriptionError(file=path, reason=f"lacks {', '.join(missing)}. Each needs weekday, saturday and sunday.")
    try:
        profile = WeekProfile.from_dict({c: data[c] for c in columns})
    except (KeyError, TypeError, ValueError, ShapeError) as e:
        raise BadDescriptionError(file=path, reason=f"each column needs 24 numbers for weekday, saturday and sunday: {e}") from e
    if not np.isfinite(profile.values).all():
        raise BadDescriptionError(file=path, reason="a value is not a number.")
    return profile


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises BadDescriptionError when it is missing or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise BadDescriptionError(file=path, reason="there is no such file.") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BadDescriptionError(file=path, reason=f"not valid TOML: {e}") from e


def parse_strict(model: type[Model], data: dict[str, Any], file: Path | str) -> Model:
    """Validate `data` as `model`.

    Raises:
        UnknownKeyError: a key nobody reads, with a did-you-mean.
        BadDescriptionError: anything else, naming section, key, value and rule.
    """
    try:
        return model.model_validate(data)
    except ValidationError as e:
        # A misspelt key of which nothing else is wrong also leaves the right one missing: the misspelling is the news.
        first = min(e.errors(), key=lambda error: error["type"] != "extra_forbidden")
        place = [str(p) for p in first["loc"]]
        section = ".".join(place[:-1]) or "the top"
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(place[-1], _known_keys(model, place[:-1]))
            raise UnknownKeyError(file=file, key=place[-1], section=section, hint=hint) from e
        shown = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise BadDescriptionError(file=file, reason=f"[{section}] {place[-1] if place else ''}: {first['msg']}{shown}.") from e


def _known_keys(model: type[BaseModel], place: list[str]) -> list[str]:
    """Return the keys allowed at `place` in `model`, walking through tables and lists."""
    current: Any = model
    for part in place:
        fields = getattr(current, "model_fields", None)
        annotation = fields[part].annotation if fields and part in fields else current
        current = _inner_model(annotation) or current
    return list(current.model_fields)


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None


def load_building(name_or_folder: str | Path) -> Building:
    """Read a building from a folder that holds a building.toml, or by name from `buildings/` here or of setwise.

    Raises:
        BadDescriptionError, UnknownKeyError: see `parse_strict`.
        UnknownNameError: a building, quantity or limit that does not exist; a variable declared twice.
    """
    places = (Path(name_or_folder), Path("buildings") / name_or_folder, BUILDINGS / name_or_folder)
    folder = next((p for p in places if (p / "building.toml").exists()), places[-1])
    path = folder / "building.toml"
    if not path.exists():
        known = [p.parent.name for p in BUILDINGS.glob("*/building.toml")]
        name = str(name_or_folder)
        raise UnknownNameError(name=name, kind="building", owner=BUILDINGS, hint=did_you_mean(name, known))
    building = Building(parse_strict(BuildingFile, read_toml(path), path), folder)
    names = [z.name for z in building.zones]
    if len(set(names)) != len(names):
        raise BadDescriptionError(file=path, reason=f"zone names repeat: {names}")
    # Asked for once here, so that a bad declaration is refused on reading rather than at first use.
    _ = building.inputs, building.outputs, building.parameter_space, building.limits
    return building
