"""What bytes say: numbers, truths and instants in the payloads that buildings send. Strict: a doubtful text is no number.

Texts are numbers only as a meter would print them: no digit groups (`1_000`, `21,5`), no `0x10`, no `inf`. Stamps are ISO 8601
with a time of day, or seconds or milliseconds since 1970; `01/07/2026` is refused, two continents read it differently.

A path leads through JSON: `zones.0.t` or `zones[0].t`; `["room.1"].t` where a key holds a dot; `values[name=T].value` takes the
item of a list whose `name` is T; `samples[*].v` takes every item, one reading each.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from string import whitespace
from typing import Any
from zoneinfo import ZoneInfo

EVERY = "*"
Step = str | tuple[str, str]  # a key or an index; or (key, value) of the item wanted
Path = tuple[Step, ...]

NOT_KNOWN = ("unavailable", "unknown", "none", "")
"""What Home Assistant says of a state it does not know. Not a number, and what was said before holds no longer."""

_STEP = re.compile(r'\.?(?:\[(\*)\]|\[(\d+)\]|\["([^"]*)"\]|\[([^\[\]=]+)=([^\[\]]*)\]|([^.\[\]]+))')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TRUTH = {"true": 1.0, "false": 0.0, "on": 1.0, "off": 0.0, "open": 1.0, "closed": 0.0}
_LEAST_ISO = len("2026-01-07T15")
_NO_PATH = LookupError("no path")
_DECODE = json.JSONDecoder().decode


@lru_cache(maxsize=4096)
def path_of(text: str) -> Path:
    """Return the steps of a path. Raises ValueError where it is none."""
    steps: list[Step] = []
    place = 0
    while place < len(text):
        found = _STEP.match(text, place)
        if found is None or (place == 0 and text[0] == "."):
            raise ValueError(f"'{text}' is no path: '{text[place:]}' cannot be read")
        star, index, quoted, key, wanted, plain = found.groups()
        steps.append((key, wanted) if key is not None else next(s for s in (star, index, quoted, plain) if s is not None))
        place = found.end()
    if not steps:
        raise ValueError("a path needs a key")
    if steps.count(EVERY) > 1:
        raise ValueError(f"'{text}' has more than one [*]")
    return tuple(steps)


def read_json(payload: bytes) -> Any:
    """Return the data of a JSON payload. Raises ValueError."""
    try:
        if payload[:1] == b"{" and payload[1:2] != b"\0":  # UTF-8, as RFC 8259 wants it: no need to look which encoding it is
            return _DECODE(payload.decode("utf-8", "surrogatepass"))
        return json.loads(payload)
    except RecursionError as e:
        raise ValueError("nested too deep") from e


def at(data: Any, path: Path) -> Any:
    """Return what stands at `path`. Raises LookupError."""
    for step in path:
        if isinstance(data, dict) and step in data:
            data = data[step]
        elif isinstance(step, tuple):
            key, wanted = step
            items = [i for i in data if isinstance(i, dict) and str(i.get(key)) == wanted] if isinstance(data, list) else []
            data = items[0] if items else _nothing(step)
        elif isinstance(data, list) and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            _nothing(step)
    return data


def every(data: Any, paths: tuple[Path | None, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield what stands at `paths`, once for every item that the first path's [*] leads through (once, without one).

    A path that shares the first one's way up to its [*] is followed inside the same item; others start at the top. Where a path
    is None or leads nowhere there is a LookupError in its place: each item stands or falls alone.
    """
    first = paths[0]
    if first is None or EVERY not in first:
        yield tuple([_found(data, p) for p in paths])
        return
    way = first[: first.index(EVERY)]
    n = len(way) + 1
    try:
        items = at(data, way)
    except LookupError as e:
        yield tuple(e for _ in paths)
        return
    if not isinstance(items, list):
        yield tuple(LookupError(f"no list before [{EVERY}]") for _ in paths)
        return
    for item in items:
        yield tuple(_found(item, p[n:]) if p is not None and p[:n] == first[:n] else _found(data, p) for p in paths)


def number_in(given: Any, is_share: bool) -> float | None:
    """Return the number that `given` (JSON data, or text) is; None where it is none.

    Args:
        given: a number, a truth or a text.
        is_share: true and false, on and off count as 1 and 0; elsewhere they are no number.
    """
    if isinstance(given, bool):
        return float(given) if is_share else None
    if isinstance(given, str):
        text = given.strip(whitespace)  # str.strip() alone takes control characters away as well
        if is_share and text.lower() in _TRUTH:
            return _TRUTH[text.lower()]
        if not _NUMBER.fullmatch(text):
            return None
        number = float(text)
    elif isinstance(given, int | float):
        try:
            number = float(given)
        except OverflowError:
            return None
    else:
        return None
    return number if math.isfinite(number) else None


def instant_ms(given: Any, time_format: str, time_zone: str) -> int:
    """Return an instant as UTC milliseconds.

    Args:
        given: JSON data or text.
        time_format: ``iso``, ``s`` or ``ms`` (since 1970).
        time_zone: of ISO stamps that carry none.

    Raises:
        ValueError: not that; or a local time that its day has twice, or not at all (daylight saving).
    """
    if time_format != "iso":
        number = number_in(given, is_share=False)
        if number is None or abs(number) > 1e15:
            raise ValueError(f"{given!r} is no number of {time_format} since 1970")
        return round(number * (1000 if time_format == "s" else 1))
    if not isinstance(given, str) or len(given) < _LEAST_ISO:
        raise ValueError(f"{given!r} is no ISO 8601 date and time")
    stamp = datetime.fromisoformat(given)
    if stamp.tzinfo is None:
        first = stamp.replace(tzinfo=ZoneInfo(time_zone), fold=0)
        if first.utcoffset() != first.replace(fold=1).utcoffset():
            raise ValueError(f"{given!r} is there twice or not at all in {time_zone}; send the offset")
        stamp = first
    return round(stamp.timestamp() * 1000)


def _found(data: Any, path: Path | None) -> Any:
    if path is None:
        return _NO_PATH
    try:
        return at(data, path)
    except LookupError as e:
        return e


def _nothing(step: Step) -> Any:
    raise LookupError(f"nothing at '{step if isinstance(step, str) else '='.join(step)}'")
