"""Kinds of quantity, the one unit each has inside setwise, and conversions for the edges.

Inside: degC, K for differences, W, kWh, m3/h, ppm, shares 0..1. Every other unit exists only where a number is born or leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from building.errors import UnknownNameError, UnknownUnitError, did_you_mean

Numeric = TypeVar("Numeric", float, NDArray[np.float64])


@dataclass(frozen=True)
class Quantity:
    """A kind of physical quantity.

    Attributes:
        name: e.g. ``temperature``.
        unit: the one unit used inside, e.g. ``degC``.
        edges: other units, each as ``(scale, offset)`` with inside = scale * value + offset.
    """

    name: str
    unit: str
    edges: dict[str, tuple[float, float]] = field(default_factory=dict, hash=False)

    def from_unit(self, value: Numeric, unit: str) -> Numeric:
        """Convert `value` in `unit` to the inside unit. Raises UnknownUnitError."""
        scale, offset = self._edge(unit)
        return value * scale + offset

    def to_unit(self, value: Numeric, unit: str) -> Numeric:
        """Convert `value` in the inside unit to `unit`. Raises UnknownUnitError."""
        scale, offset = self._edge(unit)
        return (value - offset) / scale

    def _edge(self, unit: str) -> tuple[float, float]:
        if unit == self.unit:
            return 1.0, 0.0
        if unit not in self.edges:
            raise UnknownUnitError(unit=unit, quantity=self.name, known=", ".join([self.unit, *self.edges]))
        return self.edges[unit]


TEMPERATURE = Quantity(
    "temperature", "degC", {"C": (1, 0), "°C": (1, 0), "degF": (5 / 9, -160 / 9), "°F": (5 / 9, -160 / 9), "K": (1, -273.15)}
)
TEMPERATURE_DIFFERENCE = Quantity("temperature_difference", "K", {"degF": (5 / 9, 0)})
POWER = Quantity("power", "W", {"kW": (1e3, 0), "MW": (1e6, 0), "Btu/h": (0.29307107, 0)})
ENERGY = Quantity(
    "energy", "kWh", {"Wh": (1e-3, 0), "MWh": (1e3, 0), "J": (1 / 3.6e6, 0), "MJ": (1 / 3.6, 0), "GJ": (1 / 3.6e-3, 0)}
)
POWER_DENSITY = Quantity("power_density", "W/m2", {"W/ft2": (10.763910, 0)})
CO2 = Quantity("co2", "ppm", {"%": (1e4, 0)})
SHARE = Quantity("share", "1", {"%": (0.01, 0), "fraction": (1, 0), "bool": (1, 0)})
FACTOR = Quantity("factor", "x", {"%": (0.01, 0)})
HUMIDITY_RATIO = Quantity("humidity_ratio", "kg/kg", {"g/kg": (1e-3, 0)})
RELATIVE_HUMIDITY = Quantity("relative_humidity", "1", {"%": (0.01, 0), "fraction": (1, 0)})
IRRADIANCE = Quantity("irradiance", "W/m2", {"kW/m2": (1e3, 0)})
WIND_SPEED = Quantity("wind_speed", "m/s", {"km/h": (1 / 3.6, 0), "mph": (0.44704, 0), "kn": (0.514444, 0)})
PRESSURE = Quantity("pressure", "Pa", {"hPa": (100, 0), "mbar": (100, 0), "kPa": (1e3, 0)})
FLOW = Quantity("flow", "m3/h", {"m3/s": (3600, 0), "l/s": (3.6, 0), "cfm": (1.6990108, 0)})
FLOW_PER_AREA = Quantity("flow_per_area", "m3/h.m2", {"l/s.m2": (3.6, 0), "cfm/ft2": (18.288, 0)})
TRANSMITTANCE = Quantity("transmittance", "W/m2.K", {"Btu/h.ft2.F": (5.678263, 0)})
DENSITY_OF_PEOPLE = Quantity("density_of_people", "1/m2", {"1/100m2": (0.01, 0)})
COUNT = Quantity("count", "persons")
AREA = Quantity("area", "m2", {"ft2": (0.09290304, 0)})
VOLUME = Quantity("volume", "m3")

QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        TEMPERATURE, TEMPERATURE_DIFFERENCE, POWER, ENERGY, POWER_DENSITY, CO2, SHARE, FACTOR, HUMIDITY_RATIO, RELATIVE_HUMIDITY,
        IRRADIANCE, WIND_SPEED, PRESSURE, FLOW, FLOW_PER_AREA, TRANSMITTANCE, DENSITY_OF_PEOPLE, COUNT, AREA, VOLUME,
    )
}  # fmt: skip


def quantity(name: str) -> Quantity:
    """Return the Quantity called `name`. Raises UnknownNameError."""
    if name not in QUANTITIES:
        raise UnknownNameError(name=name, kind="quantity", owner="setwise", hint=did_you_mean(name, QUANTITIES))
    return QUANTITIES[name]
