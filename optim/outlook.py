"""Outlook: what is known of the coming hours before any plan is chosen.

Everything the decisions, objectives and constraints of one search share: the past, the forecast, who will be there, which
temperatures count as comfortable, how much outdoor air is owed. It is computed once; a generation only reads it.

Legend of shapes: n plan, t hour, z zone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Building
from building.errors import MissingColumnError, ShapeError
from building.indices.air import minimum_outdoor_air_en16798
from building.indices.comfort import comfort_band, is_occupied
from building.indices.limits import Limits, with_overrides
from building.plan import Plan
from building.scenario import Scenario
from building.timeline import WARM_UP_H
from building.variables import Role, Signature

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Margins:
    """How far a search stays inside comfort and air limits, because a metamodel errs and a search finds its errors.

    Attributes:
        temperature_k: the comfort band is this much narrower at each end.
        co2_ppm: the CO2 limit is this much lower.
    """

    temperature_k: float = 0.2
    co2_ppm: float = 60.0


@dataclass(frozen=True)
class Outlook:
    """The coming hours of one building.

    Attributes:
        building: whose hours they are.
        past: measured hours (calibrated parameters in it), at least `WARM_UP_H`, ending where `future` begins.
        future: forecast weather and occupancy, the same parameters, the building's own settings; hourly.
        outputs: channels of the predictions.
        limits: limits from standards, with the building's own values.
        is_occupied_t: whether people are there, shape (time,).
        low_t, high_t: comfort band on air temperature [degC], shape (time,).
        renewal_t: outdoor air owed while occupied [m3/h.m2], 0 otherwise, shape (time,).
    """

    building: Building
    past: Scenario
    future: Scenario
    outputs: Signature
    limits: Limits
    is_occupied_t: Mask
    low_t: Array
    high_t: Array
    renewal_t: Array

    @staticmethod
    def of(building: Building, past: Scenario, future: Scenario, outputs: Signature) -> Outlook:
        """Work out an outlook.

        Args:
            building: the building; its `limits` decide band and renewal.
            past: hourly, at least `WARM_UP_H` hours.
            future: hourly, begins where `past` ends.
            outputs: what the predictor answers.

        Raises:
            ShapeError: too short a past, an empty future, or other inputs.
            IrregularTimeError: the future does not continue the past.
            UnknownNameError: no occupancy, outdoor temperature or occupant density among the inputs.
        """
        if len(past) < WARM_UP_H or len(future) == 0:
            raise ShapeError(
                what="the hours of a search",
                shape=(len(past), len(future)),
                wanted=f"a past of at least {WARM_UP_H} h and a future of at least 1 h",
            )
        whole = past.then(future)
        limits = with_overrides(building.facts.limits)
        outdoor = whole.values[:, whole.inputs.position("outdoor_air_temperature")]
        low, high = comfort_band(whole.index, outdoor, building.site.time_zone, limits)
        share = future.values[:, future.inputs.position("occupancy_share")]
        density = future.values[:, future.inputs.position("occupant_density")]
        n = len(past)
        return Outlook(
            building=building,
            past=past,
            future=future,
            outputs=outputs,
            limits=limits,
            is_occupied_t=is_occupied(share, limits),
            low_t=low[n:],
            high_t=high[n:],
            renewal_t=minimum_outdoor_air_en16798(share, density, limits=limits),
        )

    def tightened(self, margins: Margins) -> Outlook:
        """Return the same hours with a narrower comfort band and a lower CO2 limit."""
        middle = (self.low_t + self.high_t) / 2
        return replace(
            self,
            low_t=np.minimum(self.low_t + margins.temperature_k, middle),
            high_t=np.maximum(self.high_t - margins.temperature_k, middle),
            limits=MappingProxyType({**self.limits, "co2_above_outdoor": self.limits["co2_above_outdoor"] - margins.co2_ppm}),
        )

    @property
    def settings(self) -> Signature:
        """The settings a plan of this building has."""
        return self.future.inputs.having(Role.SETTING)

    @property
    def outdoor_t(self) -> Array:
        """Forecast outdoor air temperature [degC], shape (time,)."""
        return self.series("outdoor_air_temperature")

    @property
    def weeks(self) -> float:
        """Length in weeks; tolerances of comfort and air are written per week."""
        return len(self.future) / 168

    def series(self, name: str) -> Array:
        """Return one forecast input, shape (time,). Raises UnknownNameError."""
        return self.future.values[:, self.future.inputs.position(name)]

    def last_settings(self) -> dict[str, float]:
        """Return what the building is set to when the outlook begins: the last hour of the past."""
        return {n: float(self.past.values[-1, self.past.inputs.position(n)]) for n in self.settings.names}

    def scenarios(self, plans_nts: Array) -> Array:
        """Return one scenario per plan.

        Args:
            plans_nts: settings, shape (plans, steps, settings), `settings` order, hourly or 15 min.

        Returns:
            x_btc, shape (plans, hours, inputs), what a Predictor given the past is asked.
        """
        hourly = hourly_means(plans_nts, len(self.future))
        x_btc = np.repeat(self.future.values[None], len(hourly), axis=0)
        x_btc[:, :, self.future.inputs.positions(self.settings.names)] = hourly
        return x_btc

    def plan_values(self, plan: Plan) -> Array:
        """Return a plan as an array (1, steps, settings) over this outlook, at the plan's own resolution."""
        missing = [n for n in self.settings.names if n not in plan.frame.columns]
        if missing:
            raise MissingColumnError(
                what="the plan", n_missing=len(missing), n_wanted=len(self.settings), missing=", ".join(missing)
            )
        end = self.future.index[-1] + pd.Timedelta(hours=1)
        frame = plan.frame[(plan.frame.index >= self.future.index[0]) & (plan.frame.index < end)]
        values: Array = frame[list(self.settings.names)].to_numpy(dtype=float)[None]
        if values.shape[1] * plan.step_min != len(self.future) * 60:
            raise ShapeError(
                what="a plan for this outlook",
                shape=values.shape[1:],
                wanted=f"{len(self.future)} hours from {self.future.index[0]}",
            )
        return values


def hourly_means(plans_nts: Array, n_hours: int) -> Array:
    """Return hourly means of plans, shape (plans, hours, settings).

    Raises:
        ShapeError: the steps are no whole number per hour.
    """
    n, steps, settings = plans_nts.shape
    if steps == n_hours:
        return plans_nts
    if steps % n_hours:
        raise ShapeError(what="the plans", shape=plans_nts.shape, wanted=f"a whole number of steps in each of {n_hours} hours")
    return np.asarray(plans_nts.reshape(n, n_hours, steps // n_hours, settings).mean(axis=2))
