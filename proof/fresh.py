"""`setwise evaluate`: fresh EnergyPlus runs that a bundle has never seen, what it answers to them, bars, tables and speed."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from building.description import Building, load_building
from building.errors import BadDatasetError, BadDescriptionError
from building.scenario import Scenario
from models.evaluation import held_out_ratios
from models.runtime.bundle import load_bundle
from models.runtime.intervals import Intervals
from models.runtime.session import OnnxPredictor
from proof.bars import BARS, counts
from proof.compare import Array, Chain, Figures, Judged, Runs, chain_windows, judge, within_bounds
from simulation.campaign import Campaign, DrawAndSimulate, Outcome, local_map
from simulation.epw import find_weather, read_epw
from simulation.sampling import load_evaluation

Climates = Literal["training", "held-out"]
Rows = tuple[tuple[str, ...], list[tuple[object, ...]]]
"""Columns and rows of a table."""

CHAINED_WINDOWS = 3


@dataclass(frozen=True)
class Evaluation:
    """What `setwise evaluate` says.

    Attributes:
        judged: the runs asked for.
        training: the same in training climates, where held-out ones were asked for; the bars are judged on it.
        ratios: errors held-out over training, by figure.
        chain: chained windows, if any were asked for.
        speedup: CPU seconds of EnergyPlus over those of the bundle (one thread, assembly of the inputs included).
    """

    judged: Judged
    training: Judged | None
    ratios: Figures
    chain: Chain | None
    speedup: float

    @property
    def failures(self) -> tuple[tuple[str, str], ...]:
        """Climate and reason of every run that failed."""
        return (
            *self.judged.runs.failures,
            *(self.training.runs.failures if self.training else ()),
            *(self.chain.failures if self.chain else ()),
        )

    def to_judge(self) -> Figures:
        """Return the figures that the bars are about: those of the training climates, and the ratio of the held-out ones."""
        return (self.training or self.judged).figures() | self._held_out()

    def _chained(self) -> Figures:
        if self.chain is None:
            return {}
        chain = self.chain
        return {"chained_ratio": chain.ratio, "chained_over_alone": chain.over_alone, "chained_gap": chain.gap}

    def _held_out(self) -> Figures:
        return {"held_out_ratio": max(self.ratios.values())} if self.ratios else {}

    @property
    def is_good(self) -> bool:
        """Whether every bar that could be judged is met."""
        met, judged = counts(self.to_judge())
        return met == judged

    def facts(self) -> dict[str, Any]:
        """Return the last line's key=value pairs."""
        met, n_judged = counts(self.to_judge())
        return {
            **self.judged.figures(),
            **self._chained(),
            **self._held_out(),
            "speedup": self.speedup,
            "runs": len(self.judged.runs),
            "failed_runs": len(self.failures),
            "bars_met": met,
            "bars_judged": n_judged,
        }

    def tables(self, everything: bool = True) -> Sequence[tuple[str, tuple[str, ...], Sequence[Sequence[object]]]]:
        """Return the tables; without `everything` those that fit a page."""
        j, key = self.judged, "bars_in_training_climates" if self.training else "bars"
        tables = [
            (key, ("bar", "limit", "found", "verdict"), [b.row(self.to_judge()) for b in BARS]),
            ("energy", *_energy_rows(j.energy)),
            ("restart_hours", *_restart_rows(j.restart)),
            ("exact_zeros", *_zero_rows(j.zeros)),
        ]
        shown = j.apart if everything else {k: v for k, v in j.apart.items() if k not in ("climate", "hour of day")}
        tables += [(f"by_{kind.replace(' ', '_')}", *_group_rows(groups)) for kind, groups in shown.items()]
        if self.chain and self.chain.windows:
            tables.append(("chained_windows", *_group_rows(self.chain.windows)))
        if self.ratios:
            tables.append(("held_out_over_training", ("figure", "ratio"), list(self.ratios.items())))
        if everything:
            tables += [("zones", *_flat_rows("zone", j.by_zone)), ("outputs", *_output_rows(j))]
        if self.failures:
            reasons = Counter(self.failures)
            tables.append(("failures", ("climate", "runs", "reason"), [(c, n, why) for (c, why), n in reasons.items()]))
        return tables

    def details(self) -> dict[str, Any]:
        """Return every figure under its full name, for machines."""
        return {
            "overall": self.judged.overall,
            "by_output": self.judged.by_output,
            "apart": self.judged.apart,
            "coverage": self.judged.coverage,
            "chain": self.chain.windows if self.chain else {},
            "training_climates": self.training.figures() if self.training else None,
        }


def evaluate(
    bundle: Path,
    runs: int = 24,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[..., None] = lambda *a: None,
    climates: Climates = "training",
    chains: int = 0,
) -> Evaluation:
    """Simulate fresh runs drawn from evaluation.toml and compare.

    Args:
        bundle: folder of the bundle.
        runs: how many windows of 168 + 672 h.
        seed: of the draws; fresh runs start in the third week of a month, where no training window starts.
        workers: processes; all cores when None.
        progress: called with (done, total, note).
        climates: ``training`` draws from the climates of the campaign, ``held-out`` from those in no campaign, and compares with
            as many runs of the same seed in the climates of the campaign.
        chains: how many runs of 168 + 3 x 672 h to answer window after window.

    Raises:
        BadBundleError and its kin. BadDescriptionError: the building has no evaluation.toml, or a bad one. BadDatasetError: no
        run succeeded. NotFiniteError: the bundle answers what is no number.
    """
    loaded = load_bundle(bundle)
    predictor = OnnxPredictor(loaded)
    building = load_building(loaded.building)
    if not (building.folder / "evaluation.toml").exists():
        reason = "there is no such file, and fresh runs are drawn from it. 'setwise adopt' writes one."
        raise BadDescriptionError(file=building.folder / "evaluation.toml", reason=reason)
    load_evaluation(building)  # a bad one is refused before any worker starts
    sets = {"judged": Campaign(loaded.building, runs, 1, 10_000 + seed, held_out=True, climates=climates)}
    if climates == "held-out":
        sets["training"] = Campaign(loaded.building, runs, 1, 10_000 + seed, held_out=True)
    if chains:
        sets["chain"] = Campaign(loaded.building, chains, CHAINED_WINDOWS, 20_000 + seed, held_out=True, climates=climates)
    simulated = {
        name: within_bounds(predictor, building, found) for name, found in simulate_all(sets, building, workers, progress).items()
    }
    for name in ("judged", "training"):
        if name in simulated and not len(simulated[name]):
            reason = simulated[name].failures[0][1]
            raise BadDatasetError(path=bundle, reason=f"no fresh run succeeded. The first failure: {reason}")
    intervals = Intervals.of(loaded)
    around = intervals.around if intervals else None
    judged = judge(predictor, building, simulated["judged"], str(bundle), around)
    training = judge(predictor, building, simulated["training"], str(bundle), around) if "training" in simulated else None
    return Evaluation(
        judged=judged,
        training=training,
        ratios=held_out_ratios(judged.overall, training.overall) if training else {},
        chain=chain_windows(predictor, building, simulated["chain"]) if chains else None,
        speedup=sum(judged.runs.cpu_s) / _cpu_s_of(predictor, building.inputs.names, judged.runs.x_nti),
    )


# ------------------------------------------------------------------------------------------------------------ simulating


def simulate_all(
    sets: Mapping[str, Campaign], building: Building, workers: int | None, progress: Callable[..., None]
) -> dict[str, Runs]:
    """Simulate some sets of fresh runs, one after the other."""
    total, n_done, n_failed = sum(c.n_runs for c in sets.values()), 0, 0
    found = {}
    with local_map(workers) as spread:
        for name, campaign in sets.items():
            outcomes = []
            for outcome in spread(DrawAndSimulate(campaign), range(campaign.n_runs)):
                outcomes.append(outcome)
                n_done, n_failed = n_done + 1, n_failed + (outcome.failure is not None)
                progress(n_done, total, f"{n_failed} failed")
            found[name] = as_runs(outcomes, building)
    return found


def as_runs(outcomes: Sequence[Outcome], building: Building) -> Runs:
    """Sort outcomes into those that can be judged and those that failed."""
    ordered = sorted(outcomes, key=lambda o: o.number)
    done = [o for o in ordered if o.values is not None]
    n_in, n_all = len(building.inputs), len(building.inputs) + len(building.outputs)
    values = np.array([o.values for o in done], dtype=float) if done else np.empty((0, 0, n_all))
    return Runs(
        climate=tuple(o.climate for o in done),
        kind=tuple(o.kinds[0] for o in done),
        local=tuple(_local(o) for o in done),
        x_nti=values[:, :, :n_in],
        y_nto=values[:, :, n_in:],
        cpu_s=tuple(o.cpu_s for o in done),
        failures=tuple((o.climate, (o.failure or {}).get("reason", "no reason given")) for o in ordered if o.values is None),
    )


def _local(outcome: Outcome) -> pd.Timestamp:
    offset = pd.Timedelta(hours=read_epw(find_weather(outcome.climate)).utc_offset_h)
    return (outcome.start.tz_localize(None) if outcome.start.tzinfo else outcome.start) + offset


# ---------------------------------------------------------------------------------------------------------------- tables


def _energy_rows(energy: Mapping[str, Figures]) -> Rows:
    columns = ("power", "RMSE kW", "R2", "bias", "total median", "worst", "running median", "running worst")
    keys = ("r2", "bias", "total_error_median", "total_error_worst", "running_error_median", "running_error_worst")
    return columns, [(name, f["rmse"] / 1000, *(f[k] for k in keys)) for name, f in energy.items()]


def _restart_rows(found: Mapping[str, Figures]) -> Rows:
    columns = ("load", "first hours on", "error over mean", "bias", "later hours on", "their error", "their bias")
    keys = ("hours", "error", "bias", "later_hours", "later_error", "later_bias")
    return columns, [(name, *(f[k] for k in keys)) for name, f in found.items()]


def _zero_rows(found: Mapping[str, Figures]) -> Rows:
    columns = ("power", "hours at zero", "load predicted", "anything", "energy of it", "loads missed", "energy missed")
    keys = ("zero_share", "false_load_share", "touched_share", "false_energy", "missed_load_share", "missed_energy")
    return columns, [(name, *(f[k] for k in keys)) for name, f in found.items()]


READING = """\
Shares, not percent. The error of a load by group is its RMSE over the spread of all hours, so that groups compare:
over all hours it is sqrt(1 - R2). Bias is the sum of errors over the sum of truth. The running error is the largest
sum of errors so far over the total of 28 days: errors that cancel show there.
"""
"""How the tables are to be read."""

GROUP_COLUMNS = {
    "hours": "hours",
    "temperature_rmse_k": "T RMSE K",
    "temperature_bias_k": "T bias K",
    "co2_rmse_ppm": "CO2 ppm",
    "heating_error": "heating",
    "cooling_error": "cooling",
    "fan_error": "fans",
    "electricity_error": "electr.",
    "heating_bias": "heat. bias",
    "cooling_bias": "cool. bias",
}
"""What tables show of a group, and under which heading."""


def _group_rows(groups: Mapping[str, Figures]) -> Rows:
    keys = [k for k in GROUP_COLUMNS if any(k in f for f in groups.values())]
    rows: list[tuple[object, ...]] = [(name, *(_short(f.get(k)) for k in keys)) for name, f in groups.items()]
    return ("group", *(GROUP_COLUMNS[k] for k in keys)), rows


def _short(value: float | None) -> float | None:
    """Return three significant digits, so that a wide table fits; `Evaluation.details` has them all."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _flat_rows(what: str, found: Mapping[str, Figures]) -> Rows:
    keys = list(dict.fromkeys(k for f in found.values() for k in f))
    return (what, *(k.replace("_", " ") for k in keys)), [(name, *(f.get(k) for k in keys)) for name, f in found.items()]


def _output_rows(j: Judged) -> Rows:
    columns: tuple[str, ...] = ("output", "unit", "RMSE", "R2", "mean error")
    keys = ("rmse", "r2", "mean_error")
    rows = [(name, j.outputs[name].quantity.unit, *(f[k] for k in keys)) for name, f in j.by_output.items()]
    if not j.coverage:
        return columns, rows
    columns = (*columns, "coverage", "of hours", "of all hours", "mean width")
    covered = ("coverage", "wide_share", "coverage_all_hours", "mean_width")
    return columns, [(*row, *(j.coverage[str(row[0])][k] for k in covered)) for row in rows]


# ------------------------------------------------------------------------------------------------------------------ speed


def _cpu_s_of(predictor: OnnxPredictor, names: tuple[str, ...], inputs: Array) -> float:
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
