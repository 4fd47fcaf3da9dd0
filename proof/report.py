"""The evaluation as one HTML file: the bars, the charts an engineer asks for, and every table. matplotlib draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import MO, DateFormatter, WeekdayLocator
from matplotlib.figure import Figure

from building.units import CO2, TEMPERATURE
from building.variables import Role
from models.evaluation import loads, total_errors
from proof.compare import Array, Judged
from proof.fresh import READING, Evaluation
from simulation.energyplus import SPIN_UP_H

TRUTH, ANSWER = "#222222", "#e8710a"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin: 2em 0 .4em } p { max-width: 60em }
svg { width: 100%; height: auto } .wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .15em .9em .15em 0; white-space: nowrap }
th { text-align: right; border-bottom: 1px solid #999; font-weight: 600 } td { text-align: right }
th:first-child, td:first-child, td.text { text-align: left } .missed { color: #b3261e; font-weight: 600 }
"""


def write_report(found: Evaluation, path: Path, title: str) -> None:
    """Write one HTML file that needs nothing else. Raises OSError."""
    j = found.judged
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(READING)}</p>",
        *(_chart(_run_chart(j, run), f"The {name} run: {_run_words(j, run)}") for name, run in _typical_runs(j).items()),
        _chart(_totals_chart(j), "Totals of 28 days, one point a run; dotted: 10 % off"),
        _chart(_hours_chart(j), "Error by hour of day, local standard time"),
        _chart(_zones_chart(j), "Error by zone"),
    ]
    tables = [_table(*t) for t in found.tables()]
    body = "\n".join([*parts[:2], tables[0], *parts[2:], *tables[1:]])
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style></head>'
    )
    path.write_text(f"{head}<body>{body}</body></html>\n", encoding="utf-8")


def _chart(figure: Figure, caption: str) -> str:
    svg = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": caption}):  # text stays text; same figures, same file
        figure.savefig(svg, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = svg.getvalue()
    return f"<h2>{escape(caption)}</h2>\n{text[text.index('<svg') :]}"


def _table(key: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    lines = ["".join(_cell(cell) for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<h2>{escape(key.replace("_", " "))}</h2><div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td>{value:.4g}</td>" if math.isfinite(value) else "<td>-</td>"
    if isinstance(value, int):
        return f"<td>{value}</td>"
    kind = "text missed" if value == "NOT MET" else "text"
    return f'<td class="{kind}">{"-" if value is None else escape(str(value))}</td>'


def _typical_runs(j: Judged) -> dict[str, int]:
    """Return the runs with the median and the largest error (mean over outputs of squared error over variance of all hours)."""
    spread = np.maximum(j.true_nto.std(axis=(0, 1)), 1e-30)
    order = np.argsort((((j.pred_nto - j.true_nto) / spread) ** 2).mean(axis=(1, 2)))
    return {"median": int(order[len(order) // 2]), "worst": int(order[-1])}


def _run_words(j: Judged, run: int) -> str:
    start = j.runs.local[run] + pd.Timedelta(hours=SPIN_UP_H)
    kind = "schedules" if j.runs.kind[run] == "schedule" else "odd hourly series"
    return f"{j.runs.climate[run]}, from {start:%d %B}, {kind}"


def _run_chart(j: Judged, run: int) -> Figure:
    """Draw the zone predicted worst and the loads of one run, truth under answer."""
    true, pred = j.true_nto[run], j.pred_nto[run]
    lines: list[tuple[str, Array, Array]] = []
    for quantity, words in ((TEMPERATURE, "degC"), (CO2, "ppm")):
        channels = j.outputs.positions(j.outputs.having(Role.INDOOR, quantity=quantity).names)
        if channels:
            o = channels[int(np.argmax(((pred - true)[:, channels] ** 2).mean(axis=0)))]
            place = (j.outputs.variables[o].zone or "").replace("_", " ")
            lines.append((f"{place}\n(worst zone) {words}", true[:, o], pred[:, o]))
    answered = loads(pred, j.outputs)
    lines += [(f"{load} kW", t / 1000, answered[load] / 1000) for load, t in loads(true, j.outputs).items()]
    time = pd.date_range(j.runs.local[run], periods=SPIN_UP_H + len(true), freq="60min")[SPIN_UP_H:]
    figure = Figure(figsize=(12, 1.75 * len(lines)))
    axes = _column(figure, len(lines))
    for axis, (words, t, p) in zip(axes, lines, strict=True):
        axis.plot(time, t, color=TRUTH, linewidth=1.3, label="EnergyPlus")
        axis.plot(time, p, color=ANSWER, linewidth=0.9, label="bundle")
        axis.set_ylabel(words, fontsize=8)
        axis.margins(x=0)
        _quiet(axis)
    axes[-1].xaxis.set_major_locator(WeekdayLocator(byweekday=MO))  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_formatter(DateFormatter("Mon %d %b"))  # type: ignore[no-untyped-call]
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    return figure


def _totals_chart(j: Judged) -> Figure:
    """Draw predicted against simulated totals, a panel a consumption."""
    names = j.outputs.having(Role.CONSUMPTION).names
    n_rows = math.ceil(len(names) / 4)
    figure = Figure(figsize=(12, 3.1 * n_rows))
    for i, name in enumerate(names):
        o = j.outputs.position(name)
        true, pred = (a[:, :, o].sum(axis=1) / 1e6 for a in (j.true_nto, j.pred_nto))
        axis = figure.add_subplot(n_rows, 4, i + 1)
        top = 1.05 * max(true.max(), pred.max(), 1e-9)
        axis.plot([0, top], [0, top], color="#999999", linewidth=0.8)
        for off in (0.9, 1.1):
            axis.plot([0, top], [0, off * top], color="#999999", linewidth=0.8, linestyle=":")
        axis.scatter(true, pred, s=14, color=ANSWER)
        error = float(np.median(total_errors(j.true_nto[:, :, [o]], j.pred_nto[:, :, [o]])))
        axis.set_title(f"{name.replace('_', ' ')}, MWh\nmedian error {error:.1%}", fontsize=9)
        axis.set_xlim(0, top)
        axis.set_ylim(0, top)
        axis.set_xlabel("EnergyPlus", fontsize=8)
        axis.set_ylabel("bundle", fontsize=8)
        _quiet(axis)
    figure.tight_layout()
    return figure


def _hours_chart(j: Judged) -> Figure:
    """Draw the temperature error, and those of the loads over their spread, by hour of day."""
    groups = j.apart["hour of day"]
    hours = [int(name[:2]) for name in groups]
    figure = Figure(figsize=(12, 3))
    left, right = figure.subplots(1, 2)
    for key, words, colour in (("temperature_rmse_k", "RMSE", TRUTH), ("temperature_bias_k", "mean error", ANSWER)):
        left.plot(hours, [f.get(key, math.nan) for f in groups.values()], color=colour, label=words)
    left.set_title("zone temperature, K", fontsize=9)
    for load in loads(j.true_nto, j.outputs):
        right.plot(hours, [f[f"{load}_error"] for f in groups.values()], label=load)
    right.set_title("loads, RMSE over the spread of all hours", fontsize=9)
    right.set_ylim(bottom=0)
    for axis in (left, right):
        axis.axhline(0, color="#999999", linewidth=0.8)
        axis.set_xticks(range(0, 24, 3))
        axis.set_xlabel("hour", fontsize=8)
        axis.legend(fontsize=8, frameon=False)
        _quiet(axis)
    return figure


def _zones_chart(j: Judged) -> Figure:
    """Draw RMSE and mean error of every zone."""
    zones = list(j.by_zone)
    figure = Figure(figsize=(12, 0.24 * len(zones) + 1))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name, unit in zip(axes, ("temperature", "co2"), ("k", "ppm"), strict=True):
        rmse, bias = ([f.get(f"{name}_{what}_{unit}", math.nan) for f in j.by_zone.values()] for what in ("rmse", "bias"))
        axis.barh(range(len(zones)), rmse, color="#c9c9c9", label="RMSE")
        axis.scatter(bias, range(len(zones)), color=ANSWER, s=18, zorder=3, label="mean error")
        axis.axvline(0, color="#999999", linewidth=0.8)
        axis.set_title("temperature, K" if unit == "k" else "CO2, ppm", fontsize=9, loc="left")
        _quiet(axis)
    axes[0].set_yticks(range(len(zones)), [z.replace("_", " ") for z in zones])
    axes[0].invert_yaxis()
    axes[0].legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return figure


def _column(figure: Figure, n: int) -> list[Axes]:
    return list(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0])


def _quiet(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
