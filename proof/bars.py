"""The bars of a metamodel: what `setwise evaluate` must show, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A limit on one figure: at most `limit`, or at least it."""

    words: str
    figure: str
    limit: float
    is_least: bool = False

    def is_met(self, figures: Mapping[str, float]) -> bool | None:
        """Say whether the figure keeps the limit; None where it was not measured or is not a number."""
        found = figures.get(self.figure)
        if found is None or not math.isfinite(found):
            return None
        return found >= self.limit if self.is_least else found <= self.limit

    def row(self, figures: Mapping[str, float]) -> tuple[object, ...]:
        """Return what a table says of it: words, limit, figure, verdict."""
        sign = ">=" if self.is_least else "<="
        verdict = {True: "met", False: "NOT MET", None: "not judged"}[self.is_met(figures)]
        return self.words, f"{sign} {self.limit:g}", figures.get(self.figure), verdict


BARS = (
    Bar("zone temperature RMSE [K]", "zone_temperature_rmse_k", 0.20),
    Bar("drift: last week's temperature RMSE over the first", "last_over_first_week", 1.1),
    Bar("CO2 RMSE [ppm]", "co2_rmse_ppm", 45),
    Bar("heating R2", "heating_r2", 0.98, is_least=True),
    Bar("cooling R2", "cooling_r2", 0.99, is_least=True),
    Bar("fan R2", "fan_r2", 0.98, is_least=True),
    Bar("electricity R2", "electricity_r2", 0.99, is_least=True),
    Bar("28-day totals, median error", "total_error_median", 0.03),
    Bar("worst error in held-out over training climates", "held_out_ratio", 1.5),
    Bar("least coverage of the 90 % intervals", "coverage_min", 0.87, is_least=True),
    Bar("largest coverage of the 90 % intervals", "coverage_max", 0.93),
)


def counts(figures: Mapping[str, float], bars: Sequence[Bar] = BARS) -> tuple[int, int]:
    """Return how many bars are met, and how many could be judged."""
    verdicts = [v for b in bars if (v := b.is_met(figures)) is not None]
    return sum(verdicts), len(verdicts)
