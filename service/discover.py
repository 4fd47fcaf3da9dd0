"""Listen to a broker and propose a points file: who says what, in which unit (guessed, and asked), for which variable.

Works on what `service/points.py` reads: plain numbers, JSON, Home Assistant (discovery messages and state topics) and Sparkplug
B; so on the layouts of OpenEMS, Home Assistant, Sparkplug and our own. Every unit is written as "?" with the guess beside it: the
file is refused until a person has confirmed each.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from building.description import Building
from building.errors import BadReadingError
from building.variables import Role, Variable
from service import payloads, sparkplug
from service.config import MqttSection
from service.mqtt import listen
from service.quality import units_that_fit

LEAST_SCORE = 0.5
"""Share of a variable's words that a topic must have."""
_SAMPLES = 50

_TIME_KEYS = ("time", "timestamp", "ts", "t", "datetime", "date", "lastupdate", "last_seen", "epoch")
_UNIT_KEYS = ("unit", "units", "uom", "unit_of_measurement", "engunit")
_UNIT_NAMES = {
    "℃": "degC", "°C": "degC", "C": "degC", "celsius": "degC", "degc": "degC", "°F": "degF", "F": "degF", "fahrenheit": "degF",
    "degf": "degF", "percent": "%", "kw": "kW", "w": "W", "pa": "Pa", "m³/h": "m3/h", "W/m²": "W/m2", "kwh": "kWh", "PPM": "ppm",
}  # fmt: skip
_WORDS = {
    "temp": "temperature", "tmp": "temperature", "t": "temperature", "oat": "outdoor air temperature", "outside": "outdoor",
    "ambient": "outdoor", "external": "outdoor", "zat": "air temperature", "rat": "return air temperature",
    "sat": "supply air temperature", "room": "zone", "zn": "zone", "hum": "humidity", "rh": "humidity", "pwr": "power",
    "elec": "electricity", "activepower": "electricity", "sp": "setpoint", "setpt": "setpoint", "clg": "cooling",
    "cool": "cooling", "htg": "heating", "heat": "heating", "occ": "occupancy", "people": "occupancy", "ghi": "irradiance",
    "dni": "direct normal irradiance", "dhi": "diffuse horizontal irradiance", "solar": "irradiance", "carbon": "co2",
    "carbondioxide": "co2", "baro": "pressure", "barometer": "pressure", "bottom": "bot", "middle": "mid",
    "meter": "electricity", "total": "facility", "building": "facility", "grid": "facility",
}  # fmt: skip
_MEANINGLESS = {"air", "zone", "sensor", "state", "value", "homeassistant", "edge", "channel", "spbv1", "0", "ddata", "ndata"}


@dataclass
class Seen:
    """What came on one topic."""

    payloads: list[bytes] = field(default_factory=list)
    n: int = 0
    is_retained: bool = False


@dataclass(frozen=True)
class Candidate:
    """One number that somebody publishes.

    Attributes:
        topic, format, value, time, time_format, unit_path: as in a points file.
        words: what its names say.
        values: those seen.
        stated: the unit that the sender or its discovery message states; empty when nobody does.
        why: where the statement comes from.
    """

    topic: str
    format: str
    value: str | None = None
    time: str | None = None
    time_format: str = "iso"
    unit_path: str | None = None
    words: str = ""
    values: tuple[float, ...] = ()
    stated: str = ""
    why: str = ""


def hear(config: MqttSection, seconds: float) -> dict[str, Seen]:
    """Listen to everything for some seconds. Raises BrokerError."""
    seen: dict[str, Seen] = {}

    def keep(topic: str, payload: bytes, is_retained: bool) -> None:
        one = seen.setdefault(topic, Seen())
        one.n += 1
        one.is_retained |= is_retained
        if len(one.payloads) < _SAMPLES:
            one.payloads.append(payload)

    listen(config, ["#"], seconds, keep)
    return seen


def candidates(seen: Mapping[str, Seen]) -> list[Candidate]:
    """Return every number in what was heard, each with the path that leads to it."""
    found: list[Candidate] = []
    announced = _announced(seen)
    host = sparkplug.Host(time.monotonic)
    metrics: dict[tuple[str, str], list[sparkplug.Metric]] = {}
    # Births before data: retained or not, what they name explains the rest.
    for topic in sorted(seen, key=lambda t: ("NBIRTH" not in t, "DBIRTH" not in t, t)):
        one = seen[topic]
        if sparkplug.parts(topic) is not None:
            for payload in one.payloads:
                try:
                    for m in host.hear(topic, payload, 0).metrics:
                        metrics.setdefault((m.source, m.name), []).append(m)
                except BadReadingError:
                    continue
        elif not topic.endswith("/config") and topic.rpartition("/")[2] not in _UNIT_KEYS:
            found += _plain_or_json(topic, one, seen, announced)
    for (source, name), told in metrics.items():
        numbers = tuple(float(m.value) for m in told if isinstance(m.value, float | bool))
        group, edge, *device = source.split("/", 2)
        topic = "/".join((sparkplug.NAMESPACE, group, "DDATA" if device else "NDATA", edge, *device))
        if numbers and not name.startswith(("Node Control/", "bdSeq", "Device Control/")):
            unit = told[0].unit
            why = "the birth's engUnit says so" if unit else ""
            found.append(Candidate(topic, "sparkplug", name, words=f"{source} {name}", values=numbers, stated=unit, why=why))
    return found


def propose(building: Building, seen: Mapping[str, Seen]) -> str:
    """Return the text of a points file: what was matched, by sender; what nobody asks for and who is missing, as comments.

    Args:
        building: whose variables are looked for.
        seen: what `hear` heard.
    """
    variables = [v for v in (*building.inputs, *building.outputs) if v.role is not Role.PARAMETER]
    everyone = candidates(seen)
    pairs = sorted(
        ((_score(v, c), v, c) for v in variables for c in everyone),
        key=lambda p: (-p[0], p[1].name, p[2].topic, p[2].value or ""),
    )
    taken: dict[int, Variable] = {}
    given: set[str] = set()
    for score, variable, candidate in pairs:
        if score >= LEAST_SCORE and variable.name not in given and id(candidate) not in taken:
            taken[id(candidate)] = variable
            given.add(variable.name)
    lines = [
        "# Proposed by `setwise points discover`. Look at each point: is it this variable, and this unit? Write the unit in",
        '# place of "?"; the file is refused until every one is confirmed.',
        f'building = "{building.name}"',
    ]
    for group in sorted({_group(c.topic) for c in everyone}):
        mine = [c for c in everyone if _group(c.topic) == group]
        lines += ["", f"# ---- {_shown(group)}"]
        for c in sorted((c for c in mine if id(c) in taken), key=lambda c: taken[id(c)].name):
            lines += ["", *_entry(taken[id(c)], c)]
        for c in sorted((c for c in mine if id(c) not in taken), key=lambda c: (c.topic, c.value or "")):
            best = max(variables, key=lambda v: (_score(v, c), v.name), default=None)
            near = f"; nearest: {best.name}" if best is not None and _score(best, c) > 0 else ""
            lines.append(f"# nobody's: {_shown(c.topic)} {_shown(c.value or '')} = {c.values[-1]:g}{near}".replace("  ", " "))
    missing = [v.name for v in variables if v.name not in given]
    if missing:
        lines += ["", "# Heard from nobody:", *(f"#   {name}" for name in missing)]
    return "\n".join(lines) + "\n"


def _entry(variable: Variable, c: Candidate) -> list[str]:
    lines = [f"[points.{variable.name}]", f"topic = {_shown(c.topic)}", f'format = "{c.format}"']
    if c.value is not None:
        lines.append(f"value = {_shown(c.value)}")
    if c.time is not None:
        lines.append(f"time = {_shown(c.time)}")
        if c.time_format != "iso":
            lines.append(f'time_format = "{c.time_format}"')
    low, high = min(c.values), max(c.values)
    seen = f"{low:g}" if low == high else f"{low:g} .. {high:g}"
    if c.unit_path is not None:
        return [*lines, f"unit_path = {_shown(c.unit_path)}  # each message names its unit; seen {seen}"]
    guess, why = _unit(variable, c)
    return [*lines, f'unit = "?"  # guessed {guess}, because {why}; seen {seen}']


def _unit(variable: Variable, c: Candidate) -> tuple[str, str]:
    """Guess the unit of a candidate, with the reason."""
    q = variable.quantity
    stated = _UNIT_NAMES.get(c.stated, c.stated)
    if stated and (stated == q.unit or stated in q.edges):
        return stated, c.why
    middle = statistics.median(c.values)
    odd = f"the sender states {_shown(c.stated)}, which is no unit of {q.name}; " if c.stated else ""
    if variable.low <= middle <= variable.high:
        return q.unit, f"{odd}the values fit {q.name} in {q.unit}"
    fitting = units_that_fit(q, middle, variable.low, variable.high, q.unit)
    if fitting:
        return fitting[0], f"{odd}the values fit {q.name} in {' or '.join(fitting)} only"
    return "nothing", f"{odd}the values fit {q.name} in no unit"


def _score(variable: Variable, c: Candidate) -> float:
    """Return how well names and values speak for a variable, 0 to about 1.2."""
    wanted, said = _words(variable.name), _words(c.words or f"{c.topic} {c.value or ''}")
    heavy = wanted - _MEANINGLESS or wanted
    hit = len(heavy & said) / len(heavy)
    if hit == 0:
        return 0.0
    extra = len(said - wanted - _MEANINGLESS) / (len(said) + 1)
    unit, _ = _unit(variable, c)
    fits = 0.1 if unit != "nothing" else -0.6
    stated = _UNIT_NAMES.get(c.stated, c.stated)
    if stated and stated != variable.quantity.unit and stated not in variable.quantity.edges:
        fits -= 0.5
    return hit + 0.1 * len(wanted & said & _MEANINGLESS) / len(wanted) + fits - 0.3 * extra


def _words(text: str) -> set[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    found: set[str] = set()
    for word in re.split(r"[^a-zA-Z0-9]+", spaced.lower()):
        found |= set(_WORDS.get(word, word).split())
        parted = re.fullmatch(r"([a-z]+)(\d+)", word)
        if parted and word != "co2":  # zone1, zn_1 and zn1 are one
            found |= {_WORDS.get(parted[1], parted[1]), parted[2]}
    return found - {""}


def _group(topic: str) -> str:
    levels = topic.split("/")
    return "/".join(levels[: max(1, min(2, len(levels) - 1))])


def _plain_or_json(
    topic: str, one: Seen, seen: Mapping[str, Seen], announced: Mapping[str, list[dict[str, str]]]
) -> list[Candidate]:
    """Return the numbers of one topic that is not Sparkplug."""
    states = [p.decode("utf-8", "replace").strip() for p in one.payloads]
    numbers = tuple(x for s in states if (x := payloads.number_in(s, is_share=True)) is not None)
    told = announced.get(topic, [])
    base, _, last = topic.rpartition("/")
    is_ha = (
        any(s.lower() in payloads.NOT_KNOWN[:2] for s in states)
        or bool(told)
        or (last == "state" and f"{base}/last_changed" in seen)
    )
    if numbers:
        unit, why = next(((t["unit"], "the discovery message says so") for t in told if t.get("unit")), ("", ""))
        beside = seen.get(f"{base}/unit_of_measurement")
        if not unit and beside is not None and beside.payloads:
            unit, why = (
                beside.payloads[-1].decode("utf-8", "replace").strip().strip('"'),
                "the topic unit_of_measurement beside it says so",
            )
        words = " ".join([topic, *(t.get("name", "") for t in told), *(t.get("device_class", "") for t in told)])
        return [Candidate(topic, "home_assistant" if is_ha else "number", words=words, values=numbers, stated=unit, why=why)]
    samples = []
    for payload in one.payloads:
        try:
            samples.append(payloads.read_json(payload))
        except ValueError:
            continue
    if not samples:
        return []
    leaves = list(_leaves(samples[-1]))
    clock = next(((p, f) for p, v in leaves if (f := _time_format(p, v)) is not None), None)
    found = []
    for path, value in leaves:
        number = payloads.number_in(value, is_share=True)
        if number is None or (clock is not None and path == clock[0]) or _time_format(path, value) is not None:
            continue
        way = payloads.path_of(path)
        read = (_value_at(s, way) for s in samples)
        values = tuple(x for v in read if (x := payloads.number_in(v, is_share=True)) is not None)
        near = path.rpartition(".")[0]
        unit_path = next(
            (
                p
                for p, v in leaves
                if isinstance(v, str) and p.rpartition(".")[0] == near and p.rpartition(".")[2].lower() in _UNIT_KEYS
            ),
            None,
        )
        named = next((t for t in told if t.get("path") == path), {})
        if not _matters(path, len(leaves)):
            continue
        words = " ".join([topic, path, named.get("name", ""), named.get("device_class", "")])
        why = "the discovery message says so" if named.get("unit") else ""
        at_time, how = clock if clock is not None else (None, "iso")
        found.append(Candidate(topic, "json", path, at_time, how, unit_path, words, values, named.get("unit", ""), why))
    return found


def _matters(path: str, n_leaves: int) -> bool:
    """Say whether a path may lead to a measurement: battery, signal and counters of messages are of the sender itself."""
    last = path.rpartition(".")[2].lower()
    return n_leaves == 1 or last not in {
        "battery",
        "linkquality",
        "rssi",
        "snr",
        "voltage",
        "seq",
        "sequence",
        "id",
        "version",
        "uptime",
    }


def _announced(seen: Mapping[str, Seen]) -> dict[str, list[dict[str, str]]]:
    """Return what Home Assistant's discovery messages say, by state topic: unit, name, device_class, path in the payload."""
    found: dict[str, list[dict[str, str]]] = {}
    for topic, one in seen.items():
        if not topic.endswith("/config") or not one.payloads:
            continue
        try:
            data = payloads.read_json(one.payloads[-1])
        except ValueError:
            continue
        if not isinstance(data, dict):
            continue
        parts = data.get("components", data.get("cmps"))
        common = {k: v for k, v in data.items() if k not in ("components", "cmps")}
        for part in parts.values() if isinstance(parts, dict) else [{}]:
            if isinstance(part, dict):
                _announce({**common, **part}, found)
    return found


def _announce(said: Mapping[str, Any], found: dict[str, list[dict[str, str]]]) -> None:
    state = str(said.get("state_topic", said.get("stat_t", "")))
    state = state.replace("~", str(said.get("~", "")))
    if not state:
        return
    template = str(said.get("value_template", said.get("val_tpl", "")))
    path = re.search(r"value_json((?:\.\w+|\[['\"]?\w+['\"]?\])+)", template)
    facts = {
        "unit": said.get("unit_of_measurement", said.get("unit_of_meas", "")),
        "name": said.get("name", ""),
        "device_class": said.get("device_class", said.get("dev_cla", "")),
        "path": re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", path[1]).lstrip(".") if path else "",
    }
    found.setdefault(state, []).append({k: str(v) for k, v in facts.items() if v})


def _leaves(data: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Yield every scalar of JSON data with its path."""
    if isinstance(data, dict):
        for key, value in data.items():
            step = f'["{key}"]' if re.search(r"[.\[\]]", str(key)) else str(key)
            if '"' not in str(key) and str(key):
                yield from _leaves(value, f"{path}.{step}" if path and not step.startswith("[") else path + step)
    elif isinstance(data, list):
        for i, value in enumerate(data[:20]):
            name = value.get("name") if isinstance(value, dict) else None
            is_named = isinstance(name, str) and name and not re.search(r"[\[\]=]", name)
            yield from _leaves(value, f"{path}[name={name}]" if is_named else f"{path}[{i}]")
    elif path:
        yield path, data


def _time_format(path: str, value: Any) -> str | None:
    """Return the format of a time stamp; None where there is none."""
    key = path.rpartition(".")[2].lower()
    if isinstance(value, str):
        try:
            payloads.instant_ms(value, "iso", "UTC")
        except (ValueError, OverflowError):
            return None
        return "iso"
    if key not in _TIME_KEYS or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return "ms" if 1e12 < value < 1e13 else "s" if 1e9 < value < 1e10 else None


def _value_at(data: Any, path: payloads.Path) -> Any:
    try:
        return payloads.at(data, path)
    except LookupError:
        return None


def _shown(text: str) -> str:
    """Return foreign text as one TOML string; TOML takes neither a bare DEL nor half a surrogate pair."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False).replace("\x7f", "\\u007f")
