"""Is this machine fit to serve? A look over everything the service will lean on, each as one finding; nothing is changed."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from building.description import Building, load_building
from building.errors import BadBundleError, BadDescriptionError, BrokerError, SetwiseError, StoreError
from building.sun import BEAM_COLUMNS
from building.variables import Role
from service.config import Config
from service.health import LEAST_FREE_MB, state_folder
from service.mqtt import count_in_flight
from service.points import load_points
from service.retention import backups
from service.store import schema

BROKER_TIMEOUT_S = 5.0
LARGEST_OFFSET_S = 5.0
"""A clock further off stamps readings in the wrong minute."""
_FOLLOWS = {"time zone": ("building",), "points": ("building",), "messages in flight": ("building", "broker")}
"""What cannot be looked at while something else is wrong: one cause, one fault."""
_NTP_EPOCH_S = 2_208_988_800  # 1970 in seconds since 1900


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, whether it is as it should be, and what was found (or what to do)."""

    what: str
    is_good: bool
    fact: str


def examine(config: Config) -> list[Finding]:
    """Look at each thing the service needs; a fault in one does not hide the next, but what only follows from it is not said."""
    looks: dict[str, Callable[[Config], str]] = {
        "python": _python,
        "building": _building,
        "time zone": _time_zone,
        "points": _points,
        "bundle": _bundle,
        "store": _store,
        "backups": _backups,
        "disk": _disk,
        "clock": _clock,
        "broker": _broker,
        "messages in flight": _in_flight,
        "token": _token,
    }
    found: dict[str, Finding] = {}
    for what, look in looks.items():
        if all(found[cause].is_good for cause in _FOLLOWS.get(what, ())):
            found[what] = _finding(what, look, config)
    return list(found.values())


def _finding(what: str, look: Callable[[Config], str], config: Config) -> Finding:
    try:
        return Finding(what, True, look(config))
    except (SetwiseError, OSError, ImportError) as e:
        return Finding(what, False, str(e))


def _python(_config: Config) -> str:
    found = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise BadDescriptionError(file="python", reason=f"{found}; setwise is tested with 3.11 to 3.13.")
    return found


def _the_building(config: Config) -> Building:
    return load_building(config.building.name)


def _building(config: Config) -> str:
    building = _the_building(config)
    building.own_schedule()
    return f"{building.facts.title}, {len(building.zones)} zones ({building.folder})"


def _time_zone(config: Config) -> str:
    zone = _the_building(config).site.time_zone
    try:
        return f"{zone}, now {pd.Timestamp.now(tz=zone):%Y-%m-%d %H:%M}"
    except (KeyError, ValueError) as e:
        raise BadDescriptionError(file="building.toml", reason=f"no time zone '{zone}' on this machine ({e}).") from e


def _points(config: Config) -> str:
    building = _the_building(config)
    points = load_points(building, config.building.points)
    wanted = [v.name for v in building.inputs.having(Role.WEATHER) if v.name not in BEAM_COLUMNS]
    missing = [n for n in wanted if n not in points.measured]
    mute = [n for n in building.settings.names if n not in points.commands]
    reason = "; ".join(
        [f"nobody measures {', '.join(missing)}"] * bool(missing) + [f"no command for {', '.join(mute)}"] * bool(mute)
    )
    if reason:
        raise BadDescriptionError(file=config.building.points or building.folder / "points.toml", reason=f"{reason}.")
    return f"{len(points.measured)} variables measured, {len(points.commands)} settings told"


def _bundle(config: Config) -> str:
    from models.runtime.session import OnnxPredictor
    from service.signing import opened

    with opened(config.building.bundle, config.bundle.public_key) as bundle:
        OnnxPredictor(bundle)
    building = _the_building(config)
    if bundle.building != building.name:
        raise BadBundleError(path=bundle.folder, reason=f"it is of '{bundle.building}', the building is '{building.name}'.")
    unknown = [n for n in bundle.inputs.names if n not in building.inputs]
    if unknown:
        raise BadBundleError(path=bundle.folder, reason=f"asks for {', '.join(unknown)}, which building.toml does not have.")
    return f"checksums good, {len(bundle.inputs)} inputs, {len(bundle.outputs)} outputs, made {bundle.created}"


def _store(config: Config) -> str:
    url = sa.make_url(config.store.url.get_secret_value())
    shown, file = url.render_as_string(), Path(url.database or "")
    if url.get_backend_name() == "sqlite":
        folder = state_folder(config)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreError(url=url, reason=f"{folder} is not writable for user {os.geteuid()}.")
        shown = str(file)
        if not file.exists():
            return f"{shown}, made at the first start"
        for one in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
            if one.exists() and not os.access(one, os.R_OK | os.W_OK):
                raise StoreError(
                    url=url, reason=f"{one} is not writable for user {os.geteuid()}; chown it to the service's user."
                )
    try:
        engine = sa.create_engine(url)
        with engine.connect() as c:
            if url.get_backend_name() == "sqlite":
                said = c.exec_driver_sql("PRAGMA quick_check").scalar()
                if said != "ok":
                    raise StoreError(url=shown, reason=f"damaged: {said}. Put back a backup: setwise restore FILE.")
            found = schema.revision(c)
        engine.dispose()
    except sa.exc.SQLAlchemyError as e:
        said = str(getattr(e, "orig", None) or e).splitlines()[0]
        raise StoreError(url=shown, reason=f"{said}. Move it away, or put back a backup: setwise restore FILE.") from e
    schema.check(found, shown)
    if found is None:
        return f"{shown}, its tables are made at the first start"
    return f"{shown}, schema {found}" + (
        "" if found == schema.HEAD else f", upgraded to {schema.HEAD} at the next start, after a copy"
    )


def _backups(config: Config) -> str:
    folder = config.store.backups
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        raise StoreError(url=folder, reason=f"{place} is not writable for user {os.geteuid()}: no backup can be made there.")
    if config.jobs.backup.strip().lower() == "never":
        return f"{folder}, but no job makes any (jobs.backup is never)"
    found = backups(folder)
    return (
        f"{len(found)} in {folder}, the last {found[-1].name}"
        if found
        else f"none in {folder} yet, made at '{config.jobs.backup}'"
    )


def _disk(config: Config) -> str:
    folder = state_folder(config)
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < LEAST_FREE_MB:
        raise StoreError(url=folder, reason=f"{free_mb} MB free, at least {LEAST_FREE_MB} MB are wanted.")
    return f"{free_mb} MB free in {folder}"


def _clock(config: Config) -> str:
    """Ask an NTP server when one is configured, else the system whether it is synchronised."""
    if server := config.clock.ntp_server:
        offset_s = ntp_offset_s(server)
        if abs(offset_s) > LARGEST_OFFSET_S:
            reason = f"it is {offset_s:+.1f} s from {server}; stamps and setpoints would be wrong. Start an NTP service."
            raise BadDescriptionError(file="the clock", reason=reason)
        return f"{offset_s:+.3f} s from {server}"
    try:
        asked = ["timedatectl", "show", "-p", "NTPSynchronized", "--value"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    if said == "no":
        raise BadDescriptionError(file="the clock", reason="not synchronised. Start an NTP service, such as systemd-timesyncd.")
    return "synchronised" if said == "yes" else "nobody here knows whether it is right; name an NTP server in clock.ntp_server"


def ntp_offset_s(server: str, port: int = 123) -> float:
    """Return how far the server's clock is ahead of ours [s]: one SNTP exchange (RFC 5905, client mode 3, version 4).

    Raises:
        BadDescriptionError: no answer, or one that is none.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
            line.settimeout(BROKER_TIMEOUT_S)
            sent_s = time.time()
            line.sendto(b"\x23" + 47 * b"\0", (server, port))
            answer = line.recv(512)
            back_s = time.time()
        taken_s, left_s = (s + f / 2**32 - _NTP_EPOCH_S for s, f in struct.iter_unpack("!II", answer[32:48]))
    except (OSError, struct.error, ValueError) as e:
        raise BadDescriptionError(file="[clock] ntp_server", reason=f"{server} does not answer as an NTP server ({e}).") from e
    if answer[1] == 0 or left_s < 0:
        raise BadDescriptionError(file="[clock] ntp_server", reason=f"{server} does not know the time itself.")
    return float((taken_s - sent_s) + (left_s - back_s)) / 2


def _broker(config: Config) -> str:
    host, port = config.mqtt.host, config.mqtt.port
    try:
        socket.create_connection((host, port), BROKER_TIMEOUT_S).close()
    except OSError as e:
        raise BrokerError(host=host, port=port, reason=f"nothing listens there ({e}). The service would wait for it.") from e
    return f"{host}:{port} answers"


def _in_flight(config: Config) -> str:
    wanted = config.ingest.commit_readings
    found = count_in_flight(config.mqtt, _the_building(config).name, wanted)
    if found < wanted:
        reason = (
            f"it sends {found} messages before the first is acknowledged, but a commit waits for {wanted} of them "
            f"(ingest.commit_readings): readings would come at {found / config.ingest.commit_s:g} a second at most. "
            f"Raise max_inflight_messages at the broker, or lower commit_readings to {found}."
        )
        raise BrokerError(host=config.mqtt.host, port=config.mqtt.port, reason=reason)
    return f"at least {found} at once, as many as a commit waits for"


def _token(config: Config) -> str:
    if config.api.is_open:
        return "the API is open: no token asked"
    file = config.api.token_file
    if not file.exists():
        return f"made at the first start ({file})"
    if file.stat().st_mode & 0o077:
        raise BadDescriptionError(file=file, reason=f"readable by others; chmod 600 {file}.")
    return str(file)
