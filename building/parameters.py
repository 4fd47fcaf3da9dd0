"""Parameter and ParameterSpace: named bounds, and the way between the unit cube and physical values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from building.errors import BadDescriptionError, OutsideBoundsError, UnknownNameError, did_you_mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """One axis of a ParameterSpace.

    Attributes:
        name: the variable (or decision) it sets.
        low, high: bounds, inside units. For ``choice`` they are the least and greatest choice.
        scale: ``linear``; ``log`` for ratios; ``choice`` for a list of values.
        choices: the values of a ``choice``, rising.
        default: best guess before any measurement; the middle of the unit interval when None.
    """

    name: str
    low: float
    high: float
    scale: Literal["linear", "log", "choice"] = "linear"
    choices: tuple[float, ...] = ()
    default: float | None = None

    def __post_init__(self) -> None:
        reason = ""
        if self.scale == "choice" and len(self.choices) == 0:
            reason = "a choice needs its list of values"
        elif self.scale != "choice" and not self.low < self.high:
            reason = f"low {self.low:g} must be less than high {self.high:g}"
        elif self.scale == "log" and self.low <= 0:
            reason = f"a log scale needs low > 0, got {self.low:g}"
        if reason:
            raise BadDescriptionError(file=f"parameter '{self.name}'", reason=reason)

    def from_unit(self, u: ArrayLike) -> Array:
        """Map u in [0, 1] to physical values, same shape."""
        share = np.clip(np.asarray(u, dtype=float), 0.0, 1.0)
        if self.scale == "choice":
            index = np.minimum((share * len(self.choices)).astype(int), len(self.choices) - 1)
            return np.asarray(np.asarray(self.choices, dtype=float)[index])
        if self.scale == "log":
            # Clipped, for rounding may step over a bound, and a bound must hold exactly.
            return np.asarray(np.clip(self.low * (self.high / self.low) ** share, self.low, self.high))
        return np.asarray(np.clip(self.low + (self.high - self.low) * share, self.low, self.high))

    def to_unit(self, value: ArrayLike) -> Array:
        """Map physical values to [0, 1], same shape; the inverse of `from_unit` (a choice gives the middle of its cell)."""
        value = np.asarray(value, dtype=float)
        if self.scale == "choice":
            nearest = np.abs(value[..., None] - np.asarray(self.choices)).argmin(axis=-1)
            return np.asarray((nearest + 0.5) / len(self.choices))
        if self.scale == "log":
            return np.asarray(np.log(value / self.low) / np.log(self.high / self.low))
        return np.asarray((value - self.low) / (self.high - self.low))


class ParameterSpace:
    """An ordered set of parameters that samplers and searchers walk as a unit cube."""

    def __init__(self, *parameters: Parameter) -> None:
        self.parameters = parameters
        self.names = tuple(p.name for p in parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        for p in self.parameters:
            if p.name == name:
                return p
        raise UnknownNameError(name=name, kind="parameter", owner="this space", hint=did_you_mean(name, self.names))

    def from_unit(self, u: ArrayLike) -> Array:
        """Map points of the unit cube, shape (..., n), to physical values, same shape."""
        u = np.asarray(u, dtype=float)
        return np.stack([p.from_unit(u[..., i]) for i, p in enumerate(self.parameters)], axis=-1)

    def to_unit(self, values: ArrayLike) -> Array:
        """Map physical values, shape (..., n), to the unit cube, same shape."""
        values = np.asarray(values, dtype=float)
        return np.stack([p.to_unit(values[..., i]) for i, p in enumerate(self.parameters)], axis=-1)

    def named(self, values: ArrayLike) -> dict[str, Array]:
        """Split physical values, shape (..., n), into one array of shape (...) per name."""
        values = np.asarray(values, dtype=float)
        return {name: values[..., i] for i, name in enumerate(self.names)}

    def defaults(self) -> dict[str, float]:
        """Return the best guess of each parameter before any measurement."""
        return {p.name: float(p.from_unit(0.5)) if p.default is None else p.default for p in self.parameters}

    def narrowed(self, bounds: Mapping[str, tuple[float, float]]) -> ParameterSpace:
        """Return this space with other bounds for some names; defaults and choices follow. Raises UnknownNameError."""
        for name in bounds:
            self[name]
        return ParameterSpace(*(_narrowed(p, *bounds[p.name]) if p.name in bounds else p for p in self.parameters))

    def only(self, *names: str) -> ParameterSpace:
        """Return the parameters called `names`, in that order. Raises UnknownNameError."""
        return ParameterSpace(*(self[name] for name in names))

    def check(self, values: Mapping[str, float], unit: str = "") -> None:
        """Raise OutsideBoundsError for the first value outside its bounds, UnknownNameError for a name not in this space."""
        for name, value in values.items():
            p = self[name]
            if not p.low <= value <= p.high:
                raise OutsideBoundsError(variable=name, value=float(value), low=p.low, high=p.high, unit=unit)


def _narrowed(p: Parameter, low: float, high: float) -> Parameter:
    default = None if p.default is None else min(max(p.default, low), high)
    return replace(p, low=low, high=high, default=default, choices=tuple(c for c in p.choices if low <= c <= high))
