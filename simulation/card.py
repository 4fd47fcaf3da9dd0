"""The card of a dataset, for people: what is in it, how it was made, what failed, and what it does not cover.

Everything is read from the dataset and its manifest, so that a card cannot say what the arrays do not. Warm-up hours are left
out: they are the last hours of another window, or nobody's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.units import POWER
from building.variables import Role, Signature
from simulation.dataset import Dataset

CARD = "CARD.md"
CHUNK = 128
"""Windows read at once: the arrays may be larger than the memory."""
SAMPLE_EVERY_H = 7
"""Hours between two hours that quantiles are taken from; no divisor of 24, so that every hour of the day comes up."""
OUTDOOR_DEGC = (-60, -15, -10, -5, 0, 5, 10, 15, 20, 25, 30, 35, 60)
"""Edges of the bins of outdoor temperature; the first and the last are the limits of a morphed file."""
N_CELLS = 10
"""Equal parts of a parameter's range in which runs are counted."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def card(dataset: Dataset) -> str:
    """Return the card of a dataset as Markdown; a part whose facts the manifest lacks is left out."""
    windows, origin = dataset.windows, dataset.origin
    lines = [
        f"# Data of {origin.get('building', 'a building without a name')}",
        "",
        f"{len(windows):,} windows of {dataset.x_ntc.shape[1] - dataset.warm_up_h} h, each after {dataset.warm_up_h} h of past "
        f"that nobody judges, cut from {windows['run'].nunique():,} runs; hourly, {len(dataset.inputs)} inputs, "
        f"{len(dataset.outputs)} outputs, physical units, float32. Written by `setwise simulate`. "
        "Figures are of the judged hours.",
        "",
        *_facts(origin),
        "",
        "## What failed and why",
        "",
        *_failures(origin),
        "",
        "## Windows",
        "",
        *_counts("split", windows["split"]),
        *_counts("kind of settings", windows["kind"]),
        *(_counts("weather morphed", windows["is_morphed"].map({True: "yes", False: "no"})) if "is_morphed" in windows else []),
        *_counts("climate", windows["climate"]),
        *_months(windows),
        "",
        *_parameters(dataset),
        *_distributions(dataset),
    ]
    if "campaign" in origin:
        lines += ["## To make it again", "", f"`{_command(origin['campaign'])}`", ""]
        if origin["runs"] < origin["campaign"]["n_runs"]:
            lines += [
                f"Exported at {origin['runs']} finished runs; windows.csv has their numbers, and a run follows from its number.",
                "",
            ]
    return "\n".join(lines)


def _facts(origin: dict[str, Any]) -> list[str]:
    asked, morph = origin.get("campaign", {}), origin.get("morph")
    if isinstance(morph, dict):
        spans = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in morph.items())
        morph = f"{origin.get('morphed_runs', 'some')} of the runs; {spans}"
    named = {
        "engine": origin.get("engine"),
        "runs finished, of those asked for": f"{origin['runs']} of {asked['n_runs']}" if "n_runs" in asked else None,
        "seed": asked.get("seed"),
        "core-hours of simulation": origin.get("core_hours"),
        "exported": origin.get("exported"),
        "held out": origin.get("held_out"),
        "morphed weather": morph,
        "weather files": origin.get("weather"),
    }
    return [
        f"- {key}: {f'{value:.3g}' if isinstance(value, float) else value}" for key, value in named.items() if value is not None
    ]


def _failures(origin: dict[str, Any]) -> list[str]:
    failed, total = origin.get("failures", []), origin.get("failed_runs", 0)
    if not total:
        return ["No run failed."]
    rows = [(f.get("number"), f.get("climate"), str(f.get("reason", "")).replace("|", "/").replace("\n", " ")) for f in failed]
    told = f"{total} runs failed and are not in the data" + (f"; the first {len(rows)}:" if len(rows) != total else ":")
    return [told, "", *_table(("run", "climate", "in the engine's words"), rows)]


def _counts(what: str, column: pd.Series[str]) -> list[str]:
    counted = Counter(column)
    return [f"- {what}: " + ", ".join(f"{name} {n:,}" for name, n in sorted(counted.items())) + "."]


def _months(windows: pd.DataFrame) -> list[str]:
    found = Counter(int(m) for m in pd.to_datetime(windows["start"], utc=True).dt.month)
    return ["- month in which the window starts: " + ", ".join(f"{name} {found[i + 1]:,}" for i, name in enumerate(MONTHS)) + "."]


def _parameters(dataset: Dataset) -> list[str]:
    """Return ranges asked for and found, and how evenly the runs fill them, one by one and two by two."""
    signature = dataset.inputs.having(Role.PARAMETER)
    if not len(signature):
        return []
    first = ~dataset.windows["run"].duplicated().to_numpy()
    values_rp = dataset.x_ntc[first][:, -1, :][:, dataset.inputs.positions(signature.names)].astype(float)
    asked: dict[str, tuple[float, float, str]] = dataset.origin.get("parameter_ranges", {})
    rows, cells = [], []
    for variable, values in zip(signature, values_rp.T, strict=True):
        low, high, scale = asked.get(variable.name, (float(values.min()), float(values.max()), "linear"))
        cells.append(_cells(values, low, high, scale))
        emptiest = int(np.bincount(cells[-1], minlength=N_CELLS).min())
        rows.append((variable.name, variable.quantity.unit, scale, _pair(low, high), _pair(values.min(), values.max()), emptiest))
    head = ("parameter", "unit", "scale", "drawn from", "found", f"runs in the emptiest of {N_CELLS} parts")
    pairs = [len(np.unique(N_CELLS * one + other)) / N_CELLS**2 for one, other in combinations(cells, 2)]
    filled = f"Of the {N_CELLS**2} cells of two parameters, {min(pairs):.0%} hold a run in the emptiest pair." if pairs else ""
    return ["## Parameters", "", *_table(head, rows), "", *([filled, ""] if filled else [])]


def _pair(low: float, high: float) -> str:
    return f"{low:.4g} to {high:.4g}"


def _cells(values: NDArray[np.float64], low: float, high: float, scale: str) -> NDArray[np.int64]:
    """Return in which of `N_CELLS` equal parts of its range, on its own scale, each value lies."""
    if high <= low:
        return np.zeros(len(values), dtype=np.int64)
    share = np.log(values / low) / np.log(high / low) if scale == "log" else (values - low) / (high - low)
    return np.clip((share * N_CELLS).astype(np.int64), 0, N_CELLS - 1)


def _distributions(dataset: Dataset) -> list[str]:
    """Return outdoor temperature by bins, settings and other inputs by quantiles, outputs by mean and extremes."""
    x, y = _Summary(dataset.inputs), _Summary(dataset.outputs)
    outdoor = "outdoor_air_temperature"
    counted = np.zeros(len(OUTDOOR_DEGC) - 1, dtype=np.int64)
    for start in range(0, len(dataset), CHUNK):
        part = slice(start, start + CHUNK)
        x_ntc, y_nto = dataset.x_ntc[part, dataset.warm_up_h :], dataset.y_ntc[part, dataset.warm_up_h :]
        x.add(x_ntc)
        y.add(y_nto)
        if outdoor in dataset.inputs:
            counted += np.histogram(x_ntc[:, :, dataset.inputs.position(outdoor)], OUTDOOR_DEGC)[0]
    lines: list[str] = []
    if outdoor in dataset.inputs:
        shares = counted / counted.sum()
        rows = [
            (f"{low:g} to {high:g}", f"{100 * s:.1f} %") for (low, high), s in zip(pairwise(OUTDOOR_DEGC), shares, strict=True)
        ]
        lines += ["## Outdoor temperature", "", *_table(("degC", "share of the hours"), rows), ""]
    for title, roles in (("Settings", (Role.SETTING,)), ("Weather and occupancy", (Role.WEATHER, Role.OCCUPANCY))):
        chosen = dataset.inputs.having(*roles)
        if len(chosen):
            lines += [f"## {title}", "", *x.quantiles(chosen), ""]
    return [*lines, "## Outputs", "", *y.totals(dataset.outputs), ""]


class _Summary:
    """Least, mean, greatest and share of zeros of every channel, exact; quantiles from every `SAMPLE_EVERY_H`-th hour."""

    def __init__(self, signature: Signature) -> None:
        n = len(signature)
        self.signature = signature
        self.n_hours = 0
        self.low, self.high = np.full(n, np.inf), np.full(n, -np.inf)
        self.sum, self.n_zero = np.zeros(n), np.zeros(n, dtype=np.int64)
        self.samples: list[NDArray[np.float32]] = []

    def add(self, values_ntc: NDArray[np.float32]) -> None:
        """Count some windows in."""
        flat = np.asarray(values_ntc).reshape(-1, len(self.signature))
        self.n_hours += len(flat)
        self.low, self.high = np.minimum(self.low, flat.min(axis=0)), np.maximum(self.high, flat.max(axis=0))
        self.sum += flat.sum(axis=0, dtype=np.float64)
        self.n_zero += (flat == 0).sum(axis=0)
        self.samples.append(flat[::SAMPLE_EVERY_H])

    def quantiles(self, chosen: Signature) -> list[str]:
        """Return a table of the spread of some channels."""
        at = self.signature.positions(chosen.names)
        found = np.quantile(np.concatenate([s[:, at] for s in self.samples]), (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        rows = [
            (v.name, v.quantity.unit, *(f"{value:.4g}" for value in (self.low[i], *found[:, j], self.high[i])))
            for j, (v, i) in enumerate(zip(chosen, at, strict=True))
        ]
        return _table(("input", "unit", "least", "5 %", "25 %", "median", "75 %", "95 %", "greatest"), rows)

    def totals(self, chosen: Signature) -> list[str]:
        """Return a table of outputs, with the share of the hours in which a power is exactly zero."""
        rows = []
        for v in chosen:
            i = self.signature.position(v.name)
            zero = f"{100 * self.n_zero[i] / self.n_hours:.1f} %" if v.quantity.name == POWER.name else ""
            spread = (self.low[i], self.sum[i] / self.n_hours, self.high[i])
            rows.append((v.name, v.quantity.unit, *(f"{n:.4g}" for n in spread), zero))
        return _table(("output", "unit", "least", "mean", "greatest", "hours of exactly zero"), rows)


def _command(asked: dict[str, Any]) -> str:
    """Return what makes the campaign again, with the same numbers under the same versions of setwise and of the engine."""
    if asked["held_out"]:  # fresh runs have no verb of their own
        return f"run_campaign(Campaign({', '.join(f'{k}={v!r}' for k, v in asked.items())}), ...)"
    return (
        f"setwise simulate {asked['building']} --runs {asked['n_runs']} --windows {asked['n_windows']} "
        f"--seed {asked['seed']} --out FOLDER"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    def line(cells: Sequence[object]) -> str:
        return f"| {' | '.join(str(c) for c in cells)} |"

    return [line(head), "|" + "---|" * len(head), *(line(r) for r in rows)]
