"""The front door: one program, one verb per task.

Each verb calls one function of a package and prints what it gives back: for people as tables and a last line of key=value pairs,
with ``--json`` as one object. Heavy imports (torch, EnergyPlus, the service) happen inside the verbs, so that ``--help`` is quick
and a gateway needs no workshop.

Exit codes: 0 done, 1 the answer is no (a bar not met, a check failed), 2 refused (the reason on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from building.documents import plain
from building.errors import (
    BadDescriptionError,
    BadSeriesError,
    IrregularTimeError,
    MissingExtraError,
    SetwiseError,
    did_you_mean,
)

if TYPE_CHECKING:
    import pandas as pd

    from building.description import Building
    from models.runtime.session import OnnxPredictor
    from service.store import SqlStore

EXTRAS = {
    "simulate": ("pyenergyplus",),
    "train": ("torch", "onnx", "onnxscript"),
    "demo": ("pyenergyplus", "amqtt"),
    "cluster": ("distributed",),
    "export": ("pyarrow",),
}
"""What each extra of pyproject.toml brings; a verb that needs one says so before it starts."""

ACCURACY = (
    "zone_temperature_rmse_k", "last_over_first_week", "co2_rmse_ppm", "heating_r2", "cooling_r2", "fan_r2", "electricity_r2",
    "total_error_median",
)  # fmt: skip
"""Figures of a metamodel that stand on every last line, in this order."""

LINE_EVERY_S = 60


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
        VERBS[run.__name__.replace("_", "-")] = Verb(run, run.__doc__ or "", example, options, needs)
        return run

    return register


def number(low: float, high: float = math.inf, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """Return a reader of one number for `option(type=...)`; what lies outside is refused with its limits."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a {'whole ' if kind is int else ''}number") from None
        if not low <= value <= high:
            limits = f"at least {low:g}" if math.isinf(high) else f"{low:g} .. {high:g}"
            raise argparse.ArgumentTypeError(f"{text} is not {limits}")
        return value

    return read


def scheduler(text: str) -> str:
    """Return the address of a dask scheduler as it was given."""
    if not re.fullmatch(r"\w+://[^/\s]+:\d+/?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no address like tcp://host:8786")
    return text


def broker_address(text: str) -> tuple[str, int]:
    """Return host and port of a broker."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is no address like localhost:1883")
    return host, int(port)


BUNDLE = option("bundle", type=Path, nargs="?", default=Path("bundles/medium_office"), help="folder of a bundle (%(default)s)")
BUILDING = option("building", nargs="?", default="medium_office", help="a folder of buildings/, or a path (%(default)s)")
CONFIG = option("--config", type=Path, help="service.toml; without it defaults and SETWISE_SECTION__KEY")
WORKERS = option("--workers", type=number(1), help="processes of this machine (all cores)")
MEASURED = option("measured", type=Path, help="hourly CSV: first column UTC time stamps, then variables by name, inside units")
AT_BUNDLE = option("--bundle", type=Path, default=Path("bundles/medium_office"), help="folder of a bundle (%(default)s)")
CLUSTER = option("--cluster", type=scheduler, metavar="tcp://HOST:PORT", help="an existing dask cluster instead of this machine")


# ---------------------------------------------------------------------------------------------------------------- the whole


@verb(
    "setwise demo --seed 3",
    option("--exit-when-done", action="store_true", help="end after the table; without it page and API stay up until Ctrl-C"),
    needs="demo",
)
def demo(a: argparse.Namespace) -> Answer:
    """Play a hidden building over MQTT for four weeks, calibrate, plan the coming week, and simulate what the plan is worth.

    Some buildings are refused: the bundle does not fit them well enough for Guideline 14. Then no plan is sent, the building
    keeps its own schedule, and the demo ends well all the same (code 0), saying so. Code 1: the plan saved nothing, or comfort
    or air were worse, or a refused building was steered.
    """
    from proof.demo import Demo
    from proof.demo import demo as play

    def show(result: Demo, token: str) -> None:
        if not a.exit_when_done:
            say(as_answer(result), a.json)
            print(f"Page and API stay up at {result.address} (token {token}); Ctrl-C ends them.", file=sys.stderr)

    with stage_bars(a) as open_stage:
        result = play(a.seed, a.exit_when_done, open_stage=open_stage, on_result=show)
    return as_answer(result) if a.exit_when_done else Answer({"stopped": True}, is_good=result.is_good)


@verb(
    "setwise prove bundles/medium_office --plants 4 --seed 7",
    BUNDLE,
    option("--plants", type=number(1), default=4, help="hidden buildings (%(default)s)"),
    option("--upper-bound", type=number(0), default=0, metavar="N", help="N simulations a plant to search in EnergyPlus itself"),
    WORKERS,
    needs="simulate",
)
def prove(a: argparse.Namespace) -> Answer:
    """Calibrate and run hidden buildings that no training set knows, in closed loop with EnergyPlus; state the saving."""
    from proof.prove import prove as judge

    with progress_bar(a, "hidden buildings") as progress:
        return as_answer(judge(a.bundle, a.plants, a.seed, progress, a.workers, a.upper_bound))


# ------------------------------------------------------------------------------------------------------- before the gateway


@verb(
    "setwise adopt my.idf --weather my.epw --out buildings/my_building --points my_points.csv",
    option("model", type=Path, help="IDF or epJSON of the EnergyPlus version that setwise simulates with"),
    option("--weather", type=Path, required=True, help="EPW of the site, a whole year"),
    option("--out", type=Path, required=True, help="the building's folder, made new; its last part is the building's name"),
    option(
        "--points", type=Path, help="CSV of points (variable,topic,unit,...); without it points.toml is a template to fill in"
    ),
    option("--time-zone", help="of the site, such as Europe/Paris; guessed from the weather file without it"),
    needs="simulate",
)
def adopt(a: argparse.Namespace) -> Answer:
    """Make a building of your own model, weather and points; says what was found, guessed and left out, and what to confirm.

    Then: setwise audit FOLDER (does every knob act?), setwise simulate, setwise train, setwise points, setwise serve.
    docs/bring-your-own.md walks through it.
    """
    from service.point_list import read_list, write_points
    from simulation.adopt import adopt as take_in

    listed = read_list(a.points) if a.points else []  # refused before minutes of simulation
    with progress_bar(a, "steps") as progress:
        made = take_in(a.model, a.weather, a.out, a.time_zone, progress)
    answer = as_answer(made)
    try:
        points = write_points(made.building, listed)
    except SetwiseError as e:
        write_points(made.building, [])
        then = f"correct the list, then: setwise points {a.out} --list {a.points}"
        raise BadDescriptionError(file=a.points, reason=f"{e} {a.out} is adopted, its points.toml a template; {then}") from e
    return replace(answer, facts={**answer.facts, **points, "next": f"setwise audit {a.out}"})


@verb(
    "setwise audit medium_office --knob infiltration --knob fan_pressure",
    BUILDING,
    option("--knob", action="append", help="only this one; repeat for several (all)"),
    WORKERS,
    needs="simulate",
)
def audit(a: argparse.Namespace) -> Answer:
    """Run every parameter and setting low and high in EnergyPlus, and fail on one that moves no output."""
    from building.description import load_building
    from simulation.audit import audit as run_audit

    with progress_bar(a, "runs") as progress:
        return as_answer(run_audit(load_building(a.building), a.workers, progress, a.knob))


@verb(
    "setwise simulate medium_office --runs 800 --out runs/first --seed 1",
    BUILDING,
    option("--runs", type=number(1), default=800, help="simulations (%(default)s)"),
    option("--windows", type=number(1), default=3, help="windows of four weeks per simulation (%(default)s)"),
    option("--out", type=Path, required=True, help="the campaign's folder; an interrupted campaign goes on from there"),
    option("--export", action="store_true", help="only cut what is finished into a dataset"),
    option("--fresh", action="store_true", help="draw as setwise evaluate does, for setwise intervals: never train on these"),
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
        campaign = Campaign(a.building, a.runs, a.windows, a.seed, held_out=a.fresh)
        with cluster_map(a.cluster) if a.cluster else local_map(a.workers) as spread, progress_bar(a, "simulations") as progress:

            def show(done: int, total: int, failed: int, left_s: float) -> None:
                rate = f", {60 * (total - done) / left_s:.1f} a minute" if left_s > 0 else ""
                progress(done, total, f"{failed} failed{rate}", left_s)

            try:
                run_campaign(campaign, a.out, spread, show)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"finished runs are kept in {a.out}; the same command goes on from there") from None
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
            "card": a.out / "dataset" / "CARD.md",
        },
        [table] if failed else [],
    )


@verb(
    "setwise train runs/first/dataset --out bundles/medium_office --seed 1",
    option("dataset", type=Path, help="folder of a dataset, from setwise simulate"),
    option("--out", type=Path, required=True, help="where the bundle goes"),
    option(
        "--steps",
        type=number(1000),
        help="optimiser steps; a quarter of them: a quarter of the time, a tenth more error (200,000, about two hours)",
    ),
    needs="train",
)
def train(a: argparse.Namespace) -> Answer:
    """Train and prune the metamodel in one cycle, shrink it, export it, and write the bundle with its card."""
    from models.training import TrainingConfig
    from models.training import train as run_training

    with progress_bar(a, "training") as progress:
        made = run_training(
            a.dataset,
            a.out,
            TrainingConfig() if a.steps is None else TrainingConfig(n_steps=a.steps),
            seed=a.seed,
            progress=lambda done, total, now: progress(done, total, " ".join(f"{k}={v:.3g}" for k, v in now.items())),
        )
    facts = {
        **{k: made.accuracy.get(k) for k in ACCURACY},
        "weights": made.n_weights,
        "weights_before_pruning": made.n_weights_dense,
        "core_hours": made.core_hours,
        "bundle": made.bundle.folder,
    }
    return Answer(facts, [by_name("outputs", made.outputs)], details={"accuracy": made.accuracy, "graph_gap": made.graph_gap})


@verb(
    "setwise intervals bundles/medium_office --dataset runs/fresh/dataset",
    BUNDLE,
    option("--dataset", type=Path, required=True, help="fresh runs, from setwise simulate --fresh --windows 1"),
    needs="train",
)
def intervals(a: argparse.Namespace) -> Answer:
    """Fit the prediction intervals of a bundle to fresh runs, drawn as those that judge it, and write them into the bundle."""
    from models.training import add_intervals

    made = add_intervals(a.bundle, a.dataset).facts["intervals"]
    covered = made["cross_fit_coverage"]
    table = Table("outputs", ("output", "coverage of runs left out"), list(covered.items()))
    return Answer(
        {"runs": made["runs"], "coverage_min": min(covered.values()), "coverage_max": max(covered.values()), "bundle": a.bundle},
        [table],
    )


@verb(
    "setwise evaluate bundles/medium_office --runs 24 --seed 5",
    BUNDLE,
    option("--runs", type=number(1), default=24, help="fresh EnergyPlus runs (%(default)s)"),
    option(
        "--climates",
        choices=("training", "held-out"),
        default="training",
        help="those of the campaign, or those in none, which are compared with as many runs in the others (%(default)s)",
    ),
    option(
        "--chain", type=number(0), default=4, metavar="N", help="runs of three windows answered one after the other (%(default)s)"
    ),
    option("--details", action="store_true", help="also by climate, hour of day, zone and output; --json always has them"),
    option("--report", type=Path, metavar="FILE.html", help="write tables and charts here, one file that needs nothing else"),
    option("--strict", action="store_true", help="exit with code 1 when a bar is not met"),
    WORKERS,
    needs="simulate",
)
def evaluate(a: argparse.Namespace) -> Answer:
    """Compare a bundle with fresh EnergyPlus runs that it has never seen: errors, bars, where and when it fails, speed."""
    from proof.fresh import READING
    from proof.fresh import evaluate as judge

    if a.report and not a.report.parent.is_dir():  # refused before minutes of simulation
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(a.report.parent))
    with progress_bar(a, "fresh runs") as progress:
        found = judge(a.bundle, a.runs, a.seed, a.workers, progress, a.climates, a.chain)
    if a.report:
        from proof.report import write_report

        write_report(found, a.report, title=f"{a.bundle}, {a.runs} fresh runs, seed {a.seed}, {a.climates} climates")
    tables = [Table(*t) for t in found.tables(everything=a.details or a.json)]
    return Answer(found.facts(), tables, READING, found.details(), is_good=found.is_good or not a.strict)


# ------------------------------------------------------------------------------------------------------------- at the desk


@verb(
    "setwise calibrate measured.csv --bundle bundles/medium_office --out calibration.json --seed 1",
    MEASURED,
    AT_BUNDLE,
    option("--out", type=Path, help="write the calibration here, for setwise optimise"),
)
def calibrate(a: argparse.Namespace) -> Answer:
    """Fit a bundle to what a building was measured to do, judge it on held-out hours, and accept or refuse it."""
    from calibration.calibrate import calibrate as fit
    from calibration.report import text_report

    building, predictor = opened(a.bundle)
    measured = read_measured(building, a.measured)
    with progress_bar(a, "evaluations") as progress:
        made = fit(
            predictor,
            measured,
            building.parameter_space,
            seed=a.seed,
            time_zone=building.site.time_zone,
            progress=lambda now: progress(now.evaluations, now.max_evaluations, f"misfit {now.best:.4g}"),
        )
    if a.out:
        write_json(a.out, made.to_dict())
    electricity = next((e for e in made.energy if e.name == "facility_electricity"), None)
    facts = {
        "is_accepted": made.is_accepted,
        "electricity_cv_rmse": electricity.cv_rmse if electricity else None,
        "nmbe_worst": max((abs(e.nmbe) for e in made.energy if e.is_judged), default=None),
        "evaluations": made.evaluations,
        "seconds": made.seconds,
    }
    return Answer(facts, text=text_report(made), details={"calibration": made.to_dict()}, is_good=made.is_accepted)


@verb(
    "setwise optimise measured.csv --calibration calibration.json --forecast week.csv --out plan.json --seed 1",
    MEASURED,
    AT_BUNDLE,
    option("--calibration", type=Path, help="from setwise calibrate; without it default parameters are used"),
    option("--forecast", type=Path, help="hourly CSV of weather and occupancy; without it recent days are repeated, and said so"),
    option("--hours", type=number(24, 336), default=168, help="how far to plan, 24 to 336 (%(default)s)"),
    option("--out", type=Path, help="write the plan here"),
)
def optimise(a: argparse.Namespace) -> Answer:
    """Search the hours after a measured CSV for least energy at comfort, air and humidity no worse than today's."""
    from service.desk import replan

    building, predictor = opened(a.bundle)
    result = replan(
        predictor,
        building,
        read_measured(building, a.measured),
        read_calibration(a.calibration) if a.calibration else None,
        read_frame(a.forecast) if a.forecast else None,
        hours=a.hours,
        seed=a.seed,
    )
    plan, front = result["plan"], result["front"]
    meta = plan["meta"]
    if a.out:
        write_json(a.out, plan)
    compared = {**meta["references"], "plan": meta["predicted"]}
    saving = meta["saving"]
    return Answer(
        {
            "origin": plan["origin"],
            "saving": saving.get(meta["baseline"]),
            "saving_vs_rules": saving.get("rules"),
            "comfort_no_worse": "discomfort" not in meta["slack"],
            "air_no_worse": "co2_excess" not in meta["slack"],
            "evaluations": meta["search"]["evaluations"],
        },
        [Table("expected", ("input", "source"), list(meta["forecast"].items())), by_name("plans", compared)],
        text=meta["reason"],
        details={"plan": plan, "front": front},
    )


@verb(
    "setwise replay measured.csv --building medium_office --host localhost --hours-per-second 24",
    MEASURED,
    option("--building", default="medium_office", help="a folder of buildings/, or a path (%(default)s)"),
    option("--points", type=Path, help="points file; that of the building without it"),
    option("--host", default="localhost", help="broker (%(default)s)"),
    option("--port", type=number(1, 65535), default=1883, help="its port (%(default)s)"),
    option("--hours-per-second", type=number(1e-5, kind=float), default=24.0, help="speed; 0.000278 is real time (%(default)s)"),
)
def replay(a: argparse.Namespace) -> Answer:
    """Play a recorded CSV over MQTT as the building would have, with its clock; for a service with [clock] source = "topic"."""
    from building.description import load_building
    from proof.player import replay as play

    with progress_bar(a, "hours") as progress:
        played = play(
            load_building(a.building),
            read_frame(a.measured),
            host=a.host,
            port=a.port,
            points_file=a.points,
            hours_per_second=a.hours_per_second,
            progress=progress,
        )
    return Answer({"hours": played.hours, "messages": played.messages, "seconds": played.seconds})


@verb(
    "setwise points discover medium_office --broker localhost:1883 --seconds 60 --out points.toml",
    option(
        "what",
        nargs="*",
        metavar="[discover] [BUILDING]",
        help="listen and propose a file; a folder of buildings/ (medium_office)",
    ),
    option("--points", type=Path, help="points file; that of the building without it"),
    option("--bundle", type=Path, help="ask only for what this bundle still needs"),
    option("--list", type=Path, help="first write points.toml of the building anew from this CSV (docs/bring-your-own.md)"),
    option(
        "--broker",
        type=broker_address,
        default=None,
        metavar="HOST:PORT",
        help="discover: where to listen; that of --config without it",
    ),
    option("--seconds", type=number(0.1, 86400, float), default=60.0, help="discover: how long (%(default)s)"),
    option("--out", type=Path, help="discover: write the proposal here; without it, it is printed"),
    CONFIG,
)
def points(a: argparse.Namespace) -> Answer:
    """Check a points file and show which topic carries which variable, and what nobody measures; or listen and propose one."""
    from building.description import load_building
    from building.sun import BEAM_COLUMNS
    from building.variables import Role
    from service.points import load_points

    is_discovery = a.what[:1] == ["discover"]
    building = load_building((a.what[is_discovery:] or ["medium_office"])[0])
    if is_discovery:
        return discovered(building, a)
    if a.list:
        from service.point_list import read_list, write_points

        write_points(building, read_list(a.list))
    found = load_points(building, a.points)
    inputs = opened(a.bundle)[1].inputs if a.bundle else building.inputs
    wanted = [v for v in inputs.having(Role.WEATHER, Role.OCCUPANCY) if v.name not in BEAM_COLUMNS]
    missing = [v.name for v in wanted if v.name not in found.measured]
    mute = [name for name in building.settings.names if name not in found.commands]
    listed = dict.fromkeys([*(v.name for v in wanted), *found.facts.points])
    rows = [(n, p.topic, p.value, p.unit) if (p := found.facts.points.get(n)) else (n, "MISSING", None, None) for n in listed]
    told = [(n, found.commands[n].topic if n in found.commands else "MISSING") for n in building.settings.names]
    return Answer(
        {"measured": len(found.facts.points), "missing": len(missing), "settings_without_command": len(mute)},
        [Table("points", ("variable", "topic", "path", "unit"), rows), Table("commands", ("setting", "topic"), told)],
        is_good=not missing and not mute,
    )


def discovered(building: Building, a: argparse.Namespace) -> Answer:
    """Listen to a broker and propose a points file."""
    from service.config import load_config
    from service.discover import candidates, hear, propose

    broker = load_config(a.config).mqtt
    if a.broker:
        broker = broker.model_copy(update={"host": a.broker[0], "port": a.broker[1]})
    seen = hear(broker, a.seconds)
    text = propose(building, seen)
    if a.out:
        a.out.write_text(text, encoding="utf-8")
    facts = {"topics": len(seen), "numbers": len(candidates(seen)), "points": text.count("\n[points."), "out": a.out}
    return Answer(facts, text="" if a.out else text, details={"proposal": text})


@verb("setwise bundle bundles/medium_office", BUNDLE)
def bundle(a: argparse.Namespace) -> Answer:
    """Check a bundle (schema, checksums) and show what it is: inputs, outputs, origin, measured accuracy."""
    from models.runtime.bundle import load_bundle

    found = load_bundle(a.bundle)
    signatures = [("input", v) for v in found.inputs] + [("output", v) for v in found.outputs]
    rows = [(kind, v.name, v.role.value, v.quantity.unit, v.low, v.high, v.meaning) for kind, v in signatures]
    return Answer(
        {
            **{k: found.accuracy.get(k) for k in ACCURACY},
            "inputs": len(found.inputs),
            "outputs": len(found.outputs),
            "warm_up_h": found.warm_up_h,
            "building": found.building,
            "created": found.created,
        },
        [Table("variables", ("kind", "name", "role", "unit", "low", "high", "meaning"), rows)],
        details={"facts": found.facts},
    )


# ----------------------------------------------------------------------------------------------------------- on the gateway


@verb("setwise serve --config service.toml", CONFIG)
def serve(a: argparse.Namespace) -> Answer:
    """Run the service of one building: MQTT, calibration and planning jobs, guard, HTTP API and page; until told to stop."""
    from service.app import serve as run_service
    from service.config import load_config
    from service.logs import speak

    config = load_config(a.config)
    speak("debug" if a.debug else config.log.level, config.log.format)
    run_service(config, lambda sentence: print(sentence, flush=True))
    return Answer({"stopped": True})


@verb(
    "setwise token create --name 'wall screen' --role viewer --days 365",
    option("what", nargs="?", choices=("create", "list", "revoke"), default="create", help="what to do (%(default)s)"),
    option("--name", help="whose token it is (create); id or name of the token to void (revoke)"),
    option("--role", choices=("viewer", "operator", "admin"), default="admin", help="what it may (%(default)s)"),
    option("--days", type=number(0.01, 3650, float), help="until it expires; never without it"),
    CONFIG,
)
def token(a: argparse.Namespace) -> Answer:
    """Make an access token and print it once, list those there are, or void one at once; the service may run meanwhile."""
    from service.access import create_token, make_token, revoke_token, tokens
    from service.config import load_config

    file = load_config(a.config).api.token_file
    if a.what == "create":
        made = create_token(file, a.name, a.role, a.days)[1] if a.name else make_token(file, a.role)
        return Answer({"token": made, "token_file": file})
    if a.what == "revoke":
        void = revoke_token(file, a.name or "")
        return Answer({"revoked": void.name, "id": void.id})
    known = tokens(file)
    rows = [(t.id, t.name, t.role, t.made[:10], (t.expires or "never")[:10], (t.revoked or "no")[:10]) for t in known]
    return Answer({"tokens": len(known)}, [Table("tokens_known", ("id", "name", "role", "made", "expires", "revoked"), rows)])


@verb(
    "setwise audit-log verify --config service.toml",
    option("what", nargs="?", choices=("verify", "show"), default="verify", help="what to do (%(default)s)"),
    option("--head", help="a head noted elsewhere (NUMBER:HASH): the log must still hold that entry"),
    option("--limit", type=number(1), default=50, help="entries to show (%(default)s)"),
    CONFIG,
)
def audit_log(a: argparse.Namespace) -> Answer:
    """Look over the log of who did what for entries that were changed, taken out or cut off; or show the newest entries."""
    import pandas as pd

    from service.audit import AuditLog, note_beside
    from service.config import load_config
    from service.store import SqlStore
    from service.store.acts import Acts

    config = load_config(a.config)
    store = SqlStore(config.store.url.get_secret_value())
    try:
        log = AuditLog(Acts(store), note_beside(config.api.token_file))
        verdict = log.verify(a.head)
        entries = log.entries(limit=a.limit) if a.what == "show" else []
    finally:
        store.close()
    rows = [(e.seq, pd.Timestamp(e.at, unit="ms", tz="UTC"), e.who, e.role, e.action, e.target, e.detail) for e in entries]
    tables = [Table("entries", ("seq", "at", "who", "role", "action", "target", "detail"), rows)] if rows else []
    tables += [Table("faults", ("fault",), [(f,) for f in verdict.faults])] if verdict.faults else []
    facts = {"n": verdict.n, "head": str(verdict.head), "is_whole": not verdict.faults}
    return Answer(facts, tables, is_good=not verdict.faults)


@verb(
    "setwise sign bundles/medium_office --key signing.key",
    BUNDLE,
    option("--key", type=Path, required=True, help="file of the private key; keep it off the gateway"),
    option("--make-key", action="store_true", help="make the key first, and print the public key for service.toml"),
)
def sign(a: argparse.Namespace) -> Answer:
    """Sign a bundle with ed25519, for gateways whose service.toml names the public key ([bundle] public_key)."""
    from service.signing import make_key, sign_bundle

    if a.make_key:
        make_key(a.key)
    return Answer({"bundle": a.bundle, "public_key": sign_bundle(a.bundle, a.key)})


@verb(
    "setwise install bundles/new --config service.toml",
    option("source", type=Path, help="folder of the new bundle"),
    CONFIG,
)
def install(a: argparse.Namespace) -> Answer:
    """Verify a bundle (signature, checksums, building) and put it where the service reads it; the former one stays beside it."""
    from building.description import load_building
    from service.config import load_config
    from service.signing import install as put_in_place

    config = load_config(a.config)
    name = load_building(config.building.name).name
    found = put_in_place(a.source, config.building.bundle, config.bundle.public_key, name)
    return Answer({"bundle": found.folder, "created": found.created, "is_signed": bool(config.bundle.public_key)})


@verb("setwise rollback --config service.toml", CONFIG)
def rollback(a: argparse.Namespace) -> Answer:
    """Put the previous bundle back; once more takes the newer one again."""
    from service.config import load_config
    from service.signing import roll_back

    config = load_config(a.config)
    found = roll_back(config.building.bundle, config.bundle.public_key)
    return Answer({"bundle": found.folder, "created": found.created})


@verb(
    "setwise diagnostics gateway.zip --config service.toml",
    option("file", type=Path, help="the zip to write"),
    CONFIG,
)
def diagnostics(a: argparse.Namespace) -> Answer:
    """Write what a helper far away needs to know of this gateway into one file, without a secret."""
    from service.config import load_config
    from service.diagnostics import collect

    names = collect(load_config(a.config), a.file)
    return Answer({"file": a.file, "parts": len(names)})


@verb("setwise doctor --config service.toml", CONFIG)
def doctor(a: argparse.Namespace) -> Answer:
    """Look over this machine before the service starts: versions, bundle, points, store, broker, time zones, disk."""
    from service.config import load_config
    from service.doctor import examine

    findings = examine(load_config(a.config))
    faults = sum(not f.is_good for f in findings)
    rows = [("ok" if f.is_good else "FAULT", f.what, f.fact) for f in findings]
    return Answer(
        {"checks": len(findings), "faults": faults}, [Table("looked_at", ("state", "what", "found"), rows)], is_good=not faults
    )


@verb("setwise commission --config service.toml", CONFIG)
def commission(a: argparse.Namespace) -> Answer:
    """List every point with its last value, age and flag, and whether it does what a point must; runs beside the service."""
    import pandas as pd

    from building.description import load_building
    from service.commission import commission as report
    from service.config import load_config
    from service.points import load_points

    config = load_config(a.config)
    building = load_building(config.building.name)
    with opened_store(config.store.url.get_secret_value()) as store:
        found = report(config, building, load_points(building, config.building.points), store, pd.Timestamp.now(tz="UTC"))
    columns = ("point", "topic", "value", "unit", "age_s", "flag", "verdict", "finding")
    n = {verdict: sum(r.verdict == verdict for r in found) for verdict in ("pass", "look", "fail")}
    rows = [tuple(getattr(r, c) for c in columns) for r in found]
    return Answer({"points": len(found), **n}, [Table("report", columns, rows)], is_good=not n["fail"])


@verb("setwise backup /media/stick/setwise.backup --config service.toml", option("file", type=Path, help="the backup"), CONFIG)
def backup(a: argparse.Namespace) -> Answer:
    """Copy the whole store into one file, while the service runs; the file is an SQLite store, whatever the store runs on."""
    from service.config import load_config

    with opened_store(load_config(a.config).store.url.get_secret_value()) as store:
        n_bytes = store.backup(a.file)
        return Answer({"file": a.file, "mb": n_bytes / 1e6, "newest": store.newest(), "readings": store.counts()["readings"]})


@verb(
    "setwise restore /media/stick/setwise.backup --config service.toml",
    option("file", type=Path, help="a backup"),
    option("--force", action="store_true", help="overwrite a store that holds something newer than the backup"),
    CONFIG,
)
def restore(a: argparse.Namespace) -> Answer:
    """Put a backup in place of the store, checked and upgraded first; stop the service before. An SQLite store stays beside."""
    from service.config import load_config
    from service.store.backup import restore as put_back

    counts = put_back(load_config(a.config).store.url.get_secret_value(), a.file, a.force)
    return Answer({"file": a.file, "rows": sum(counts.values())}, [Table("restored", ("table", "rows"), list(counts.items()))])


@verb(
    "setwise downgrade --to 0001 --config service.toml",
    option("--to", metavar="SCHEMA", help="schema of the former setwise (the one before ours)"),
    CONFIG,
)
def downgrade(a: argparse.Namespace) -> Answer:
    """Take the store back to the schema of a former setwise, after a copy of it; stop the service first."""
    from service.config import load_config
    from service.store import schema
    from service.store.backup import go_back

    to = a.to or schema.earlier()[-1]
    return Answer({"schema": to, "copy": go_back(load_config(a.config).store.url.get_secret_value(), to)})


@verb(
    "setwise export parquet --config service.toml",
    option("folder", type=Path, help="a folder; one file per table"),
    CONFIG,
    needs="export",
)
def export(a: argparse.Namespace) -> Answer:
    """Write readings, forecasts, plans, calibrations, setpoints and the journal as Parquet, for pandas and the like."""
    from service.config import load_config
    from service.store.export import export as write

    with opened_store(load_config(a.config).store.url.get_secret_value()) as store:
        counts = write(store, a.folder)
    return Answer({"folder": a.folder, "rows": sum(counts.values())}, [Table("files", ("table", "rows"), list(counts.items()))])


@contextmanager
def opened_store(url: str) -> Iterator[SqlStore]:
    """Give the store of a service that may run. Raises StoreError: there is none, or it cannot be opened."""
    from sqlalchemy import make_url

    from building.errors import StoreError
    from service.store import SqlStore

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise StoreError(url=url, reason="there is none yet; 'setwise serve' makes it.")
    store = SqlStore(url)
    try:
        yield store
    finally:
        store.close()


@verb(
    "setwise savings --config service.toml",
    option("--csv", type=Path, help="a daily CSV instead of the store: date, then energy_kwh, outdoor_air_temperature, side"),
    option(
        "--method",
        choices=("switchback", "before_after"),
        default="switchback",
        help="what the sides plan and own of the CSV are: a trial, or after and before (%(default)s)",
    ),
    CONFIG,
)
def savings(a: argparse.Namespace) -> Answer:
    """Say what was saved, with its interval: of the service's switchback trial, else before and after; or of a daily CSV.

    A CSV has one line per local day: ``day,energy_kwh,outdoor_air_temperature,side``, with side plan or own. A day without energy
    or temperature is left out. Exit code 1 while there are not days enough.
    """
    from service.config import load_config
    from service.savings import judged, report

    config = load_config(a.config)
    if a.csv is not None:
        found = {"energy": str(a.csv), **judged(read_days(a.csv), a.method, config.savings.confidence)}
    else:
        import pandas as pd

        from building.description import load_building

        with opened_store(config.store.url.get_secret_value()) as store:
            found = report(store, load_building(config.building.name), config, pd.Timestamp.now(tz="UTC"))
    text = f"{found['said']}\n{found['source']}\nEnergy: {found['energy']}."
    columns = ("side", "days", "energy_kwh", "cost", "outdoor_air_temperature", "discomfort", "co2_excess", "co2")
    arms = [(side, found[f"n_{side}"], *(found["arms"][side][c] for c in columns[2:])) for side in ("own", "plan")]
    tables = [Table("means_of_a_day", columns, arms)]
    if found["left_out"]:
        tables.append(Table("left_out", ("days", "why"), [(n, why) for why, n in found["left_out"].items()]))
    facts = {
        k: found[k] for k in ("method", "saving", "low", "high", "saved_kwh", "n_own", "n_plan", "is_shown", "is_model_based")
    }
    return Answer(facts, tables, text=text, details={"report": found}, is_good=found["is_enough"])


# ------------------------------------------------------------------------------------------------------------------ reading


def read_days(path: Path) -> pd.DataFrame:
    """Read a daily CSV of a trial: first column local dates, then ``energy_kwh``, ``outdoor_air_temperature`` and ``side``.

    Raises:
        BadSeriesError: not such a file, a side that is neither plan nor own, or a day twice. NotFiniteError: text as a number.
    """
    import pandas as pd

    from building.checks import as_numbers

    numbers = ["energy_kwh", "outdoor_air_temperature"]
    try:
        frame = pd.read_csv(path, index_col=0)
        frame.index = pd.to_datetime(frame.index, format="ISO8601").date
    except (ValueError, TypeError, AttributeError) as e:
        raise BadSeriesError(what=path, reason=f"not a CSV with a date per line ({str(e).strip()}).") from e
    missing = [c for c in (*numbers, "side") if c not in frame.columns]
    if missing:
        raise BadSeriesError(what=path, reason=f"it has no column {', '.join(missing)}.")
    strange = frame[~frame["side"].isin(["plan", "own"])]
    if len(strange):
        raise BadSeriesError(what=path, reason=f"side of {strange.index[0]} is '{strange['side'].iloc[0]}'; wanted: plan or own.")
    if frame.index.has_duplicates:
        raise BadSeriesError(what=path, reason=f"{frame.index[frame.index.duplicated()][0]} stands there twice.")
    return as_numbers(frame, numbers, str(path)).assign(side=frame["side"])


def read_frame(path: Path) -> pd.DataFrame:
    """Read an hourly CSV: first column time stamps (without a zone they are UTC), then one column per variable, inside units.

    Raises:
        BadSeriesError: not a CSV. IrregularTimeError: a first column that is no time.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, index_col=0)
    except ValueError as e:  # pandas' own errors and those of the encoding are ValueErrors
        wanted = "wanted: a header, then one line per hour"
        raise BadSeriesError(what=path, reason=f"not a CSV file ({str(e).strip()}); {wanted}.") from e
    try:
        frame.index = pd.to_datetime(frame.index, utc=True, format="ISO8601").rename("time")
    except (ValueError, TypeError) as e:
        raise IrregularTimeError(what=path, step_min=60, where="its first column", reason=f"not ISO 8601 time stamps: {e}") from e
    return frame


def read_measured(building: Building, path: Path) -> pd.DataFrame:
    """Read what a building measured: the columns that are its variables, as numbers, with the sun on its facades.

    Raises:
        See `read_frame`. MissingColumnError: no variable of the building, or no sun. NotFiniteError: text among the numbers.
    """
    from building.checks import as_numbers

    frame = read_frame(path)
    known = {*building.inputs.names, *building.outputs.names}
    columns = [str(c) for c in frame.columns if c in known]
    if not columns:
        hint = did_you_mean(str(next(iter(frame.columns), "")), known)
        raise BadSeriesError(what=path, reason=f"no column is a variable of '{building.name}'.{hint}")
    return building.with_sun(as_numbers(frame, columns, str(path)), str(path))


def read_calibration(path: Path) -> Any:
    """Read what `setwise calibrate --out` wrote. Raises BadDescriptionError: something else, or a refused calibration."""
    from calibration.report import Calibration

    data = read_json(path)
    try:
        Calibration.from_dict(data)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        reason = f"not a calibration ({type(e).__name__}: {e}); write one with 'setwise calibrate measured.csv --out {path}'."
        raise BadDescriptionError(file=path, reason=reason) from e
    if not data["is_accepted"]:
        told = f"this calibration was refused: {'; '.join(data['refusals'])}. Without it default parameters are used."
        raise BadDescriptionError(file=path, reason=told)
    return data


def read_json(path: Path) -> Any:
    """Read a document that another verb wrote. Raises BadDescriptionError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise BadDescriptionError(file=path, reason=f"not JSON: {e}") from e


def write_json(path: Path, data: Mapping[str, object]) -> None:
    """Write a document that another verb reads."""
    path.write_text(json.dumps(plain(data), indent=1, allow_nan=False), encoding="utf-8")


def opened(bundle_folder: Path) -> tuple[Building, OnnxPredictor]:
    """Return the building and the predictor of a bundle."""
    from building.description import load_building
    from models.runtime.bundle import load_bundle
    from models.runtime.session import OnnxPredictor

    found = load_bundle(bundle_folder)
    return load_building(found.building), OnnxPredictor(found)


# ---------------------------------------------------------------------------------------------------------------- printing


def by_name(key: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table with one row per name and one column per figure."""
    columns = dict.fromkeys(k for row in figures.values() for k in row)
    return Table(key, ("name", *columns), [(name, *(row.get(c) for c in columns)) for name, row in figures.items()])


def as_answer(result: Any) -> Answer:
    """Return a verb's Answer from a result that knows its `facts()`, and perhaps its `tables()` and what is `said()` of it."""
    tables = [Table(*t) for t in result.tables()] if hasattr(result, "tables") else []
    text = result.said() if hasattr(result, "said") else ""
    return Answer(result.facts(), tables, text=text, is_good=getattr(result, "is_good", True))


def say(answer: Answer, as_json: bool) -> None:
    """Print an answer on stdout: one JSON object, or tables and a line of key=value pairs."""
    if as_json:
        print(json.dumps(document(answer), allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table as Drawn

    console = Console(width=None if sys.stdout.isatty() else 220)
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


def document(answer: Answer) -> dict[str, Any]:
    """Return an answer as one JSON object: facts, then tables as lists of objects, then details."""
    listed = {t.key: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in answer.tables}
    keys = [*answer.facts, *listed, *answer.details]
    if len(set(keys)) < len(keys):
        raise ValueError(f"an answer says two things under one name: {sorted(k for k in keys if keys.count(k) > 1)}")
    return {key: plain(value) for part in (answer.facts, listed, answer.details) for key, value in part.items()}


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
def stage_bars(a: argparse.Namespace) -> Iterator[Callable[[str, int | None], Progress]]:
    """Give a function ``(label, total)`` that draws a bar on stderr and returns ``advance(done, total=None, note="", ...)``.

    Silent with --json or --quiet; where stderr is a file, a line a minute instead of a bar.
    """
    if a.json or a.quiet:
        yield lambda *_label: lambda *_args, **_more: None
        return
    if not sys.stderr.isatty():
        yield lambda label, _total: lines_of(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    is_moving = False
    with Bars(*columns, console=Console(stderr=True), speed_estimate_period=300) as bars:  # runs of 30 s make no rate in 30 s

        def open_stage(label: str, total: int | None) -> Progress:
            task = bars.add_task(label, total=total, note="")

            def advance(done: float, total: float | None = None, note: str = "", *_more: object) -> None:
                nonlocal is_moving
                is_moving = True
                bars.update(task, completed=done, total=total, note=note)

            return advance

        try:
            yield open_stage
        except BaseException:
            for task in [] if is_moving else bars.task_ids:
                bars.remove_task(task)  # refused before anything moved: the sentence alone says it
            raise


def lines_of(label: str) -> Progress:
    """Give the `advance` of a stage that is told in lines: at most one a minute, and the last."""
    told_s = time.monotonic()

    def advance(done: float, total: float | None = None, note: str = "", left_s: float | None = None, *_more: object) -> None:
        nonlocal told_s
        if time.monotonic() - told_s < LINE_EVERY_S and done != total:
            return
        told_s = time.monotonic()
        of = "" if total is None else f" of {total:g}"
        left = f", {left_s / 60:.0f} min left" if left_s else ""
        print(f"{label}: {done:g}{of}{', ' if note else ''}{note}{left}", file=sys.stderr, flush=True)

    return advance


@contextmanager
def progress_bar(a: argparse.Namespace, label: str) -> Iterator[Progress]:
    """Give a function ``(done, total, note="", left_s=None)`` that draws one bar; see `stage_bars`."""
    with stage_bars(a) as open_stage:
        yield open_stage(label, None)


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
    group.add_argument("--seed", type=number(0), default=0, help="of everything random; same seed, same answer (%(default)s)")
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
    except KeyboardInterrupt as e:
        print(f"setwise: interrupted{''.join(f'; {said}' for said in e.args)}", file=sys.stderr)
        return 130
    except (SetwiseError, OSError) as e:
        if a.debug:
            raise
        if a.json:
            facts = e.facts if isinstance(e, SetwiseError) else {}
            print(json.dumps(plain({"error": type(e).__name__, "message": in_words(e), "facts": facts}), allow_nan=False))
        print(f"setwise: {in_words(e)}", file=sys.stderr)
        return 2


def in_words(error: Exception) -> str:
    """Return an error as a sentence; one of the system without its number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
