"""What people told the service: its mode, the plan they confirmed, and the values they hold settings at.

Kept in the store, so that all of it stands again after a restart; held in memory as well, so that a store that fails lifts no
override and changes no mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from building.description import Building
from building.errors import OutsideBoundsError, OverrideRefusedError, UnknownNameError, did_you_mean
from service.config import Config, Mode
from service.store import SqlStore
from service.store.acts import Acts, Override

_MODE, _CONFIRMED = "mode", "confirmed_plan"


@dataclass(frozen=True)
class Order:
    """The mode in force. `since` is None and `who` the configuration until a person changed it."""

    mode: Mode
    since: pd.Timestamp | None = None
    who: str = "service.toml"
    reason: str = ""


@dataclass(frozen=True)
class Told:
    """Everything people told the service, as it stands.

    Attributes:
        order: the mode.
        confirmed_plan: id of the plan a person confirmed last; only mode advise asks for it.
        overrides: by setting; look at `Override.is_in_force` for the instant.
    """

    order: Order
    confirmed_plan: int | None = None
    overrides: dict[str, Override] = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """The mode in force."""
        return self.order.mode

    def in_force(self, at: pd.Timestamp) -> dict[str, Override]:
        """Return the overrides that hold at an instant."""
        return {name: o for name, o in self.overrides.items() if o.is_in_force(at)}


def read_told(store: SqlStore, config: Config, at: pd.Timestamp) -> Told:
    """Read what was told from the store. Raises StoreError."""
    kept, confirmed = store.get(_MODE), store.get(_CONFIRMED)
    order = Order(config.publish.mode)
    if kept is not None:
        order = Order(kept["mode"], pd.Timestamp(kept["since"]), kept["who"], kept["reason"])
    return Told(order, None if confirmed is None else int(confirmed), Acts(store).overrides_in_force(at))


def set_mode(store: SqlStore, mode: Mode, at: pd.Timestamp, who: str, reason: str) -> None:
    """Keep a mode."""
    store.put(_MODE, {"mode": mode, "since": at.isoformat(), "who": who, "reason": reason})


def confirm_plan(store: SqlStore, plan_id: int) -> None:
    """Keep which plan a person confirmed."""
    store.put(_CONFIRMED, plan_id)


def add_override(
    store: SqlStore, building: Building, config: Config, setting: str, value: float, until: pd.Timestamp, at: pd.Timestamp,
    who: str, reason: str,
) -> Override:  # fmt: skip
    """Keep an override once it makes sense; the one that stood for this setting is ended by it.

    Raises:
        UnknownNameError: no such setting. OutsideBoundsError: a value that the guard would not let out.
        OverrideRefusedError: an end that is past, or further away than the configuration allows.
    """
    if setting not in building.settings:
        hint = did_you_mean(setting, building.settings.names)
        raise UnknownNameError(name=setting, kind="setting", owner=f"'{building.name}'", hint=hint)
    v = building.settings[setting]
    if not v.low <= value <= v.high:
        raise OutsideBoundsError(variable=setting, value=value, unit=v.quantity.unit, low=v.low, high=v.high)
    hours = (until - at) / pd.Timedelta(hours=1)
    if hours <= 0:
        raise OverrideRefusedError(reason=f"it would end at {until}, which is past; now it is {at}.")
    if hours > config.guard.max_override_h:
        reason = f"it would last {hours:.0f} h, at most {config.guard.max_override_h:g} h are allowed. Renew it when it ends."
        raise OverrideRefusedError(reason=reason)
    return Acts(store).add_override(setting, value, at, until, who, reason)
