"""One hidden plant, the whole chain: live, measure, calibrate, plan, live the planned week with and without, compare.

The optimiser is given the weather and occupancy the coming week will have: what is proven is the chain, not a weather service.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from building.plan import Plan
from building.predictor import Predictor
from building.scenario import Scenario
from calibration.calibrate import calibrate
from calibration.present import present
from calibration.report import Calibration
from optim.choice import choose
from optim.front import Front
from optim.search import search
from proof.kpis import Kpis, is_air_no_worse, is_comfort_no_worse, kpis
from proof.plants import Plant, measure
from proof.upper_bound import best_known_saving


@dataclass(frozen=True)
class Verdict:
    """What the chain did for one plant.

    Attributes:
        plant: its number. start: first hour of the planned week (UTC).
        calibration: fitted to its four measured weeks.
        front, plan: what was found and chosen.
        baseline: ``own``, or ``own_raised`` when the own schedule breaks the minimum renewal.
        own, rules, chosen: KPIs of the simulated week under the baseline, good practice, and the plan.
        predicted_saving, saving, saving_vs_rules: shares of the baseline's (the rules') HVAC energy; the first by the metamodel,
            the others simulated.
        parameter_error: median distance of the fitted parameters from the true ones, of the unit interval.
        captured: saving over the best saving that a search in EnergyPlus itself found; None when none was asked for.
        seconds_calibration, seconds_search: wall time.
    """

    plant: int
    start: pd.Timestamp
    calibration: Calibration
    front: Front
    plan: Plan
    baseline: str
    own: Kpis
    rules: Kpis
    chosen: Kpis
    predicted_saving: float
    saving: float
    saving_vs_rules: float
    parameter_error: float
    captured: float | None
    seconds_calibration: float
    seconds_search: float

    @property
    def is_comfort_no_worse(self) -> bool:
        """See `kpis.is_comfort_no_worse`."""
        return is_comfort_no_worse(self.chosen, self.own)

    @property
    def is_air_no_worse(self) -> bool:
        """See `kpis.is_air_no_worse`."""
        return is_air_no_worse(self.chosen, self.own)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "plant": self.plant,
            "start": self.start.isoformat(),
            "calibration": self.calibration.to_dict(),
            "baseline": self.baseline,
            "kpis": {"own": asdict(self.own), "rules": asdict(self.rules), "chosen": asdict(self.chosen)},
            "predicted_saving": self.predicted_saving,
            "saving": self.saving,
            "saving_vs_rules": self.saving_vs_rules,
            "parameter_error": self.parameter_error,
            "captured": self.captured,
            "plan": self.plan.meta.get("reason", ""),
            "decisions": self.plan.meta.get("decisions", {}),
        }


def close_loop(plant: Plant, predictor: Predictor, seed: int, upper_bound: int = 0) -> Verdict:
    """Run the chain for one plant.

    Args:
        plant: the hidden building.
        predictor: the metamodel.
        seed: of calibration and search.
        upper_bound: simulations spent on a search in EnergyPlus itself (`proof.upper_bound`); 0 for none.

    Raises:
        FailedRunError: the simulator; anything calibration and search raise. A refused calibration is used all the same, and the
        verdict shows it: in service it would not be.
    """
    building = plant.building
    truth = plant.live()
    measured = measure(plant, truth)
    history = building.with_sun(measured[measured.index < plant.planned_from])
    began = time.monotonic()
    calibration = calibrate(predictor, history, building.parameter_space, seed=seed, time_zone=building.site.time_zone)
    calibrated = time.monotonic()
    index = pd.DatetimeIndex(truth.index[truth.index >= plant.planned_from])
    past, correct = present(predictor, calibration, history, index, building.site.time_zone)
    future = Scenario.from_frame(predictor.inputs, truth.loc[index], calibration.parameters)
    front = search(predictor, building, past, future, seed=seed, correct=correct)
    plan = choose(front)
    searched = time.monotonic()
    lived = {
        "own": truth if front.baseline == "own" else plant.live(front.references[front.baseline].plan.frame),
        "rules": plant.live(front.references["rules"].plan.frame),
        "chosen": plant.live(plan.frame),
    }
    judged = {name: kpis(building, frame, plant.planned_from) for name, frame in lived.items()}
    saving = 1 - judged["chosen"].hvac_kwh / judged["own"].hvac_kwh
    captured = None
    if upper_bound:
        best = best_known_saving(plant, truth, plan, front.baseline, upper_bound, seed, n_workers=1)
        captured = saving / max(best, saving)
    space = building.parameter_space
    true_u = space.to_unit([plant.run.parameters[n] for n in space.names])
    found_u = space.to_unit([calibration.parameters[n] for n in space.names])
    return Verdict(
        plant=plant.number,
        start=plant.planned_from,
        calibration=calibration,
        front=front,
        plan=plan,
        baseline=front.baseline,
        own=judged["own"],
        rules=judged["rules"],
        chosen=judged["chosen"],
        predicted_saving=float(plan.meta["saving"][front.baseline]),
        saving=saving,
        saving_vs_rules=1 - judged["chosen"].hvac_kwh / judged["rules"].hvac_kwh,
        parameter_error=float(np.median(np.abs(true_u - found_u))),
        captured=captured,
        seconds_calibration=calibrated - began,
        seconds_search=searched - calibrated,
    )
