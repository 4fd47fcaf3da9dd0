"""Is this machine fit to serve? A look over everything the service will lean on, each as one finding; nothing is changed."""

from __future__ import annotations

import os
import shutil
import socket
import sys
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
from service.points import load_points

LEAST_FREE_MB = 500
BROKER_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what, whether it is as it should be, and what was found (or what to do)."""

    what: str
    is_good: bool
    fact: str


def examine(config: Config) -> list[Finding]:
    """Look at each thing the service needs; a fault in one does not hide the next."""
    looks: dict[str, Callable[[Config], str]] = {
        "python": _python,
        "building": _building,
        "time zone": _time_zone,
        "points": _points,
        "bundle": _bundle,
        "store": _store,
        "disk": _disk,
        "broker": _broker,
        "token": _token,
    }
    return [_finding(what, look, config) for what, look in looks.items()]


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
    from models.runtime.bundle import load_bundle
    from models.runtime.session import OnnxPredictor

    bundle = load_bundle(config.building.bundle)
    OnnxPredictor(bundle)
    building = _the_building(config)
    if bundle.building != building.name:
        raise BadBundleError(path=bundle.folder, reason=f"it is of '{bundle.building}', the building is '{building.name}'.")
    unknown = [n for n in bundle.inputs.names if n not in building.inputs]
    if unknown:
        raise BadBundleError(path=bundle.folder, reason=f"asks for {', '.join(unknown)}, which building.toml does not have.")
    return f"checksums good, {len(bundle.inputs)} inputs, {len(bundle.outputs)} outputs, made {bundle.created}"


def _state_folder(config: Config) -> Path:
    """Return the nearest folder that exists on the way to the store's file, or to the token when the store is elsewhere."""
    url = sa.make_url(config.store.url.get_secret_value())
    path = Path(url.database or ".") if url.drivername.startswith("sqlite") else config.api.token_file
    return next(p for p in path.absolute().parents if p.exists())


def _store(config: Config) -> str:
    url = sa.make_url(config.store.url.get_secret_value())
    if not url.drivername.startswith("sqlite"):
        try:
            with sa.create_engine(url).connect() as connection:
                connection.execute(sa.text("select 1"))
        except sa.exc.SQLAlchemyError as e:
            raise StoreError(url=url.render_as_string(), reason=str(e).splitlines()[0]) from e
        return url.render_as_string()
    folder = _state_folder(config)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(url=url, reason=f"{folder} is not writable for user {os.geteuid()}.")
    return f"{url.database}, {'there already' if Path(url.database or '').exists() else 'made at the first start'}"


def _disk(config: Config) -> str:
    folder = _state_folder(config)
    free_mb = shutil.disk_usage(folder).free // 1_000_000
    if free_mb < LEAST_FREE_MB:
        raise StoreError(url=folder, reason=f"{free_mb} MB free, at least {LEAST_FREE_MB} MB are wanted.")
    return f"{free_mb} MB free in {folder}"


def _broker(config: Config) -> str:
    host, port = config.mqtt.host, config.mqtt.port
    try:
        socket.create_connection((host, port), BROKER_TIMEOUT_S).close()
    except OSError as e:
        raise BrokerError(host=host, port=port, reason=f"nothing listens there ({e}). The service would wait for it.") from e
    return f"{host}:{port} answers"


def _token(config: Config) -> str:
    if config.api.is_open:
        return "the API is open: no token asked"
    file = config.api.token_file
    if not file.exists():
        return f"made at the first start ({file})"
    if file.stat().st_mode & 0o077:
        raise BadDescriptionError(file=file, reason=f"readable by others; chmod 600 {file}.")
    return str(file)
