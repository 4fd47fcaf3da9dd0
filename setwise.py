"""The front door: one program, one verb per task.

Each verb calls one function of a package and prints what it gives back: for people as tables and a last line of key=value pairs,
with ``--json`` as one object. Heavy imports (torch, EnergyPlus, the service) happen inside the verbs, so that ``--help`` is quick
and a gateway needs no workshop.

Exit codes: 0 done, 1 the answer is no (a bar not met, a check failed), 2 refused (the reason on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from building.errors import MissingExtraError, SetwiseError

EXTRAS = {
    "simulate": ("pyenergyplus",),
    "train": ("torch", "onnx", "onnxscript"),
    "demo": ("pyenergyplus", "amqtt"),
    "cluster": ("distributed",),
}
"""What each extra of pyproject.toml brings; a verb that needs one says so before it starts."""


@dataclass(frozen=True)
class Table:
    """Rows for people; for machines a list of objects under `key`."""

    key: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Answer:
    """What a verb has to say.

    Attributes:
        facts: the last line, key=value; the top of the JSON object.
        tables: printed above it; lists of the JSON object.
        text: printed first, for people only.
        details: further keys of the JSON object, for machines only.
        is_good: False ends the program with code 1.
    """

    facts: Mapping[str, object]
    tables: Sequence[Table] = ()
    text: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    is_good: bool = True


@dataclass(frozen=True)
class Verb:
    """One task of the program."""

    run: Callable[[argparse.Namespace], Answer]
    summary: str
    example: str
    options: Sequence[tuple[tuple[str, ...], dict[str, Any]]]
    needs: str


VERBS: dict[str, Verb] = {}


def option(*flags: str, **how: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return one argument of a verb, as `argparse.add_argument` takes it."""
    return flags, how


def verb(
    example: str, *options: tuple[tuple[str, ...], dict[str, Any]], needs: str = ""
) -> Callable[[Callable[[argparse.Namespace], Answer]], Callable[[argparse.Namespace], Answer]]:
    """Make a function a verb: its name is the verb's, its docstring the help."""

    def register(run: Callable[[argparse.Namespace], Answer]) -> Callable[[argparse.Namespace], Answer]:
        VERBS[run.__name__] = Verb(run, run.__doc__ or "", example, options, needs)
        return run

    return register


BUNDLE = option("bundle", type=Path, nargs="?", default=Path("bundles/medium_office"), help="folder of a bundle (%(default)s)")
BUILDING = option("building", nargs="?", default="medium_office", help="a folder of buildings/, or a path (%(default)s)")
CONFIG = option("--config", type=Path, help="service.toml; without it defaults and SETWISE_SECTION__KEY")
WORKERS = option("--workers", type=int, help="processes of this machine (all cores)")
CLUSTER = option("--cluster", metavar="tcp://HOST:PORT", help="an existing dask cluster instead of this machine")


# ---------------------------------------------------------------------------------------------------------------- the whole


@verb(
    "setwise demo --seed 3",
    option("--exit-when-done", action="store_true", help="end after the table; without it page and API stay up until Ctrl-C"),
    needs="demo",
)
def demo(a: argparse.Namespace) -> Answer:
    """Play a hidden building over MQTT for four weeks, calibrate, plan the coming week, and simulate what the plan is worth."""
    from proof.demo import demo as play

    return as_answer(play(a.seed, a.exit_when_done))


@verb(
    "setwise prove bundles/medium_office --plants 4 --seed 7",
    BUNDLE,
    option("--plants", type=int, default=4, help="hidden buildings (%(default)s)"),
    WORKERS,
    needs="simulate",
)
def prove(a: argparse.Namespace) -> Answer:
    """Calibrate and run hidden buildings that no training set knows, in closed loop with EnergyPlus; state the saving."""
    from proof.prove import prove as judge

    with progress_bar(a, "hidden buildings") as progress:
        return as_answer(judge(a.bundle, a.plants, a.seed, progress))


# ------------------------------------------------------------------------------------------------------- before the gateway


@verb("setwise audit medium_office", BUILDING, WORKERS, needs="simulate")
def audit(a: argparse.Namespace) -> Answer:
    """Run every parameter and setting low and high in EnergyPlus, and fail on one that moves no output."""
    from simulation.audit import audit as run_audit

    with progress_bar(a, "knobs") as progress:
        return as_answer(run_audit(a.building, a.workers, progress))


@verb(
    "setwise simulate medium_office --runs 800 --out runs/first --seed 1",
    BUILDING,
    option("--runs", type=int, default=800, help="simulations (%(default)s)"),
    option("--windows", type=int, default=3, help="windows of four weeks per simulation (%(default)s)"),
    option("--out", type=Path, required=True, help="the campaign's folder; an interrupted campaign goes on from there"),
    option("--export", action="store_true", help="only cut what is finished into a dataset"),
    WORKERS,
    CLUSTER,
    needs="simulate",
)
def simulate(a: argparse.Namespace) -> Answer:
    """Run a campaign of simulations and write the dataset; resumable, also after kill -9."""
    from simulation.campaign import Campaign, cluster_map, export, failures, local_map, run_campaign

    if not a.export:
        if a.cluster:
            require("cluster", "simulate --cluster")
        campaign = Campaign(a.building, a.runs, a.windows, a.seed)
        spread_over = cluster_map(a.cluster) if a.cluster else local_map(a.workers)
        with spread_over as spread, progress_bar(a, "simulations") as progress:
            run_campaign(
                campaign, a.out, spread, lambda done, total, failed, left_s: progress(done, total, f"{failed} failed", left_s)
            )
    dataset = export(a.out)
    failed = failures(a.out)
    table = Table("failures", ("number", "climate", "reason"), [(f["number"], f["climate"], f["reason"]) for f in failed])
    origin = dataset.origin
    return Answer(
        {
            "runs": origin["runs"],
            "windows": len(dataset),
            "failed_runs": len(failed),
            "core_hours": origin["core_hours"],
            "dataset": a.out / "dataset",
        },
        [table] if failed else [],
    )


@verb(
    "setwise train runs/first/dataset --out bundles/medium_office --seed 1",
    option("dataset", type=Path, help="folder of a dataset, from setwise simulate"),
    option("--out", type=Path, required=True, help="where the bundle goes"),
    needs="train",
)
def train(a: argparse.Namespace) -> Answer:
    """Train and prune the metamodel in one cycle, shrink it, export it, and write the bundle with its card."""
    from models.training import train as run_training

    with progress_bar(a, "training") as progress:
        return as_answer(run_training(a.dataset, a.out, seed=a.seed, progress=progress))


@verb(
    "setwise evaluate bundles/medium_office --runs 24 --seed 5",
    BUNDLE,
    option("--runs", type=int, default=24, help="fresh EnergyPlus runs (%(default)s)"),
    WORKERS,
    needs="simulate",
)
def evaluate(a: argparse.Namespace) -> Answer:
    """Compare a bundle with fresh EnergyPlus runs that it has never seen: accuracy by output, drift, speed."""
    from proof.fresh import evaluate as run_evaluation

    with progress_bar(a, "fresh runs") as progress:
        return as_answer(run_evaluation(a.bundle, a.runs, a.seed, a.workers, progress))


# ------------------------------------------------------------------------------------------------------------- at the desk


@verb("setwise bundle bundles/medium_office", BUNDLE)
def bundle(a: argparse.Namespace) -> Answer:
    """Check a bundle (schema, checksums) and show what it is: inputs, outputs, origin, measured accuracy."""
    from models.runtime.bundle import load_bundle

    found = load_bundle(a.bundle)
    signatures = [("input", v) for v in found.inputs] + [("output", v) for v in found.outputs]
    rows = [(kind, v.name, v.role.value, v.quantity.unit, v.low, v.high, v.meaning) for kind, v in signatures]
    return Answer(
        {"bundle": a.bundle, "inputs": len(found.inputs), "outputs": len(found.outputs), "warm_up_h": found.warm_up_h},
        [Table("variables", ("kind", "name", "role", "unit", "low", "high", "meaning"), rows)],
        details={"manifest": found.manifest},
    )


# ----------------------------------------------------------------------------------------------------------- on the gateway


@verb("setwise serve --config service.toml", CONFIG)
def serve(a: argparse.Namespace) -> Answer:
    """Run the service of one building: MQTT, calibration and planning jobs, guard, HTTP API and page; until told to stop."""
    import logging

    from service.app import serve as run_service
    from service.config import load_config

    level = logging.DEBUG if a.debug else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_service(load_config(a.config))
    return Answer({"stopped": True})


@verb("setwise token --config service.toml", CONFIG)
def token(a: argparse.Namespace) -> Answer:
    """Make a new access token, print it once, and void the old one."""
    from service.access import make_token
    from service.config import load_config

    file = load_config(a.config).api.token_file
    return Answer({"token": make_token(file), "token_file": file})


@verb("setwise doctor --config service.toml", CONFIG)
def doctor(a: argparse.Namespace) -> Answer:
    """Look over this machine before the service starts: versions, bundle, points, store, broker, time zones, disk."""
    from service.config import load_config
    from service.doctor import examine

    findings = examine(load_config(a.config))
    faults = sum(not f.is_good for f in findings)
    rows = [("ok" if f.is_good else "FAULT", f.what, f.fact) for f in findings]
    return Answer({"checks": len(findings), "faults": faults}, [Table("checks", ("", "what", "found"), rows)], is_good=not faults)


# ---------------------------------------------------------------------------------------------------------------- printing


def as_answer(result: Any) -> Answer:
    """Return a verb's Answer from a result that knows its `facts()`, and perhaps its `tables()`."""
    tables = [Table(*t) for t in result.tables()] if hasattr(result, "tables") else []
    return Answer(result.facts(), tables, is_good=getattr(result, "is_good", True))


def say(answer: Answer, as_json: bool) -> None:
    """Print an answer on stdout: one JSON object, or tables and a line of key=value pairs."""
    if as_json:
        listed = {t.key: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in answer.tables}
        print(json.dumps(plain({**answer.facts, **listed, **answer.details}), allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table as Drawn

    console = Console(soft_wrap=not sys.stdout.isatty())
    if answer.text:
        console.print(answer.text, highlight=False, markup=False)
    for table in answer.tables:
        drawn = Drawn(title=table.key.replace("_", " "), title_justify="left", box=None, pad_edge=False)
        for i, column in enumerate(table.columns):
            is_number = any(isinstance(row[i], int | float) for row in table.rows)
            drawn.add_column(column, justify="right" if is_number else "left")
        for row in table.rows:
            drawn.add_row(*(shown(cell) for cell in row))
        console.print(drawn, markup=False)
    print(" ".join(f"{key}={quoted(shown(value))}" for key, value in answer.facts.items()))


def plain(value: Any) -> Any:
    """Return JSON data: numpy and paths become plain, what is no finite number becomes null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def shown(value: object) -> str:
    """Return a value as people read it: four significant figures, 1 or 0 for yes or no."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:.0f}"
    return "none" if value is None else str(value)


def quoted(text: str) -> str:
    """Return text as one word of a key=value line."""
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=\n') else text


Progress = Callable[..., None]


@contextmanager
def progress_bar(a: argparse.Namespace, label: str) -> Iterator[Progress]:
    """Give a function ``(done, total, note="", left_s=None)`` that draws a bar on stderr; silent with --json or --quiet."""
    if a.json or a.quiet:
        yield lambda *_args, **_more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Bars(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=None, note="")

        def progress(done: float, total: float, note: str = "", *_more: object) -> None:
            bars.update(task, completed=done, total=total, note=note)

        yield progress


# -------------------------------------------------------------------------------------------------------------- the program


def require(extra: str, verb_name: str) -> None:
    """Raise MissingExtraError unless everything an extra brings is installed."""
    missing = [m for m in EXTRAS[extra] if importlib.util.find_spec(m) is None]
    if missing:
        raise MissingExtraError(verb=verb_name, missing=", ".join(missing), extra=extra)


def parser() -> argparse.ArgumentParser:
    """Return the command line: every verb with its options, summary and example."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("everywhere")
    group.add_argument("--seed", type=int, default=0, help="of everything random; same seed, same answer (%(default)s)")
    group.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    group.add_argument("--quiet", action="store_true", help="no progress bars")
    group.add_argument("--debug", action="store_true", help="on an error, the whole traceback")
    top = argparse.ArgumentParser(
        prog="setwise", description="Choose how a building should be run.", epilog="`setwise VERB --help` teaches each verb."
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, v in VERBS.items():
        one = verbs.add_parser(
            name,
            help=v.summary.splitlines()[0],
            description=v.summary,
            epilog=f"example:\n  {v.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        for flags, how in v.options:
            one.add_argument(*flags, **how)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code (see the top of the file)."""
    a = parser().parse_args(arguments)
    chosen = VERBS[a.verb]
    try:
        if chosen.needs:
            require(chosen.needs, a.verb)
        answer = chosen.run(a)
        say(answer, a.json)
        sys.stdout.flush()
        return 0 if answer.is_good else 1
    except BrokenPipeError:  # `setwise bundle ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("setwise: interrupted", file=sys.stderr)
        return 130
    except (SetwiseError, OSError) as e:
        if a.debug:
            raise
        if a.json:
            facts = e.facts if isinstance(e, SetwiseError) else {}
            print(json.dumps(plain({"error": type(e).__name__, "message": str(e), "facts": facts}), allow_nan=False))
        print(f"setwise: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
