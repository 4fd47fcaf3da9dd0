"""Calibration: what a fit found, how sure it is, whether it may be used; as a value, as JSON, and as text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from building.errors import CalibrationRefusedError
from building.plan import WeekProfile
from calibration.guideline14 import HOURLY, EnergyFigure, IndoorFigure
from calibration.identifiability import Spread
from calibration.residual import ResidualModel


@dataclass(frozen=True)
class Calibration:
    """A predictor fitted to one building.

    Attributes:
        parameters: fitted (and fixed) constants of the building, inside units; what a Scenario is given.
        spreads: how well each fitted coordinate is known.
        energy: Guideline 14 figures on the held-out hours.
        indoor: errors of the indoor channels on the held-out hours, inside units.
        day_ahead: per output, RMSE 1-24 h ahead on the held-out hours without and with the residual correction.
        refusals: why it must not be used; accepted when empty.
        warnings: what a person should know although it is accepted.
        residual: how recent errors carry into a forecast.
        profile: the fitted schedule of settings nobody measured, or None.
        dropped: reason by name, for each measured output that was not used.
        start, end: first instant and end of the measured frame used (UTC).
        n_fit_h, n_held_out_h: hours fitted and judged.
        misfit: at the optimum; 1 is one sigma off everywhere.
        seed, generations, evaluations, stopped: of the CMA-ES search (the last polish adds a few batches).
        seconds: of the whole calibration.
    """

    parameters: Mapping[str, float]
    spreads: tuple[Spread, ...]
    energy: tuple[EnergyFigure, ...]
    indoor: tuple[IndoorFigure, ...]
    day_ahead: Mapping[str, tuple[float, float]]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    residual: ResidualModel
    profile: WeekProfile | None
    dropped: Mapping[str, str]
    start: pd.Timestamp
    end: pd.Timestamp
    n_fit_h: int
    n_held_out_h: int
    misfit: float
    seed: int
    generations: int
    evaluations: int
    seconds: float = field(compare=False)
    stopped: str = "settled"

    @property
    def is_accepted(self) -> bool:
        """Whether nothing speaks against using it."""
        return not self.refusals

    def require_accepted(self) -> None:
        """Raise CalibrationRefusedError when it must not be used."""
        if self.refusals:
            raise CalibrationRefusedError(reason="; ".join(self.refusals))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data, read back by `from_dict`; figures that do not exist are None."""
        return {
            "is_accepted": self.is_accepted,
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "n_fit_h": self.n_fit_h,
            "n_held_out_h": self.n_held_out_h,
            "parameters": dict(self.parameters),
            "spreads": [asdict(s) for s in self.spreads],
            "energy": [f.to_dict() for f in self.energy],
            "indoor": [f.to_dict() for f in self.indoor],
            "day_ahead": {n: list(pair) for n, pair in self.day_ahead.items()},
            "residual": self.residual.to_dict(),
            "profile": None if self.profile is None else self.profile.to_dict(),
            "dropped": dict(self.dropped),
            "misfit": self.misfit,
            "search": {
                "seed": self.seed,
                "generations": self.generations,
                "evaluations": self.evaluations,
                "seconds": round(self.seconds, 3),
                "stopped": self.stopped,
            },
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Calibration:
        """Rebuild from `to_dict`'s data."""
        search = data["search"]
        return Calibration(
            parameters=dict(data["parameters"]),
            spreads=tuple(Spread(**s) for s in data["spreads"]),
            energy=tuple(EnergyFigure.from_dict(f) for f in data["energy"]),
            indoor=tuple(IndoorFigure.from_dict(f) for f in data["indoor"]),
            day_ahead={n: (float(a), float(b)) for n, (a, b) in data["day_ahead"].items()},
            refusals=tuple(data["refusals"]),
            warnings=tuple(data["warnings"]),
            residual=ResidualModel.from_dict(data["residual"]),
            profile=None if data["profile"] is None else WeekProfile.from_dict(data["profile"]),
            dropped=dict(data["dropped"]),
            start=pd.Timestamp(data["start"]),
            end=pd.Timestamp(data["end"]),
            n_fit_h=data["n_fit_h"],
            n_held_out_h=data["n_held_out_h"],
            misfit=data["misfit"],
            seed=search["seed"],
            generations=search["generations"],
            evaluations=search["evaluations"],
            seconds=search["seconds"],
            stopped=search["stopped"],
        )


def text_report(calibration: Calibration) -> str:
    """Return the calibration as text for people: percent, intervals, `-` for a figure that does not exist."""
    c = calibration
    names = [*(e.name for e in c.energy), *(f.name for f in c.indoor), *(s.name for s in c.spreads)]
    width = max(len(name) for name in ("held-out energy", *names)) + 2
    limits = f"(hourly limits {HOURLY.cv_rmse:.0%}, {HOURLY.nmbe:.0%})"
    lines = [
        f"Calibration {c.start:%Y-%m-%d} .. {c.end:%Y-%m-%d}: {'accepted' if c.is_accepted else 'REFUSED'}",
        *(f"  refused because {reason}" for reason in c.refusals),
        *(f"  note: {warning}" for warning in c.warnings),
        f"  fitted on {c.n_fit_h} h, judged on {c.n_held_out_h} h held out; {c.evaluations} evaluations in {c.seconds:.1f} s",
        "",
        f"  {'held-out energy':<{width}}{'CV(RMSE)':>9}{'NMBE':>9}{'daily CV(RMSE)':>17}   {limits}",
    ]
    for e in c.energy:
        verdict = ("passes" if e.passes else "FAILS") if e.is_judged else "not judged: too little of it"
        figures = f"{_cell(e.cv_rmse, '.1%', 9)}{_cell(e.nmbe, '+.1%', 9)}{_cell(e.cv_rmse_daily, '.1%', 17)}"
        lines.append(f"  {e.name:<{width}}{figures}   {verdict}")
    lines += ["", f"  {'held-out indoor':<{width}}{'RMSE':>10}{'bias':>10}{'24 h ahead':>13}{'with last errors':>19}"]
    for f in c.indoor:
        free, corrected = c.day_ahead.get(f.name, (math.nan, math.nan))
        errors = f"{_cell(f.rmse, '.3g', 10)}{_cell(f.bias, '+.2g', 10)}{_cell(free, '.3g', 13)}{_cell(corrected, '.3g', 19)}"
        lines.append(f"  {f.name:<{width}}{errors} {f.unit}")
    lines += ["", f"  {'parameter':<{width}}{'value':>10}   one standard deviation"]
    for s in c.spreads:
        lines.append(f"  {s.name:<{width}}{s.value:>10.4g}   {s.low:.4g} .. {s.high:.4g}   {s.state}")
    if c.dropped:
        lines += ["", "  not used:", *(f"  {name}: {reason}" for name, reason in c.dropped.items())]
    return "\n".join(lines)


def _cell(figure: float, form: str, width: int) -> str:
    return f"{format(figure, form) if math.isfinite(figure) else '-':>{width}}"
