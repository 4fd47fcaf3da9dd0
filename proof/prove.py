"""`setwise prove`: hidden plants in closed loop with EnergyPlus; the saving is the simulator's, never the metamodel's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from building.description import load_building
from models.runtime.bundle import load_bundle
from models.runtime.session import OnnxPredictor
from proof.closed_loop import Verdict, close_loop
from proof.plants import draw_plant


@dataclass(frozen=True)
class Proof:
    """The verdicts of all plants; `facts` are the medians and the worst, shares rather than percent."""

    verdicts: tuple[Verdict, ...]

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        v = self.verdicts
        saving = np.array([x.saving for x in v])
        gap = np.array([x.predicted_saving - x.saving for x in v])
        electricity = [f.cv_rmse for x in v for f in x.calibration.energy if f.name == "facility_electricity"]
        thermal = [f.cv_rmse for x in v for f in x.calibration.energy if f.name != "facility_electricity" and f.is_judged]
        nmbe = [abs(f.nmbe) for x in v for f in x.calibration.energy if f.is_judged]
        return {
            "plants": len(v),
            "guideline14_passed": sum(all(f.passes for f in x.calibration.energy if f.is_judged) for x in v),
            "accepted": sum(x.calibration.is_accepted for x in v),
            "saving_median": float(np.median(saving)),
            "saving_worst": float(saving.min()),
            "saving_vs_rules_median": float(np.median([x.saving_vs_rules for x in v])),
            "promise_gap_median": float(np.median(np.abs(gap))),
            "promise_gap_worst": float(np.abs(gap).max()),
            **self._captured(),
            "comfort_no_worse": int(all(x.is_comfort_no_worse for x in v)),
            "air_no_worse": int(all(x.is_air_no_worse for x in v)),
            "electricity_cv_rmse_median": float(np.median(electricity)),
            "thermal_cv_rmse_median": float(np.median(thermal)) if thermal else None,
            "nmbe_median": float(np.median(nmbe)),
            "parameter_error_median": float(np.median([x.parameter_error for x in v])),
            "seconds_median": float(np.median([x.seconds_calibration + x.seconds_search for x in v])),
        }

    def _captured(self) -> dict[str, float]:
        captured = [x.captured for x in self.verdicts if x.captured is not None]
        return {"captured_median": float(np.median(captured)), "captured_worst": min(captured)} if captured else {}

    def tables(self) -> list[tuple[str, tuple[str, ...], Sequence[Sequence[object]]]]:
        """Return one row per plant."""
        columns = (
            "plant", "week of", "calibration", "electricity CV", "baseline", "kWh", "rules kWh", "plan kWh", "predicted",
            "saving", "vs rules", "K.h own", "K.h plan", "ppm.h own", "ppm.h plan", "CO2 own", "CO2 plan",
        )  # fmt: skip
        rows = []
        for x in self.verdicts:
            electricity = next(f.cv_rmse for f in x.calibration.energy if f.name == "facility_electricity")
            rows.append(
                (
                    x.plant, f"{x.start:%Y-%m-%d}", "accepted" if x.calibration.is_accepted else "refused", f"{electricity:.1%}",
                    x.baseline, round(x.own.hvac_kwh), round(x.rules.hvac_kwh), round(x.chosen.hvac_kwh),
                    f"{x.predicted_saving:.1%}", f"{x.saving:.1%}", f"{x.saving_vs_rules:.1%}",
                    round(x.own.tdis_tot, 2), round(x.chosen.tdis_tot, 2), round(x.own.idis_tot, 1), round(x.chosen.idis_tot, 1),
                    round(x.own.co2_ppm), round(x.chosen.co2_ppm),
                )
            )  # fmt: skip
        reasons = [(x.plant, r) for x in self.verdicts for r in x.calibration.refusals]
        return [("plants", columns, rows)] + ([("refusals", ("plant", "reason"), reasons)] if reasons else [])


@dataclass(frozen=True)
class _Case:
    """The work of one plant, as a value that travels to a worker."""

    bundle: Path
    seed: int
    upper_bound: int

    def __call__(self, number: int) -> Verdict:
        bundle = load_bundle(self.bundle)
        building = load_building(bundle.building)
        return close_loop(draw_plant(building, number, self.seed), OnnxPredictor(bundle), self.seed, self.upper_bound)


def prove(
    bundle: Path,
    plants: int = 4,
    seed: int = 0,
    progress: Callable[..., None] = lambda *a: None,
    workers: int | None = None,
    upper_bound: int = 0,
) -> Proof:
    """Prove a bundle on hidden plants, spread over processes of this machine.

    Args:
        bundle: folder of the bundle.
        plants: how many.
        seed: which.
        progress: called with (done, total, note).
        workers: processes; all cores when None.
        upper_bound: simulations per plant for a search in EnergyPlus itself, which `captured_median` needs; 0 for none.

    Raises:
        BadBundleError and its kin: the bundle. FailedRunError: the simulator.
    """
    load_bundle(bundle)  # refuse a bad bundle before any worker starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found: list[Verdict] = []
    with ProcessPoolExecutor(min(plants, workers or os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(_Case(bundle.resolve(), seed, upper_bound), n) for n in range(plants)]
        for future in as_completed(pending):
            found.append(future.result())
            progress(len(found), plants, f"plant {found[-1].plant}: {found[-1].saving:.1%} saved")
    return Proof(tuple(sorted(found, key=lambda v: v.plant)))
