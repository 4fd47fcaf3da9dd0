"""Many runs -> a dataset: seeded, resumable, with every failure kept in the engine's own words.

A campaign folder holds
    campaign.json       what was asked (building, seed, runs, windows per run); a resume must ask the same
    runs/00012.npz      one file per finished run, written under another name and renamed: a kill leaves nothing half
    failures.jsonl      one line per failed run: number, reason, engine's words
    dataset/            the export (see `simulation.dataset`)

Runs follow from (seed, number) alone. A finished number is never simulated again, so kill -9 loses only what was being computed.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from building.description import Building, load_building
from building.errors import BadDatasetError, SetwiseError
from simulation.card import CARD, card
from simulation.dataset import Dataset, save_dataset
from simulation.energyplus import SPIN_UP_H, simulate
from simulation.epw import find_weather
from simulation.sampling import MORPH_RANGES, WINDOW_H, Drawn, draw_run, load_evaluation, parameter_points


@dataclass(frozen=True)
class Campaign:
    """What a campaign is asked for.

    Attributes:
        building: name or folder of the building.
        n_runs: runs; each gives `n_windows` windows.
        n_windows: windows of 672 h per run, each with its own plan, all with the run's parameters.
        seed: of everything.
        held_out: draw fresh runs for evaluation instead of training runs.
        climates: ``training`` (all but the held-out), or ``held-out``.
    """

    building: str
    n_runs: int
    n_windows: int = 3
    seed: int = 0
    held_out: bool = False
    climates: str = "training"


@dataclass(frozen=True)
class Outcome:
    """What became of one run; travels back from the worker."""

    number: int
    climate: str
    kinds: tuple[str, ...]
    start: pd.Timestamp
    morph: dict[str, float] | None
    values: np.ndarray[Any, np.dtype[np.float32]] | None
    failure: dict[str, str] | None
    cpu_s: float


class Map(Protocol):
    """Spreads a function over items, answers as they finish, in any order."""

    def __call__(self, function: Callable[[int], Outcome], items: Sequence[int]) -> Iterable[Outcome]:
        """Return the answers as they finish."""


@dataclass(frozen=True)
class DrawAndSimulate:
    """The work of one run, as a value that travels to a process or a cluster worker: number -> Outcome. Never raises."""

    campaign: Campaign

    def __call__(self, number: int) -> Outcome:
        """Draw and simulate run `number`."""
        building = load_building(self.campaign.building)
        drawn = draw(self.campaign, building, number)
        before = _cpu_s()
        failure, values = None, None
        try:
            frame = simulate(building, drawn.run)
            values = frame[[*building.inputs.names, *building.outputs.names]].to_numpy(dtype=np.float32)
        except (SetwiseError, OSError) as e:
            failure = {"error": type(e).__name__, "reason": str(e)}
        morph = None if drawn.run.morph is None else asdict(drawn.run.morph)
        start = drawn.run.series.index[0]
        return Outcome(number, drawn.climate, drawn.kinds, start, morph, values, failure, _cpu_s() - before)


def _cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def draw(campaign: Campaign, building: Building, number: int) -> Drawn:
    """Return run `number` of a campaign."""
    ranges = load_evaluation(building)
    space = building.parameter_space.narrowed(ranges.parameters)
    values = parameter_points(space, campaign.n_runs, campaign.seed)[number]
    return draw_run(
        building,
        ranges,
        values,
        number,
        campaign.seed,
        n_windows=campaign.n_windows,
        climates=ranges.climates if campaign.climates == "training" else ranges.held_out_climates,
        held_out_week=campaign.held_out and campaign.climates == "training",
        is_training=not campaign.held_out,
    )


@contextmanager
def local_map(n_workers: int | None = None) -> Iterator[Map]:
    """Spread over spawned processes of this machine.

    Each run has a fresh child process for the engine, so leaks and crashes end there and the workers need no recycling
    (`max_tasks_per_child` of Python 3.11 hung the pool when both workers were due at once).
    """
    with ProcessPoolExecutor(n_workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:

        def spread(function: Callable[[int], Outcome], items: Sequence[int]) -> Iterator[Outcome]:
            pending = {pool.submit(function, i) for i in items}
            try:
                for future in as_completed(pending):
                    yield future.result()
            finally:
                for future in pending:
                    future.cancel()

        yield spread


@contextmanager
def cluster_map(address: str) -> Iterator[Map]:
    """Spread over an existing dask cluster, ``tcp://host:port``. Its workers need setwise[simulate] installed.

    Raises:
        OSError: no scheduler answers there.
    """
    import distributed

    with distributed.Client(address, timeout="15s") as client:  # type: ignore[no-untyped-call]

        def spread(function: Callable[[int], Outcome], items: Sequence[int]) -> Iterator[Outcome]:
            futures = client.map(function, list(items), pure=False, retries=2)
            for future in distributed.as_completed(futures):  # type: ignore[no-untyped-call]
                yield future.result()
                future.release()

        yield spread


def run_campaign(
    campaign: Campaign, folder: Path, spread: Map, progress: Callable[[int, int, int, float], None] | None = None
) -> None:
    """Simulate what is not yet there.

    Args:
        campaign: what to simulate.
        folder: the campaign's folder; made when missing.
        spread: `local_map`, `cluster_map`, or anything like them.
        progress: called with (done, total, failed, seconds to go) after each run.

    Raises:
        BadDatasetError: the folder belongs to another campaign.
    """
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    asked = folder / "campaign.json"
    facts = asdict(campaign)
    if asked.exists():
        found = json.loads(asked.read_text(encoding="utf-8"))
        if found != facts:
            raise BadDatasetError(
                path=folder, reason=f"holds another campaign ({found}); choose another folder or the same request."
            )
    else:
        asked.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    failed = {f["number"] for f in failures(folder)}
    todo = [n for n in range(campaign.n_runs) if n not in failed and not _run_file(folder, n).exists()]
    done = campaign.n_runs - len(todo)
    began = time.monotonic()
    for finished, outcome in enumerate(spread(DrawAndSimulate(campaign), todo), start=1):
        if outcome.values is not None:
            _save_run(folder, outcome, outcome.values)
        else:
            failed.add(outcome.number)
            line = {"number": outcome.number, "climate": outcome.climate, **(outcome.failure or {})}
            with open(folder / "failures.jsonl", "a", encoding="utf-8") as f:
                f.write("\n" + json.dumps(line) + "\n")  # a line that a kill cut short must not swallow this one
        if progress is not None:
            left = len(todo) - finished
            progress(done + finished, campaign.n_runs, len(failed), left * (time.monotonic() - began) / finished)


def failures(folder: Path) -> list[dict[str, Any]]:
    """Return the failed runs of a campaign: number, climate, error, reason."""
    path = folder / "failures.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    # A kill may cut the last line; that run is simply simulated again.
    return [json.loads(line) for line in lines if line.endswith("}")]


def _run_file(folder: Path, number: int) -> Path:
    return folder / "runs" / f"{number:05d}.npz"


def _save_run(folder: Path, outcome: Outcome, values: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    path = _run_file(folder, outcome.number)
    partial = path.with_suffix(".tmp")
    facts = {
        "number": outcome.number,
        "climate": outcome.climate,
        "kinds": outcome.kinds,
        "start": outcome.start.isoformat(),
        "morph": outcome.morph,
        "cpu_s": outcome.cpu_s,
    }
    with open(partial, "wb") as f:
        np.savez(f, values=values, facts=json.dumps(facts))
        f.flush()
        os.fsync(f.fileno())
    partial.replace(path)


def export(folder: Path, validation_share: float = 0.08) -> Dataset:
    """Cut the finished runs of a campaign into windows and write `folder/dataset` with its card; also midway, for a first
    look.

    Args:
        folder: the campaign's folder.
        validation_share: share of whole runs kept for validation, by a hash of the run's number.

    Raises:
        BadDatasetError: no campaign there, or no finished run.
    """
    if not (folder / "campaign.json").exists():
        raise BadDatasetError(path=folder, reason="no campaign was begun there (no campaign.json).")
    campaign = Campaign(**json.loads((folder / "campaign.json").read_text(encoding="utf-8")))
    building = load_building(campaign.building)
    inputs, outputs = building.inputs, building.outputs
    paths = sorted((folder / "runs").glob("*.npz"))
    if not paths:
        raise BadDatasetError(path=folder, reason="no finished run to export.")
    length = SPIN_UP_H + WINDOW_H
    blocks, rows, cpu_s, n_morphed = [], [], 0.0, 0
    for path in paths:
        with np.load(path) as stored:
            facts, values = json.loads(str(stored["facts"])), stored["values"]
        cpu_s += facts["cpu_s"]
        n_morphed += facts["morph"] is not None
        is_validation = np.random.default_rng([campaign.seed, facts["number"], 1]).random() < validation_share
        for w, kind in enumerate(facts["kinds"]):
            blocks.append(values[w * WINDOW_H : w * WINDOW_H + length])
            rows.append(
                {
                    "run": facts["number"],
                    "climate": facts["climate"],
                    "start": pd.Timestamp(facts["start"]) + pd.Timedelta(hours=w * WINDOW_H),
                    "kind": kind,
                    "is_morphed": facts["morph"] is not None,
                    "split": "validation" if is_validation else "train",
                }
            )
    values = np.stack(blocks)
    failed = failures(folder)
    ranges = load_evaluation(building)
    held_out = ", ".join(ranges.held_out_climates)
    space = building.parameter_space.narrowed(ranges.parameters)
    origin = {
        "building": building.name,
        "engine": f"EnergyPlus of pyenergyplus-lbnl {version('pyenergyplus-lbnl')}",
        "campaign": asdict(campaign),
        "runs": len(paths),
        "windows": len(rows),
        "failed_runs": len(failed),
        "failures": [{k: f[k][:300] if isinstance(f[k], str) else f[k] for k in f} for f in failed[:20]],
        "morphed_runs": n_morphed,
        "morph": {name: list(span) for name, span in MORPH_RANGES.items()} if n_morphed else "none",
        "held_out": "none: fresh runs" if campaign.held_out else f"{held_out}; the third week of each month starts no window",
        "parameter_ranges": {p.name: [p.low, p.high, p.scale] for p in space.parameters},
        "weather": _weather_sources({row["climate"] for row in rows}),
        "core_hours": cpu_s / 3600,
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    n_in = len(inputs)
    dataset = Dataset(inputs, outputs, values[:, :, :n_in], values[:, :, n_in:], pd.DataFrame(rows), SPIN_UP_H, origin)
    save_dataset(dataset, folder / "dataset")
    (folder / "dataset" / CARD).write_text(card(dataset), encoding="utf-8")
    return dataset


def _weather_sources(climates: Iterable[str]) -> str:
    """Return what the headers of the weather files say of their source; they state no licence."""
    said = set()
    for climate in climates:
        header = find_weather(climate).read_text(encoding="latin-1").splitlines()[:8]
        comments = next((line.partition(",")[2] for line in header if line.upper().startswith("COMMENTS 1")), "")
        said.add("; ".join(comments.split(";")[1:]).strip() or "no source in the header")  # before it stands the station
    return " / ".join(sorted(" ".join(s.split()) for s in said))
