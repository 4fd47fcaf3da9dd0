"""Decisions: the few numbers a search may choose, and the plans they unroll to.

A decision vector is small and means something to an operator: how long before people come the system starts, how far from the
comfort band the setpoints stand, how deep the night setback goes, how the supply air follows the weather, how much more outdoor
air than owed. Every vector of the unit cube unrolls to a plan that is allowed *by construction*: setpoints at least
`DEADBAND_K` apart, inside their bounds, within their ramps (also from what is set now), and air renewal kept while occupied.

Decisions relative to occupancy, band and weather (not clock hours and degrees) carry over to other weeks: the last plan's vector
is a good start for the next search.

Legend of shapes: n plan, t step of the plan, d decision, s setting, r occupied stretch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import ShapeError
from building.indices.comfort import is_occupied
from building.parameters import Parameter, ParameterSpace
from building.plan import DEADBAND_K, Plan
from building.timeline import steps
from optim.outlook import Outlook

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Kind = TypeVar("Kind", np.float64, np.bool_)

SUPPLY_KNOTS_C = (0.0, 12.0, 22.0)
"""Outdoor temperatures at which the supply-air reset line has its three values; straight between, flat beyond."""

LEAD_KNOTS_C = (-10.0, 10.0)
"""Outdoor temperatures before the start at which the cold and the mild lead hold."""

BREAK_H = 20
"""An empty stretch at least this long is a break (a weekend): the start after it may come earlier."""

LEAST_PAUSE_H = 2
"""Shorter empty stretches are run through: fans and compressors are not stopped for them."""

PURGE_DEPTH_K = 4.0
"""Purge by night only while outdoor air is this far under the lower comfort limit: the fans must be worth it."""

ROUNDING = 4
"""Decimals of a plan: finer than any controller, coarse enough that plans print, store and compare exactly."""

_EVERY = (
    ("heating_setpoint", Parameter("lead_cold_h", 0, 5, default=3)),
    ("heating_setpoint", Parameter("lead_mild_h", 0, 3, default=1)),
    ("heating_setpoint", Parameter("lead_break_h", 0, 3, default=1)),
    ("outdoor_air_flow", Parameter("purge_h", 0, 5, default=0)),
    ("heating_setpoint", Parameter("heating_offset_k", -3, 2, default=0.3)),
    ("cooling_setpoint", Parameter("cooling_offset_k", -3, 1.5, default=-0.3)),
    ("heating_setpoint", Parameter("setback_k", 0, 7, default=5)),
    ("cooling_setpoint", Parameter("setup_k", 0, 7, default=4)),
    ("supply_air_temperature", Parameter("supply_cold", 12, 18, default=14)),
    ("supply_air_temperature", Parameter("supply_mild", 12, 18, default=15)),
    ("supply_air_temperature", Parameter("supply_warm", 11, 18, default=12.8)),
    ("outdoor_air_flow", Parameter("air_factor", 1, 2, default=1.05)),
    ("outdoor_air_flow", Parameter("air_floor", 0, 3, default=0)),
)
"""Each decision with the setting it needs; a building without that setting does not have the decision.

- lead_cold_h, lead_mild_h [h]: start before the first occupied hour, in cold and mild weather; lead_break_h: more after a break.
- purge_h [h]: full outdoor air before that start, in the warm season, while the outdoor air is cold enough.
- heating_offset_k, cooling_offset_k [K]: setpoints in use, from the lower and upper comfort limit.
- setback_k, setup_k [K]: how far the setpoints open when the system is off.
- supply_cold, supply_mild, supply_warm [degC]: supply air at `SUPPLY_KNOTS_C` outdoors.
- air_factor: outdoor air, times what is owed; air_floor [m3/h.m2]: but never less than this while occupied.
"""


@dataclass(frozen=True)
class Decisions:
    """The decision space of one outlook, and the way from its vectors to plans.

    Attributes:
        outlook: the coming hours.
        step_min: resolution of the plans, 60 or 15 min; they are judged by the hour either way.
    """

    outlook: Outlook
    step_min: int = 60

    def __post_init__(self) -> None:
        if self.step_min not in (15, 60):
            raise ShapeError(what="the step of a plan", shape=(self.step_min,), wanted="15 or 60 min")

    @cached_property
    def space(self) -> ParameterSpace:
        """The decisions this building has."""
        has = self.outlook.settings
        bounds = {"supply_air_temperature": ("supply_cold", "supply_mild", "supply_warm"), "outdoor_air_flow": ("air_floor",)}
        space = ParameterSpace(*(p for setting, p in _EVERY if setting in has))
        within = {
            name: (max(space[name].low, has[setting].low), min(space[name].high, has[setting].high))
            for setting, names in bounds.items()
            if setting in has
            for name in names
        }
        return space.narrowed(within)

    @cached_property
    def index(self) -> pd.DatetimeIndex:
        """UTC stamps of the plans, shape (steps,)."""
        return steps(self.outlook.future.index[0], len(self.outlook.future) * self._per_hour, self.step_min)

    @property
    def _per_hour(self) -> int:
        return 60 // self.step_min

    def defaults(self) -> Array:
        """Return the unit vector of the decisions' defaults, shape (decisions,)."""
        return self.vector({})

    def vector(self, named: dict[str, float]) -> Array:
        """Return the unit vector of named decisions; those not named take their default, values outside are clipped."""
        values = self.space.defaults() | {k: v for k, v in named.items() if k in self.space.names}
        return np.clip(self.space.to_unit(np.array([values[n] for n in self.space.names])), 0.0, 1.0)

    def named(self, u_d: Array) -> dict[str, float]:
        """Return a unit vector as named physical values."""
        return {n: float(v) for n, v in self.space.named(self.space.from_unit(u_d)).items()}

    def unroll(self, u_nd: Array) -> Array:
        """Return the plans of decision vectors.

        Args:
            u_nd: points of the unit cube, shape (plans, decisions).

        Returns:
            Settings, shape (plans, steps, settings), inside units, `outlook.settings` order.

        Raises:
            ShapeError: vectors of another length.
        """
        if u_nd.ndim != 2 or u_nd.shape[1] != len(self.space):
            raise ShapeError(what="the decision vectors", shape=u_nd.shape, wanted=f"(plans, {len(self.space)})")
        d = self.space.named(self.space.from_unit(u_nd))
        runs_nt, purges_nt = self._running(d, len(u_nd))
        series = self._setpoints(d, runs_nt)
        series["system_on"] = runs_nt.astype(float)
        if "air_factor" in d:
            series["outdoor_air_flow"] = self._outdoor_air(d, purges_nt)
        if "supply_cold" in d:
            knots_nk = np.stack([d["supply_cold"], d["supply_mild"], d["supply_warm"]], axis=1)
            series["supply_air_temperature"] = self._ramped("supply_air_temperature", knots_nk @ self._reset_kt, lower=True)
        held = self.outlook.last_settings()
        out = np.empty((len(u_nd), len(self.index), len(self.outlook.settings)))
        for s, setting in enumerate(self.outlook.settings):
            # A setting no decision knows stays as it is set now.
            values = series.get(setting.name, np.full((1, 1), held[setting.name]))
            out[:, :, s] = np.clip(values, setting.low, setting.high)
        out = np.round(out, ROUNDING)
        return self._kept_apart(out)

    def plan(self, plan_ts: Array, origin: str, meta: dict[str, object]) -> Plan:
        """Return one unrolled plan, shape (steps, settings), as a Plan."""
        return Plan(pd.DataFrame(plan_ts, index=self.index, columns=list(self.outlook.settings.names)), origin, meta=meta)

    # ---- what the outlook says, once per search ----

    def _stepped(self, hourly: NDArray[Kind]) -> NDArray[Kind]:
        return np.repeat(hourly, self._per_hour)

    @cached_property
    def _occupied_t(self) -> Mask:
        """Occupied, with short pauses run through; shape (steps,)."""
        occupied = self.outlook.is_occupied_t.copy()
        edges = np.flatnonzero(np.diff(occupied.astype(int)))
        for end, start in pairwise(edges):
            if not occupied[start] and start - end < LEAST_PAUSE_H:
                occupied[end + 1 : start + 1] = True
        return np.asarray(self._stepped(occupied), dtype=bool)

    @cached_property
    def _next_start_t(self) -> tuple[NDArray[np.int64], Array]:
        """For each empty step: which occupied stretch comes next (-1: none), and how many hours until then."""
        occupied = self._occupied_t
        starts = np.flatnonzero(occupied & ~np.concatenate([[False], occupied[:-1]]))
        steps_t = np.arange(len(occupied))
        which = np.searchsorted(starts, steps_t, side="right")
        beyond = which >= len(starts)
        until = np.where(beyond, np.inf, 0.0)
        until[~beyond] = (starts[which[~beyond]] - steps_t[~beyond]) / self._per_hour
        return np.where(beyond, -1, which), until

    @cached_property
    def _stretches(self) -> tuple[Array, Mask]:
        """For each occupied stretch: weight of the cold lead (0..1), and whether a break comes before it."""
        past = self.outlook.past
        share = past.values[:, past.inputs.position("occupancy_share")]
        occupied = np.concatenate([is_occupied(share, self.outlook.limits), self.outlook.is_occupied_t])
        outdoor = np.concatenate([past.values[:, past.inputs.position("outdoor_air_temperature")], self.outlook.outdoor_t])
        now = len(past)
        stepped = self._occupied_t
        starts = np.flatnonzero(stepped & ~np.concatenate([[False], stepped[:-1]])) // self._per_hour + now
        cold, after_break = np.zeros(len(starts)), np.zeros(len(starts), dtype=bool)
        for r, start in enumerate(starts):
            before = outdoor[start - 6 : start].mean()
            cold[r] = np.interp(before, LEAD_KNOTS_C, (1.0, 0.0))
            after_break[r] = not occupied[start - BREAK_H : start].any()
        return cold, after_break

    @cached_property
    def _reset_kt(self) -> Array:
        """Weights of the three supply-air knots at each step, shape (3, steps); each column sums to 1."""
        outdoor = self._stepped(self.outlook.outdoor_t)
        return np.stack([np.interp(outdoor, SUPPLY_KNOTS_C, row) for row in np.eye(3)])

    @cached_property
    def _may_purge_t(self) -> Mask:
        """Warm season (the band stands above its winter place) and outdoor air cold enough to be worth the fans."""
        o = self.outlook
        warm = (o.low_t > o.limits["band_cold_low"]) & (o.outdoor_t <= o.low_t - PURGE_DEPTH_K)
        return np.asarray(self._stepped(warm), dtype=bool)

    # ---- from decisions to series, shape (plans, steps) ----

    def _running(self, d: dict[str, Array], n: int) -> tuple[Mask, Mask]:
        """When the system runs, and when it only purges."""
        which, until = self._next_start_t
        cold, after_break = self._stretches
        zero = np.zeros(n)
        if len(cold) == 0:
            never = np.zeros((n, len(self.index)), dtype=bool)
            return never, never
        lead_cold, lead_mild, lead_break = (d.get(k, zero) for k in ("lead_cold_h", "lead_mild_h", "lead_break_h"))
        lead_nr = lead_mild[:, None] + (lead_cold - lead_mild)[:, None] * cold + lead_break[:, None] * after_break
        lead_nt = self._whole_steps(lead_nr)[:, which]
        starts_nt = until <= lead_nt
        purge_nt = (until <= lead_nt + self._whole_steps(d.get("purge_h", zero))[:, None]) & ~starts_nt & self._may_purge_t
        purge_nt &= ~self._occupied_t
        return self._occupied_t | starts_nt | purge_nt, purge_nt

    def _whole_steps(self, hours: Array) -> Array:
        return np.asarray(np.round(hours * self._per_hour) / self._per_hour)

    def _setpoints(self, d: dict[str, Array], runs_nt: Mask) -> dict[str, Array]:
        """Heating and cooling setpoints: open when off, near the band when running, ramped, apart."""
        out = {}
        if "heating_offset_k" in d:
            inside = self._stepped(self.outlook.low_t) + d["heating_offset_k"][:, None]
            out["heating_setpoint"] = self._ramped(
                "heating_setpoint", np.where(runs_nt, inside, inside - d["setback_k"][:, None]), lower=False
            )
        if "cooling_offset_k" in d:
            inside = self._stepped(self.outlook.high_t) + d["cooling_offset_k"][:, None]
            out["cooling_setpoint"] = self._ramped(
                "cooling_setpoint", np.where(runs_nt, inside, inside + d["setup_k"][:, None]), lower=True
            )
        return out

    def _outdoor_air(self, d: dict[str, Array], purges_nt: Mask) -> Array:
        """Outdoor air: at least what is owed while occupied, all there is while purging, none while warming up."""
        owed = np.asarray(self._stepped(self.outlook.renewal_t))
        flow = np.maximum(owed * d["air_factor"][:, None], np.where(owed > 0, d["air_floor"][:, None], 0.0))
        # Rounding must never end below what is owed.
        flow = np.ceil(flow * 10**ROUNDING - 1e-9) / 10**ROUNDING + 0.0  # and -0.0 is no setpoint
        return np.where(purges_nt, self.outlook.settings["outdoor_air_flow"].high, flow)

    def _ramped(self, name: str, wanted_nt: Array, lower: bool) -> Array:
        """Return `wanted` within the bounds and the ramp of setting `name`, from what is set now on.

        The nearest series from above (or from below, `lower`) that changes by no more than the ramp: a setpoint is reached in
        time for what needs it, by moving earlier and not by falling short. The ramp holds per step, so at 15 min a quarter of
        the hourly change.
        """
        setting = self.outlook.settings[name]
        wanted_nt = np.clip(wanted_nt, setting.low, setting.high)
        ramp = self.outlook.building.ramps().get(name)
        if ramp is None:
            return wanted_nt
        # Rounding may move two neighbours apart by one last digit.
        per_step = ramp / self._per_hour - 10.0**-ROUNDING
        sign = -1.0 if lower else 1.0
        out = sign * wanted_nt
        source = out.copy()
        for k in range(1, int(np.ceil((setting.high - setting.low) / per_step))):
            np.maximum(out[:, k:], source[:, :-k] - k * per_step, out=out[:, k:])
            np.maximum(out[:, :-k], source[:, k:] - k * per_step, out=out[:, :-k])
        now = sign * float(np.clip(self.outlook.last_settings()[name], setting.low, setting.high))
        reach = per_step * np.arange(1, wanted_nt.shape[1] + 1)
        return np.asarray(sign * np.clip(out, now - reach, now + reach))

    def _kept_apart(self, plans_nts: Array) -> Array:
        """Raise the cooling setpoint where it comes nearer than `DEADBAND_K`; both ramps are equal, so its ramp still holds."""
        has = self.outlook.settings
        if {"heating_setpoint", "cooling_setpoint"} <= set(has.names):
            h, c = has.positions(("heating_setpoint", "cooling_setpoint"))
            plans_nts[:, :, h] = np.minimum(plans_nts[:, :, h], has["cooling_setpoint"].high - DEADBAND_K)
            plans_nts[:, :, c] = np.maximum(plans_nts[:, :, c], plans_nts[:, :, h] + DEADBAND_K)
        return plans_nts
