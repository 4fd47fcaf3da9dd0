"""A list of points as engineers keep one, a CSV, becomes points.toml; without a list, a template with every variable.

    variable,topic,unit,value,time
    core_retail_air_temperature,bms/ahu1/rat,degF,value,ts
    set/heating_setpoint,bms/ahu1/htg_sp,degC

The first two columns are needed; the others are keys of a point (service/points.py), empty where they do not apply. A variable
with ``set/`` before it is a command: where that setting is told to the BMS.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from building.description import Building
from building.errors import BadDescriptionError, did_you_mean
from building.sun import BEAM_COLUMNS
from building.variables import Role, Variable
from service.points import Command, Point, load_points

COMMAND = "set/"
LEAST = ("variable", "topic")
KEYS = tuple(k for k in Point.model_fields if k != "topic")
EDGE_UNITS = {"temperature": "degC", "power": "kW", "humidity_ratio": "g/kg", "pressure": "hPa", "share": "%"}
"""The unit a template proposes, where it is not the inside unit: what such sensors usually send."""

Row = dict[str, Any]


def read_list(file: Path) -> list[Row]:
    """Read a list of points.

    Raises:
        BadDescriptionError: not such a CSV, a column nobody reads, a variable or topic missing or twice; the line is named.
    """
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise BadDescriptionError(file=file, reason=f"not a CSV file in UTF-8 ({e}).") from e
    head = [c.strip().lower() for c in lines[0]] if lines else []
    known = (*LEAST, *KEYS)
    unknown = [c for c in head if c not in known]
    if not set(LEAST) <= set(head) or unknown:
        what = f"nobody reads the column '{unknown[0]}'" if unknown else "the first line must name the columns variable and topic"
        raise BadDescriptionError(file=file, reason=f"{what}; known columns: {', '.join(known)}.")
    rows: list[Row] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(c.strip() for c in cells):
            continue
        row = {c: v.strip() for c, v in zip(head, cells, strict=False) if v.strip()}
        if not set(LEAST) <= row.keys() or len(cells) > len(head):
            raise BadDescriptionError(file=file, reason=f"line {number} needs a variable and a topic, and {len(head)} cells.")
        if row["variable"] in (r["variable"] for r in rows):
            raise BadDescriptionError(file=file, reason=f"line {number}: '{row['variable']}' stands there twice.")
        rows.append(row | {"line": number, "file": file})
    return rows


def write_points(building: Building, listed: Sequence[Row]) -> dict[str, int]:
    """Write points.toml into the building's folder: the listed points, and what is not listed as a template behind ``#``.

    Without a list every line stands, on topics ``setwise/<building>/<variable>``, as `setwise replay` plays them.

    Returns:
        Counts: points listed, points missing.

    Raises:
        BadDescriptionError and its kin, UnknownUnitError: a name that is no variable, a unit that is none of its quantity; then
            nothing is written.
    """
    path = building.folder / "points.toml"
    given = {r["variable"]: r for r in listed}
    wanted = [
        v
        for v in (*building.inputs.having(Role.WEATHER, Role.OCCUPANCY, Role.SETTING), *building.outputs)
        if v.name not in BEAM_COLUMNS
    ]
    _check_names(building, wanted, listed)
    lines = [
        f"# Where each variable of {building.name} arrives, and where its settings are told. Format: docs/connect.md.",
        "# What stands behind a # is not measured yet: give it a topic and a unit, or leave it out.",
        "",
        f"building = {json.dumps(building.name)}",
        "",
        "[points]",
    ]
    lines += [_point(building, v, given.get(v.name), bool(listed)) for v in wanted]
    lines += ["", "[commands]"]
    lines += [_command(building, v, given.get(f"{COMMAND}{v.name}"), bool(listed)) for v in building.settings]
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        found = load_points(building, partial)
    except BadDescriptionError:
        partial.unlink()
        raise
    partial.replace(path)
    measured = [v for v in wanted if v.name in found.measured]
    return {"points_listed": len(listed), "points_missing": len(wanted) - len(measured)}


def _check_names(building: Building, wanted: Sequence[Variable], listed: Sequence[Row]) -> None:
    """Raise BadDescriptionError for a name that is none of the building's, naming the line."""
    known = [*(v.name for v in wanted), *(f"{COMMAND}{n}" for n in building.settings.names)]
    for row in listed:
        if row["variable"] not in known:
            hint = did_you_mean(row["variable"], known)
            raise BadDescriptionError(file=row["file"], reason=f"line {row['line']}: '{row['variable']}' is no variable.{hint}")


def _point(building: Building, v: Variable, row: Row | None, is_list: bool) -> str:
    if row is None:
        unit = v.quantity.unit if v.role is Role.SETTING else EDGE_UNITS.get(v.quantity.name, v.quantity.unit)
        mark = "# " if is_list else ""
        row = {"topic": f"setwise/{building.name}/{v.name}", "value": "value", "time": "time", "unit": unit}
    else:
        mark = ""
    return f"{mark}{v.name} = {_table({k: row[k] for k in ('topic', *KEYS) if k in row})}"


def _command(building: Building, v: Variable, row: Row | None, is_list: bool) -> str:
    mark = "# " if is_list and row is None else ""
    row = row or {"topic": f"setwise/{building.name}/set/{v.name}", "unit": v.quantity.unit}
    return f"{mark}{v.name} = {_table({k: row[k] for k in Command.model_fields if k in row})}"


def _table(keys: Row) -> str:
    """Return an inline TOML table; cells that are numbers or truths are written as such."""
    return "{ " + ", ".join(f"{k} = {_cell(k, v)}" for k, v in keys.items()) + " }"


def _cell(key: str, text: str) -> str:
    if key in ("shift_min", "low", "high", "tolerance"):
        return text
    if key in ("is_counter", "retain"):
        return text.lower()
    return json.dumps(text, ensure_ascii=False)
