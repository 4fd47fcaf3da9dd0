"""How much did it really save? A switchback trial or a before and after, with the uncertainty of ASHRAE Guideline 14.

Days (or weeks) under the optimised plan alternate with days under the building's own schedule, so that weather, season and
habits fall on both sides. Savings are IPMVP option C: adjusted baseline - reported use, the baseline fitted on the own days
and asked for the weather of the plan's days. A building remembers yesterday: with blocks of one day the plan's savings are
understated by what its mass carries over; weeks carry less, and need more of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import NormalDist
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.errors import ShapeError, TooFewDataError

Array = NDArray[np.float64]

HEATING_BASE_C = 15.0
COOLING_BASE_C = 18.0
LEAST_DAYS = 10
"""Days per side below which no saving is stated."""


def switchback(start: date, n_weeks: int, rng: np.random.Generator, block: Literal["day", "week"] = "day") -> pd.Series:
    """Draw a switchback trial: which days run the plan.

    Weeks are taken in pairs. With ``day`` blocks a coin decides for each day of the week in which week of the pair it runs
    the plan; with ``week`` blocks a coin decides which of the two weeks does. So each day of the week is on both sides
    equally often.

    Args:
        start: first local day.
        n_weeks: even.
        rng: the coin.
        block: what is switched as a whole.

    Returns:
        ``plan`` or ``own`` by local date.

    Raises:
        ShapeError: an odd or non-positive number of weeks.
    """
    if n_weeks <= 0 or n_weeks % 2:
        raise ShapeError(what="a switchback trial", shape=(n_weeks,), wanted="an even number of weeks")
    n_coins = 7 if block == "day" else 1
    sides = []
    for _ in range(n_weeks // 2):
        first = np.broadcast_to(rng.random(n_coins) < 0.5, 7)
        sides += [first, ~first]
    runs_plan = np.concatenate(sides)
    days = [start + timedelta(days=i) for i in range(7 * n_weeks)]
    return pd.Series(np.where(runs_plan, "plan", "own"), index=days)


@dataclass(frozen=True)
class Savings:
    """Savings of the plan's days against the adjusted baseline.

    Attributes:
        baseline_kwh: what the own schedule would have used on the plan's days.
        reported_kwh: what was used.
        saving: share of the baseline.
        uncertainty: half width of the interval of `saving` at `confidence`, share of the baseline.
        uncertainty_68: the same at 68 %, the confidence of Guideline 14's criterion.
        confidence: two-sided.
        cv_rmse: of the baseline on the own days, share.
        n_own, n_plan: days.
        expected_kwh: by day used, on either side, what the baseline says of it.
    """

    baseline_kwh: float
    reported_kwh: float
    saving: float
    uncertainty: float
    uncertainty_68: float
    confidence: float
    cv_rmse: float
    n_own: int
    n_plan: int
    expected_kwh: dict[date, float]

    @property
    def is_shown(self) -> bool:
        """Whether the uncertainty is at most half the saving, what Guideline 14-2014 (4.2.11) asks for at 68 % confidence."""
        return self.saving > 0 and self.uncertainty_68 <= 0.5 * self.saving


def savings(daily: pd.DataFrame, confidence: float = 0.68) -> Savings:
    """Return the savings of the plan's days against the own days, of a switchback trial or before and after.

    Baseline by least squares on the own days: E = b0 + b1 max(0, 15 - T) + b2 max(0, T - 18) + b3 [weekend]; a term that is
    the same on all own days is left out. Plan days colder or warmer than every own day are left out: there the baseline would
    be a guess. Uncertainty of the savings fraction after Guideline 14-2002, annex B (B-15):

        t 1.26 CV(RMSE) sqrt(n/n' (1 + 2/n') 1/m),   n' = n (1 - rho) / (1 + rho)

    with n own days, m plan days and rho the lag-one autocorrelation of the baseline's errors. It takes m to be about n; with many
    more plan days what stays is how well the baseline itself is known. So the interval is the larger of that and the prediction
    interval of least squares for the sum over the plan's days, v' (X'X)^-1 v n/n' + m, v the sum of their rows.

    Args:
        daily: one row per day, index of dates; columns ``energy_kwh``, ``outdoor_air_temperature`` (daily mean), ``side``
            (plan, own).
        confidence: two-sided.

    Raises:
        TooFewDataError: fewer than `LEAST_DAYS` good days on a side.
    """
    good = daily.dropna()
    own, plan = good[good["side"] == "own"], good[good["side"] == "plan"]
    if len(own):
        seen = own["outdoor_air_temperature"]
        plan = plan[plan["outdoor_air_temperature"].between(seen.min(), seen.max())]
    for side, days in (("own", own), ("plan", plan)):
        if len(days) < LEAST_DAYS:
            hint = f"These are the {side} days, 24 h each; go on for longer."
            raise TooFewDataError(what="a saving", found=24.0 * len(days), wanted=24.0 * LEAST_DAYS, hint=hint)
    terms, asked = _terms(own), _terms(plan)
    kept = np.concatenate([[True], np.ptp(terms[:, 1:], axis=0) > 0])
    energy = own["energy_kwh"].to_numpy(dtype=float)
    coefficients = np.linalg.lstsq(terms[:, kept], energy, rcond=None)[0]
    errors = energy - terms[:, kept] @ coefficients
    n, m, p = len(own), len(plan), int(kept.sum())
    cv = float(np.sqrt((errors**2).sum() / (n - p)) / energy.mean())
    power = float((errors**2).sum())
    rho = float(np.clip((errors[1:] * errors[:-1]).sum() / power, 0.0, 0.9)) if power > 0 else 0.0
    effective = n * (1 - rho) / (1 + rho)
    baseline = float((asked[:, kept] @ coefficients).sum())
    reported = float(plan["energy_kwh"].sum())
    v = asked[:, kept].sum(axis=0)
    spread = (
        cv
        * energy.mean()
        / baseline
        * math.sqrt(float(v @ np.linalg.pinv(terms[:, kept].T @ terms[:, kept]) @ v) * n / effective + m)
    )
    one = max(1.26 * cv * math.sqrt(n / effective * (1 + 2 / effective) / m), spread)

    def half_width(at: float) -> float:
        return float(student_t(0.5 + at / 2, max(effective - p, 1.0)) * one)

    used = pd.concat([own, plan])
    return Savings(
        baseline_kwh=baseline,
        reported_kwh=reported,
        saving=(baseline - reported) / baseline,
        uncertainty=half_width(confidence),
        uncertainty_68=half_width(0.68),
        confidence=confidence,
        cv_rmse=cv,
        n_own=n,
        n_plan=m,
        expected_kwh=dict(zip(used.index, (_terms(used)[:, kept] @ coefficients).tolist(), strict=True)),
    )


def _terms(days: pd.DataFrame) -> Array:
    t = days["outdoor_air_temperature"].to_numpy(dtype=float)
    weekend = np.array([pd.Timestamp(day).weekday() >= 5 for day in days.index], dtype=float)
    return np.stack([np.ones(len(t)), np.maximum(0, HEATING_BASE_C - t), np.maximum(0, t - COOLING_BASE_C), weekend], axis=1)


def student_t(probability: float, degrees: float) -> float:
    """Return a quantile of Student's t by the expansion of Abramowitz and Stegun (26.7.5); within 1 % from 4 degrees on."""
    z = NormalDist().inv_cdf(probability)
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3
