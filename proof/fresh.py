"""`setwise evaluate`: a bundle against fresh EnergyPlus runs it has never seen."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from building.description import load_building
from building.errors import BadDatasetError
from building.scenario import Scenario
from models.evaluation import LOADS, SMALL_SHARE, by_output, figures, restart_hours
from models.runtime.bundle import load_bundle
from models.runtime.session import OnnxPredictor
from simulation.campaign import Campaign, DrawAndSimulate, Outcome, local_map
from simulation.energyplus import SPIN_UP_H

Climates = Literal["training", "held-out"]


@dataclass(frozen=True)
class Evaluation:
    """Figures of a bundle on fresh runs; see `models.evaluation.figures` for their meaning."""

    overall: dict[str, float]
    outputs: dict[str, dict[str, float]]
    groups: dict[str, dict[str, float]]
    speedup: float
    n_runs: int
    n_failed: int

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        return {**self.overall, "speedup": self.speedup, "runs": self.n_runs, "failed_runs": self.n_failed}

    def tables(self) -> list[tuple[str, tuple[str, ...], Sequence[Sequence[object]]]]:
        """Return figures by output and by group of runs."""
        rows = [(n, f["rmse"], f["r2"], f["total_error_median"], f["total_error_worst"]) for n, f in self.outputs.items()]
        keys = (
            "zone_temperature_rmse_k",
            "co2_rmse_ppm",
            "heating_r2",
            "cooling_r2",
            "fan_r2",
            "electricity_r2",
            "total_error_median",
        )
        grouped = [(n, *(f.get(k, float("nan")) for k in keys)) for n, f in self.groups.items()]
        return [
            ("outputs", ("output", "rmse", "r2", "total error median", "worst"), rows),
            ("groups", ("runs", *keys), grouped),
        ]


def evaluate(
    bundle: Path,
    runs: int = 24,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[..., None] = lambda *a: None,
    climates: Climates = "training",
) -> Evaluation:
    """Simulate fresh runs drawn from evaluation.toml and compare.

    Args:
        bundle: folder of the bundle.
        runs: how many windows of 168 + 672 h.
        seed: of the draws; fresh runs start in the third week of a month, where no training window starts.
        workers: processes; all cores when None.
        progress: called with (done, total, note).
        climates: ``training`` draws from the climates of the campaign, ``held-out`` from those in no campaign.

    Raises:
        BadBundleError and its kin. BadDatasetError: no run succeeded.
    """
    loaded = load_bundle(bundle)
    predictor = OnnxPredictor(loaded)
    building = load_building(loaded.building)
    campaign = Campaign(loaded.building, runs, 1, seed=10_000 + seed, held_out=True, climates=climates)
    done: list[Outcome] = []
    failures: list[str] = []
    with local_map(workers) as spread:
        for outcome in spread(DrawAndSimulate(campaign), range(runs)):
            if outcome.failure is None:
                done.append(outcome)
            else:
                failures.append(outcome.failure["reason"])
            progress(len(done) + len(failures), runs, f"{len(failures)} failed")
    if not done:
        raise BadDatasetError(path=bundle, reason=f"no fresh run succeeded. The first failure: {'; '.join(failures[:1])}")
    done.sort(key=lambda o: o.number)
    values = np.stack([o.values for o in done if o.values is not None]).astype(float)
    x_btc = values[:, :, building.inputs.positions(predictor.inputs.names)]
    y_true = values[:, :, len(building.inputs) :][:, :, building.outputs.positions(predictor.outputs.names)]
    y_pred = predictor.predict(x_btc)
    is_restart = restart_hours(x_btc, predictor.inputs)

    def of(keep: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float]:
        found = figures(y_true[keep], y_pred[keep], predictor.outputs, SPIN_UP_H, is_restart[keep])
        for load, names in LOADS.items():
            true = y_true[:, SPIN_UP_H:, predictor.outputs.positions(n for n in names if n in predictor.outputs)]
            if true[keep].std() < SMALL_SHARE * true.std():
                found[f"{load}_r2"] = float("nan")  # a load that hardly changes in this group: R2 would say nothing
        return found

    outdoor = x_btc[:, SPIN_UP_H:, predictor.inputs.position("outdoor_air_temperature")].mean(axis=1)
    groups = {
        "schedules": np.array([o.kinds[0] == "schedule" for o in done]),
        "odd hourly series": np.array([o.kinds[0] == "odd" for o in done]),
    }
    groups |= {
        "mean outdoors below 8 degC": outdoor < 8,
        "8 to 18 degC": (outdoor >= 8) & (outdoor < 18),
        "above 18 degC": outdoor >= 18,
    }
    groups |= {c: np.array([o.climate == c for o in done]) for c in sorted({o.climate for o in done})}
    ours_s = _cpu_s_of(predictor, building.inputs.names, values[:, :, : len(building.inputs)])
    return Evaluation(
        overall=of(np.ones(len(done), dtype=bool)),
        outputs=by_output(y_true, y_pred, predictor.outputs, SPIN_UP_H),
        groups={name: of(keep) for name, keep in groups.items() if keep.any()},
        speedup=sum(o.cpu_s for o in done) / ours_s,
        n_runs=len(done),
        n_failed=len(failures),
    )


def _cpu_s_of(predictor: OnnxPredictor, names: tuple[str, ...], inputs: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return CPU seconds (user + system) of assembling and predicting the windows, one thread, one batch; best of three."""
    index = pd.date_range("2018-01-01", periods=inputs.shape[1], freq="60min", tz="UTC")
    frames = [pd.DataFrame(x, index=index, columns=list(names)) for x in inputs]
    best = np.inf
    for _ in range(3):
        before = _own_cpu_s()
        x_btc = np.stack([Scenario.from_frame(predictor.inputs, f).values for f in frames])
        predictor.predict(x_btc)
        best = min(best, _own_cpu_s() - before)
    return best


def _own_cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime
