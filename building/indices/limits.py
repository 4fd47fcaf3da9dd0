"""Limits from standards, read once from limits.toml: each a value with its unit, its source and how far the source is trusted."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from building.errors import BadDescriptionError, UnknownKeyError, UnknownNameError, did_you_mean

MARKS = {
    "S": "read in a project's own repository",
    "P": "public page or abstract",
    "I": "issue thread",
    "2": "secondary source only",
    "R": "recalled; check before relying on it",
    "D": "definition of setwise",
}
FIELDS = ("value", "unit", "source", "mark")

Limits = Mapping[str, float]


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        name: what functions and building.toml call it.
        value: in `unit`, as the standard prints it.
        unit: unit of the value.
        source: standard and clause.
        mark: trust, a key of MARKS.
    """

    name: str
    value: float
    unit: str
    source: str
    mark: str


def read_limits(path: Path) -> dict[str, Limit]:
    """Read a limits file.

    Raises:
        BadDescriptionError: malformed, or a limit without value, unit, source or known mark.
        UnknownKeyError: a field nobody reads.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise BadDescriptionError(file=path, reason=f"cannot be read: {e}") from e
    limits = {}
    for name, row in data.items():
        if not isinstance(row, dict):
            raise BadDescriptionError(file=path, reason=f"'{name}' must be a table with {', '.join(FIELDS)}, got {row!r}.")
        for key in row:
            if key not in FIELDS:
                raise UnknownKeyError(file=path, key=key, section=name, hint=did_you_mean(key, FIELDS))
        missing = [f for f in FIELDS if f not in row]
        if missing:
            raise BadDescriptionError(file=path, reason=f"'{name}' lacks {', '.join(missing)}.")
        if isinstance(row["value"], bool) or not isinstance(row["value"], int | float):
            raise BadDescriptionError(file=path, reason=f"the value of '{name}' must be a number, got {row['value']!r}.")
        if row["mark"] not in MARKS:
            raise BadDescriptionError(file=path, reason=f"the mark of '{name}' must be one of {', '.join(MARKS)}.")
        limits[name] = Limit(name, float(row["value"]), row["unit"], row["source"], row["mark"])
    return limits


SOURCES: Mapping[str, Limit] = MappingProxyType(read_limits(Path(__file__).with_name("limits.toml")))
"""Every limit with its source."""

LIMITS: Limits = MappingProxyType({name: limit.value for name, limit in SOURCES.items()})
"""The values every index uses unless it is given others."""


def with_overrides(overrides: Mapping[str, float]) -> Limits:
    """Return LIMITS with a building's own values (the ``[limits]`` of building.toml).

    Raises:
        UnknownNameError: a limit that does not exist, with a did-you-mean.
    """
    for name in overrides:
        if name not in LIMITS:
            raise UnknownNameError(name=name, kind="limit", owner="building/indices/limits.toml", hint=did_you_mean(name, LIMITS))
    return MappingProxyType({**LIMITS, **overrides})


def limit(limits: Limits, stem: str, category: str) -> float:
    """Return the limit `stem` of an EN 16798-1 category (``I``, ``II``, ``III``, some also ``IV``).

    Raises:
        UnknownNameError: there is none for this category.
    """
    name = f"{stem}_cat_{category.lower()}"
    if name not in limits:
        known = [n.removeprefix(f"{stem}_cat_").upper() for n in limits if n.startswith(f"{stem}_cat_")]
        raise UnknownNameError(name=category, kind="category", owner=stem, hint=did_you_mean(category, known))
    return limits[name]
