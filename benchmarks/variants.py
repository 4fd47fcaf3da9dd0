"""Other ways of running the same weights: hours per call, threads, int8, float16. Which of them pays, and what does it cost?

    python -m benchmarks variants [bundles/medium_office] [--dataset runs/first/dataset]

Times are of one generation of plans after a shared past, as a search asks (`benchmarks.latency`), best of some rounds taken in
turn: CPU seconds of one thread, wall seconds where there are several. What a variant costs is its largest and its mean error
against the graph as it ships, in units of each output's scale (its standard deviation over the scenarios); with a dataset, the
scenarios are its validation windows and the zone temperature RMSE against EnergyPlus stands beside.

int8 is ONNX Runtime's dynamic quantisation of the products with weights: a row's answer then depends on the rows beside it,
since they share one scale (`row_gap` shows how far). float16 overflows beyond 65,504, which powers in watts reach; its inputs and
outputs stay float32. Both suffer from an exported graph reading physical units (`models.export.Deployed`): `not_finite` counts
answers that are no numbers, of which there is no error.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency import FUTURE_H, GENERATION, past_and_plans
from building.units import TEMPERATURE
from building.variables import Role
from models.runtime.bundle import load_bundle
from models.runtime.session import CHUNK_H, no_past, open_graph, run_graph, state_after
from simulation.dataset import load_dataset

CHUNKS_H = (420, 840, 1700, 3400, 6800, GENERATION * FUTURE_H)
ROUNDS = 7


def int8(source: Path, out: Path) -> None:
    """Write the graph with the weights of its products in int8, quantised dynamically."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(source, out, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])


def float16(source: Path, out: Path) -> None:
    """Write the graph in float16 behind float32 inputs and outputs."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), out)


CONVERTED: dict[str, Callable[[Path, Path], None]] = {"int8": int8, "float16": float16}


def fastest_s(calls: dict[str, Callable[[], object]], clock: Callable[[], float]) -> dict[str, float]:
    """Return the least seconds of each call over rounds in which all take turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            mark = clock()
            call()
            best[name] = min(best[name], clock() - mark)
    return best


def measure(folder: Path, dataset: Path | None, seed: int) -> dict[str, dict[str, Any]]:
    """Return the figures of each variant, by its name."""
    bundle = load_bundle(folder)
    n_out = len(bundle.outputs)
    past, plans = past_and_plans(bundle.inputs, np.random.default_rng(seed))
    judged, true = plans, None
    if dataset is not None:
        held = load_dataset(dataset)
        held = held.where((held.windows["split"] == "validation").to_numpy())
        judged = held.x_ntc[:, :, held.inputs.positions(bundle.inputs.names)]
        true = held.y_ntc[:, held.warm_up_h :]
    is_zone = np.array([v.role is Role.INDOOR and v.quantity.name == TEMPERATURE.name for v in bundle.outputs])
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        sessions = {"float32": open_graph(bundle.graph)}
        for name, convert in CONVERTED.items():
            try:
                convert(bundle.graph, Path(place) / f"{name}.onnx")
                sessions[name] = open_graph(Path(place) / f"{name}.onnx")
            except Exception as e:  # a converter or the runtime that cannot do it is an answer too
                found[name] = {"refused": f"{type(e).__name__}: {str(e)[:200]}"}
        state = state_after(sessions["float32"], past.values, no_past(sessions["float32"]))
        calls: dict[str, Callable[[], object]] = {
            name: lambda s=session: run_graph(s, plans, n_out, state_s=state)  # type: ignore[misc]
            for name, session in sessions.items()
        }
        for hours in CHUNKS_H:
            calls[f"chunk_{hours}_h"] = lambda h=hours: run_graph(  # type: ignore[misc]
                sessions["float32"], plans, n_out, state_s=state, chunk_h=h
            )
        times = fastest_s(calls, time.process_time)
        wall = fastest_s(
            {
                f"threads_{n}": lambda n=n: run_graph(sessions["float32"], plans, n_out, n, state)  # type: ignore[misc]
                for n in (1, 2)
            },
            time.monotonic,
        )
        for name, seconds in times.items():
            found[name] = {"generation_s": seconds, "over_float32": seconds / times["float32"]}
        for name, seconds in wall.items():
            found[name] = {"generation_wall_s": seconds, "over_one_thread": seconds / wall["threads_1"]}
        wanted = run_graph(sessions["float32"], judged, n_out)
        scale = np.maximum(wanted.std(axis=(0, 1)), 1e-9)
        for name, session in sessions.items():
            got = run_graph(session, judged, n_out)
            gap = np.abs(got - wanted) / scale
            alone = run_graph(session, judged[:8], n_out, chunk_h=1)
            found[name] |= {
                "largest_gap": _number(gap.max()),
                "mean_gap": _number(gap.mean()),
                "not_finite": int((~np.isfinite(got)).sum()),
                "row_gap": _number((np.abs(alone - got[:8]) / scale).max()),
                "mb": (bundle.graph if name == "float32" else Path(place) / f"{name}.onnx").stat().st_size / 1e6,
            }
            if true is not None:
                error = (got[:, -true.shape[1] :] - true)[..., is_zone]
                found[name]["zone_temperature_rmse_k"] = _number(np.sqrt(np.mean(error**2)))
    return found


def _number(value: float) -> float | None:
    """Return None for what is no number: a variant that overflows has no error, and JSON has no NaN."""
    return float(value) if np.isfinite(value) else None


def main(arguments: list[str]) -> None:
    """Measure and print a row per variant (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks variants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/medium_office"))
    parser.add_argument("--dataset", type=Path, help="judge on the validation windows of this dataset")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    found = measure(chosen.bundle, chosen.dataset, chosen.seed)
    if chosen.json:
        print(json.dumps({"shipped_chunk_h": CHUNK_H, "variants": found}))
        return
    for name, figures in found.items():
        said = " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in figures.items())
        print(f"{name:<14} {said}")
