"""What the service is told: service.toml and the environment, one frozen object.

`SETWISE_SECTION__KEY` in the environment wins over the file (`SETWISE_MQTT__HOST=broker`). A key nobody reads is an error with a
did-you-mean, in the file and in the environment alike. Relative paths are relative to the working directory.
docs/reference/config.md is generated from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_core import PydanticUndefined

from building.description import Strict, parse_strict, read_toml

PREFIX = "SETWISE_"


class BuildingSection(Strict):
    """Which building, and what crosses from the workshop: description, points, bundle."""

    name: str = Field(default="medium_office", description="a folder of buildings/, or the path of one like it")
    bundle: Path = Field(default=Path("bundles/medium_office"), description="folder of the metamodel bundle")
    points: Path | None = Field(default=None, description="points file; empty for points.toml in the building's folder")


class MqttSection(Strict):
    """The broker and how to talk to it."""

    host: str = Field(default="localhost", description="broker host")
    port: int = Field(default=1883, ge=1, le=65535, description="broker port (8883 is usual with TLS)")
    version: Literal["3.1.1", "5"] = Field(default="3.1.1", description="MQTT version")
    client_id: str = Field(default="", description="client id; empty for setwise-<building>. Two services must not share one")
    root: str = Field(default="setwise", description="first level of the service's own topics: <root>/<building>/status")
    username: str | None = Field(default=None, description="user name, if the broker asks for one")
    password: SecretStr | None = Field(default=None, description="password; better given in the environment")
    is_tls: bool = Field(default=False, description="encrypt; the broker's certificate is always verified")
    ca: Path | None = Field(default=None, description="PEM file of certificate authorities; empty for those of the system")
    cert: Path | None = Field(default=None, description="PEM file of the client certificate, if the broker asks for one")
    key: Path | None = Field(default=None, description="PEM file of the client key")
    keepalive_s: int = Field(
        default=30, ge=5, le=3600, description="the broker calls the service offline after 1.5 times this silence"
    )
    reconnect_min_s: float = Field(default=1.0, gt=0, description="first wait before connecting again; doubles at each failure")
    reconnect_max_s: float = Field(default=60.0, gt=0, description="longest wait before connecting again")
    session_expiry_h: float = Field(
        default=24.0, ge=0, description="MQTT 5: how long the broker keeps messages for an absent service"
    )


class StoreSection(Strict):
    """Where readings, plans, calibrations and the journal live."""

    url: SecretStr = Field(
        default=SecretStr("sqlite:///state/setwise.db"), description="SQLAlchemy URL: sqlite:///file or postgresql+psycopg://..."
    )
    keep_days: float = Field(default=800.0, ge=35, description="readings and forecasts older than this are deleted")


class IngestSection(Strict):
    """From message to row."""

    commit_s: float = Field(default=1.0, gt=0, le=60, description="a reading waits at most this long for its commit (real time)")
    commit_readings: int = Field(
        default=20, ge=1, description="commit at once when so many wait; at most the broker's max_inflight"
    )
    buffer_readings: int = Field(
        default=100_000, ge=100, description="most messages held in memory while the store refuses (disk full)"
    )
    max_future_s: float = Field(default=300.0, ge=0, description="a stamp further ahead of our clock is refused: from_future")
    max_age_h: float = Field(default=24 * 35.0, gt=0, description="an older stamp is refused: too_old")


class ApiSection(Strict):
    """The HTTP API and the dashboard."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 in a container")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 for any free one")
    token_file: Path = Field(
        default=Path("state/token"), description="bearer token, made at first start, readable by the owner only"
    )
    is_open: bool = Field(default=False, description="true serves without a token: only on a trusted host")


class JobsSection(Strict):
    """Calibration and planning, as child processes."""

    calibration: str = Field(
        default="sun 02:00",
        description="cadence: `every 6 h`, `every 90 min`, `daily 03:30`, `mon 03:30` (local time) or `never`",
    )
    plan: str = Field(
        default="daily 03:30", description="cadence of plan searches; an accepted calibration plans at once as well"
    )
    history_h: int = Field(default=672, ge=336, description="measured hours a calibration looks at, warm-up included")
    horizon_h: int = Field(default=168, ge=24, le=336, description="hours a plan covers")
    calibration_limit_s: float = Field(default=1800.0, gt=0, description="a calibration that runs longer is ended (real time)")
    plan_limit_s: float = Field(default=1800.0, gt=0, description="a plan search that runs longer is ended (real time)")
    threads: int = Field(default=1, ge=1, description="threads of the metamodel in a job")
    seed: int = Field(default=0, ge=0, description="seed of every job; same seed and data, same plan")


class GuardSection(Strict):
    """What may leave the service."""

    max_plan_age_h: float = Field(default=48.0, gt=0, description="an older plan is not followed: the own schedule takes over")
    max_data_age_h: float = Field(default=6.0, gt=0, description="without a reading for so long, the own schedule takes over")
    max_calibration_age_h: float = Field(default=24 * 60.0, gt=0, description="calibration older: the own schedule takes over")
    is_calibration_needed: bool = Field(default=True, description="false follows plans made with default parameters")
    frost_temperature: float = Field(default=8.0, ge=0, le=16, description="a zone measured colder forces heating on [degC]")


class PublishSection(Strict):
    """How setpoints leave."""

    mode: Literal["auto", "advise"] = Field(default="auto", description="auto publishes; advise only shows, in API and dashboard")
    step_min: int = Field(default=15, ge=1, le=60, description="setpoints are renewed at each such step")
    valid_for_min: int = Field(default=45, ge=2, le=1440, description="valid_until of a setpoint is its step plus this")
    acknowledge_min: float = Field(default=5.0, gt=0, description="a setpoint without echo for so long is marked unconfirmed")


class ClockSection(Strict):
    """What time it is."""

    source: Literal["system", "topic"] = Field(
        default="system", description="topic follows the UTC stamps on <root>/<building>/clock: accelerated replay and demo"
    )


class Config(Strict):
    """Everything the service is told. Frozen; secrets do not show in its text."""

    building: BuildingSection = BuildingSection()
    mqtt: MqttSection = MqttSection()
    store: StoreSection = StoreSection()
    ingest: IngestSection = IngestSection()
    api: ApiSection = ApiSection()
    jobs: JobsSection = JobsSection()
    guard: GuardSection = GuardSection()
    publish: PublishSection = PublishSection()
    clock: ClockSection = ClockSection()


def load_config(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read service.toml (if given) and the environment.

    Args:
        file: service.toml; None for defaults and environment only.
        environ: the environment; os.environ when None.

    Raises:
        UnknownKeyError: a key nobody reads. BadDescriptionError: a missing or malformed file, or a value that does not fit.
    """
    data = read_toml(file) if file is not None else {}
    if file is not None:
        parse_strict(Config, data, file)  # so that an error of the file names the file, not the environment
    data = {section: dict(keys) for section, keys in data.items()}
    changed = False
    for name, value in (os.environ if environ is None else environ).items():
        section, separator, key = name.removeprefix(PREFIX).partition("__")
        if name.startswith(PREFIX) and separator:
            data.setdefault(section.lower(), {})[key.lower()] = value
            changed = True
    return parse_strict(Config, data, f"the environment ({PREFIX}SECTION__KEY)" if changed else file or "the defaults")


def reference() -> str:
    """Return docs/reference/config.md: every section and key with its default, its variable and its meaning."""
    lines = [
        "# Configuration",
        "",
        "Generated by `python docs/generate.py config` from `service/config.py`; do not edit.",
        "",
        "`setwise serve --config service.toml`. The environment wins over the file. Unknown keys are errors.",
        "Times called *real time* run on the machine's clock, all others on the service's (a replay may run it faster).",
    ]
    for section, field in Config.model_fields.items():
        model: Any = field.annotation
        lines += ["", f"## [{section}]", "", (model.__doc__ or "").strip(), ""]
        lines += ["| key | default | environment | meaning |", "|---|---|---|---|"]
        for key, one in model.model_fields.items():
            default = one.default.get_secret_value() if isinstance(one.default, SecretStr) else one.default
            shown = "required" if default is PydanticUndefined else "" if default is None else f"`{_toml(default)}`"
            variable = f"`{PREFIX}{section.upper()}__{key.upper()}`"
            lines.append(f"| `{key}` | {shown} | {variable} | {one.description} |")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str | Path) else f"{value:g}" if isinstance(value, float) else str(value)
