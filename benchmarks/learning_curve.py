"""Learning curve: error against windows and against steps, the law it follows, and what the next bar would cost.

    python -m benchmarks learning_curve runs/first/dataset --windows 500,1000,2000,4000 --steps 3000 --seed 1
    python -m benchmarks learning_curve runs/first/dataset --steps 1000,8000 --seed 1 --picture docs/images/learning_curve.svg

Every training is the shipped recipe on the first runs of the campaign, so that subsets are nested, judged on the same validation
split. Results are kept as JSON lines: a second call adds its points to the same curve, and a killed one goes on.
The law is error = a + b n^-c (Hestness et al., arXiv 1712.00409), fitted to logarithms; leaving out one point after the other
says how sure it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks._trained import KEYS, first_runs, judged, train_runs, trained_on, validation
from models.training import TrainingConfig
from simulation.dataset import load_dataset

ERROR = "zone_temperature_rmse_k"
LEAST_POINTS = 3
EXPONENTS = (0.05, 2.0)

Law = tuple[float, float, float]


def fitted(n: Sequence[float], error: Sequence[float]) -> Law:
    """Return (a, b, c) of error = a + b (n / n_0)^-c with n_0 the least n; a, b >= 0, c in 0.05 .. 2."""
    x, y = np.asarray(n, dtype=float), np.asarray(error, dtype=float)
    x = x / x.min()

    def residual(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(p[0] + p[1] * x ** -p[2]) - np.log(y)

    bounds = ([0, 1e-9, EXPONENTS[0]], [float(y.min()), 10 * float(y.max()), EXPONENTS[1]])
    starts = ([share * y.min(), y.max() - share * y.min(), c] for share in (0.05, 0.5, 0.9) for c in (0.3, 1.0))
    best = min((least_squares(residual, start, bounds=bounds) for start in starts), key=lambda found: found.cost)
    return float(best.x[0]), float(best.x[1]), float(best.x[2])


def predicted(law: Law, n: float, least: float) -> float:
    """Return the error the law gives at n, where `least` is the least n it was fitted to."""
    a, b, c = law
    return float(a + b * (n / least) ** -c)


def needed(law: Law, target: float, least: float) -> float:
    """Return the n at which the law reaches the target; infinite where its floor lies above."""
    a, b, c = law
    return float(least * (b / (target - a)) ** (1 / c)) if target > a else float("inf")


def extrapolated(axis: str, rows: pd.DataFrame, target: float) -> dict[str, object]:
    """Return the law along one axis and what it says of twice, four times and the target, with leave-one-out extremes."""
    n, error = rows[axis].to_numpy(dtype=float), rows[ERROR].to_numpy(dtype=float)
    if len(n) < LEAST_POINTS:
        return {"points": len(n)}
    greatest, least = n.max(), n.min()
    law = fitted(n, error)
    found: dict[str, object] = {"points": len(n), "a": law[0], "b": law[1], "c": law[2]}
    without = [np.arange(len(n)) != i for i in range(len(n))] if len(n) > LEAST_POINTS else []
    others = [(fitted(n[keep], error[keep]), n[keep].min()) for keep in without]
    for times in (2, 4):
        all_said = [predicted(law, times * greatest, least), *(predicted(o, times * greatest, low) for o, low in others)]
        found[f"at_{times}_times"] = all_said[0]
        found[f"at_{times}_times_range"] = (min(all_said), max(all_said))
    need = [needed(law, target, least), *(needed(o, target, low) for o, low in others)]
    found["needed"], found["needed_range"] = need[0], (min(need), max(need))
    return found


def curve(rows: pd.DataFrame, along: str, fixed: str) -> pd.DataFrame:
    """Return the points along one axis: at the value of the other that has most of them (the greatest such), one per value."""
    counts = rows.groupby(fixed)[along].nunique()
    at = counts[counts == counts.max()].index.max()
    return rows[rows[fixed] == at].groupby(along, as_index=False).mean(numeric_only=True).sort_values(along)


def draw(rows: pd.DataFrame, target: float, path: Path) -> None:
    """Draw error against windows and against steps, with the fitted laws to four times the last point."""
    figure = Figure(figsize=(9, 3.6))
    axes = figure.subplots(1, 2, sharey=True)
    for ax, along, fixed in ((axes[0], "windows", "steps"), (axes[1], "steps", "windows")):
        points = curve(rows, along, fixed)
        ax.plot(points[along], points[ERROR], "o", color="#1b6e8a", label="measured")
        if len(points) >= LEAST_POINTS:
            n = np.geomspace(points[along].min(), 4 * points[along].max(), 60)
            law = fitted(points[along].to_numpy(), points[ERROR].to_numpy())
            label = f"{law[0]:.3f} + {law[1]:.3f} (n / {points[along].min():.0f})^-{law[2]:.2f}"
            ax.plot(n, [predicted(law, one, points[along].min()) for one in n], "-", color="#1b6e8a", alpha=0.6, label=label)
        ax.axhline(target, color="#b4552d", linewidth=1, linestyle="--", label=f"bar, {target:g} K")
        ax.set_xscale("log")
        ax.set_xlabel(f"{along} ({fixed}: {points[fixed].iloc[0]:.0f})")
        ax.grid(True, which="both", linewidth=0.3)
        ax.legend(fontsize=8, frameon=False, loc="upper right")
    axes[0].set_ylabel("zone temperature RMSE [K]")
    figure.tight_layout()
    with rc_context({"svg.hashsalt": "setwise"}):  # the same picture from the same rows
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def read_rows(path: Path) -> list[dict[str, object]]:
    """Return the kept results; a line that a kill cut short counts as not there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def whole_numbers(text: str) -> list[int]:
    """Return the whole numbers of a comma-separated list."""
    return [int(part) for part in text.split(",") if part]


def main(arguments: list[str]) -> None:
    """Train what is missing, print a row per training and one line of key=value pairs (`--json`: one object)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks learning_curve", description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--windows", type=whole_numbers, default=[], help="training windows, comma separated; all without it")
    parser.add_argument("--steps", type=whole_numbers, default=[3000], help="optimiser steps, comma separated (3000)")
    parser.add_argument("--target", type=float, default=0.20, help="zone temperature RMSE to ask for [K] (%(default)s)")
    parser.add_argument("--results", type=Path, help="where results are kept (learning_curve.jsonl in the dataset's folder)")
    parser.add_argument("--picture", type=Path, help="draw the curve here, .svg or .png")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset = load_dataset(a.dataset)
    path = a.results or a.dataset / "learning_curve.jsonl"
    held = validation(dataset)
    n_all = int((dataset.windows["split"] == "train").sum())
    exported = dataset.origin.get("exported", "")
    config = TrainingConfig()
    for n_steps in a.steps:
        for wanted in a.windows or [n_all]:
            runs = first_runs(dataset, wanted) if wanted < n_all else train_runs(dataset)
            if not len(runs):
                parser.error(f"{wanted} windows are less than one run")
            n = int(dataset.windows["run"].isin(runs).sum())
            key = {"windows": n, "steps": n_steps, "seed": a.seed, "exported": exported}
            if any(all(row.get(k) == v for k, v in key.items()) for row in read_rows(path)):
                continue
            predictor, core_s = trained_on(dataset, runs, replace(config, n_steps=n_steps), a.seed)
            with open(path, "a", encoding="utf-8") as f:
                f.write(json.dumps({**key, "core_s": core_s, **judged(predictor, held)}) + "\n")
    rows = pd.DataFrame([row for row in read_rows(path) if row["seed"] == a.seed and row["exported"] == exported])
    facts = {
        "windows": extrapolated("windows", curve(rows, "windows", "steps"), a.target),
        "steps": extrapolated("steps", curve(rows, "steps", "windows"), a.target),
    }
    if a.picture:
        draw(rows, a.target, a.picture)
    if a.json:
        print(json.dumps({"rows": rows.to_dict("records"), **facts}))
        return
    shown = ["windows", "steps", "nrmse", *(k for k in KEYS if k in rows), "core_s"]
    print(rows.sort_values(["steps", "windows"])[shown].to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    print(" ".join(said(axis, found) for axis, found in facts.items()))


def said(axis: str, found: dict[str, object]) -> str:
    """Return what was found along one axis as key=value pairs; ``out_of_reach`` where no amount is enough."""
    if "needed" not in found:
        return f"{axis}_points={found['points']}"

    def amount(value: float) -> str:
        return f"{value:.3g}" if np.isfinite(value) else "out_of_reach"

    pairs = {f"{axis}_points": str(found["points"])}
    pairs |= {f"{axis}_{name}": f"{found[name]:.3g}" for name in ("a", "b", "c")}
    for times in (2, 4):
        low, high = found[f"at_{times}_times_range"]
        pairs[f"{axis}_at_{times}_times_k"] = f"{found[f'at_{times}_times']:.3f}"
        pairs[f"{axis}_at_{times}_times_range_k"] = f"{low:.3f}..{high:.3f}"
    pairs[f"needed_{axis}"] = amount(found["needed"])
    pairs[f"needed_{axis}_range"] = "..".join(amount(v) for v in found["needed_range"])
    return " ".join(f"{key}={value}" for key, value in pairs.items())
