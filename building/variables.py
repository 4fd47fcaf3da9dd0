"""Variable and Signature: the one list of names that runs from the dataset to the MQTT point list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from building.errors import UnknownNameError, did_you_mean
from building.units import Quantity, quantity


class Role(StrEnum):
    """What a variable is to the building."""

    WEATHER = "weather"  # boundary condition outside
    OCCUPANCY = "occupancy"  # people, lights, plugs: shares of their design value
    PARAMETER = "parameter"  # belongs to the building, constant, may be calibrated
    SETTING = "setting"  # belongs to the BMS, may be chosen
    INDOOR = "indoor"  # state of a zone or of the air
    CONSUMPTION = "consumption"  # power, hourly mean


@dataclass(frozen=True)
class Variable:
    """One named quantity of a building.

    Attributes:
        name: place_medium_quantity, e.g. ``core_mid_air_temperature``; used unchanged in columns, topics and JSON.
        quantity: its kind; fixes the unit.
        role: what it is to the building.
        low, high: validity bounds in the inside unit; of an input, what a bundle may be asked.
        meaning: one line for people.
        zone: the zone it belongs to, or None for the whole building.
    """

    name: str
    quantity: Quantity
    role: Role
    low: float
    high: float
    meaning: str = ""
    zone: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `from_dict`."""
        return {
            "name": self.name,
            "quantity": self.quantity.name,
            "unit": self.quantity.unit,
            "role": self.role.value,
            "low": self.low,
            "high": self.high,
            "meaning": self.meaning,
            "zone": self.zone,
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Variable:
        """Rebuild a Variable from `to_dict`'s data."""
        return Variable(
            data["name"],
            quantity(data["quantity"]),
            Role(data["role"]),
            data["low"],
            data["high"],
            data.get("meaning", ""),
            data.get("zone"),
        )


class Signature:
    """An ordered set of variables: columns of a frame, channels of an array, inputs of a graph."""

    def __init__(self, *variables: Variable) -> None:
        self.variables = variables
        self.names = tuple(v.name for v in variables)
        self._position = {name: i for i, name in enumerate(self.names)}
        if len(self._position) != len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise UnknownNameError(name=twice, kind="unique name", owner="the signature", hint=" It stands there twice.")

    def __iter__(self) -> Iterator[Variable]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)

    def __contains__(self, name: object) -> bool:
        return name in self._position

    def __getitem__(self, name: str) -> Variable:
        return self.variables[self.position(name)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and self.variables == other.variables

    def __hash__(self) -> int:
        return hash(self.variables)

    def position(self, name: str) -> int:
        """Return the channel of `name`. Raises UnknownNameError."""
        if name not in self._position:
            raise UnknownNameError(name=name, kind="variable", owner="this signature", hint=did_you_mean(name, self.names))
        return self._position[name]

    def positions(self, names: Iterable[str]) -> list[int]:
        """Return the channels of `names`, in that order."""
        return [self.position(name) for name in names]

    def having(self, *roles: Role, quantity: Quantity | None = None) -> Signature:
        """Return the variables of these roles (and this quantity), in order."""
        return Signature(
            *(v for v in self.variables if v.role in roles and (quantity is None or v.quantity.name == quantity.name))
        )

    def only(self, names: Iterable[str]) -> Signature:
        """Return the variables called `names`, in the order of `names`."""
        return Signature(*(self[name] for name in names))

    def to_list(self) -> list[dict[str, Any]]:
        """Return plain JSON data, read back by `from_list`."""
        return [v.to_dict() for v in self.variables]

    @staticmethod
    def from_list(data: Iterable[dict[str, Any]]) -> Signature:
        """Rebuild a Signature from `to_list`'s data."""
        return Signature(*(Variable.from_dict(d) for d in data))
