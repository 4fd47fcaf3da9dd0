"""What the service is told: service.toml and the environment, one frozen object.

`SETWISE_SECTION__KEY` in the environment wins over the file (`SETWISE_MQTT__HOST=broker`). A secret may lie in a file of its own:
`SETWISE_MQTT__PASSWORD_FILE=/run/secrets/mqtt` (also `SETWISE_STORE__URL_FILE`). A key nobody reads is an error with a
did-you-mean, in the file and in the environment alike. Relative paths are relative to the working directory.
docs/reference/config.md is generated from here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_core import PydanticUndefined

from building.description import Strict, parse_strict, read_toml
from building.errors import BadDescriptionError
from calibration.observation import USUAL_RULES

PREFIX = "SETWISE_"

Mode = Literal["watch", "advise", "auto", "maintenance"]


class BuildingSection(Strict):
    """Which building, and what crosses from the workshop: description, points, bundle."""

    name: str = Field(default="medium_office", description="a folder of buildings/, or the path of one like it")
    bundle: Path = Field(default=Path("bundles/medium_office"), description="folder of the metamodel bundle")
    points: Path | None = Field(default=None, description="points file; empty for points.toml in the building's folder")


class BundleSection(Strict):
    """Whose bundles are believed."""

    public_key: str = Field(
        default="", description="base64 of the ed25519 key that bundles must be signed with (`setwise sign`); empty asks for none"
    )


class MqttSection(Strict):
    """The broker and how to talk to it."""

    host: str = Field(default="localhost", description="broker host")
    port: int = Field(default=1883, ge=1, le=65535, description="broker port (8883 is usual with TLS)")
    version: Literal["3.1.1", "5"] = Field(default="3.1.1", description="MQTT version")
    client_id: str = Field(default="", description="client id; empty for setwise-<building>. Two services must not share one")
    root: str = Field(default="setwise", description="first level of the service's own topics: <root>/<building>/status")
    discovery: str = Field(
        default="",
        pattern=r"^[^+#]*$",
        description="first level of Home Assistant's discovery topics, usually homeassistant; empty announces no device",
    )
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
    inflight: int = Field(
        default=20_000,
        ge=1,
        le=65_535,
        description="MQTT 5: most messages the broker may send before the first is acknowledged (receive maximum)",
    )
    session_expiry_h: float = Field(
        default=24.0, ge=0, description="MQTT 5: how long the broker keeps messages for an absent service"
    )


class StoreSection(Strict):
    """Where readings, plans, calibrations and the journal live."""

    url: SecretStr = Field(
        default=SecretStr("sqlite:///state/setwise.db"), description="SQLAlchemy URL: sqlite:///file or postgresql+psycopg://..."
    )
    raw_days: float = Field(
        default=40.0,
        ge=1,
        description="readings older than this become means of 15 min (with least, most, first, last and count)",
    )
    quarter_days: float = Field(default=400.0, ge=1, description="means of 15 min older than this become hourly")
    keep_days: float = Field(
        default=800.0, ge=35, description="readings older than this are deleted, however coarse; setpoints sent too"
    )
    forecast_days: float = Field(
        default=400.0, ge=1, description="forecasts and predictions of hours older than this are deleted"
    )
    backups: Path = Field(default=Path("state/backups"), description="folder of the backups that the backup job makes")
    backups_kept: int = Field(default=3, ge=1, description="so many of its newest backups stay there")


class IngestSection(Strict):
    """From message to row."""

    commit_s: float = Field(default=1.0, gt=0, le=60, description="a reading waits at most this long for its commit (real time)")
    commit_readings: int = Field(
        default=20,
        ge=1,
        description="commit at once when so many wait; at most the broker's max_inflight_messages (20 in mosquitto)",
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
    is_open: bool = Field(
        default=False, description="true asks no token of readers and operators: only on a trusted host. Admins always need one"
    )
    cert: Path | None = Field(default=None, description="PEM file of the service's certificate and its chain; given: HTTPS only")
    key: Path | None = Field(default=None, description="PEM file of the certificate's key")
    trusted_proxies: str = Field(
        default="", description="addresses of reverse proxies whose X-Forwarded-For and -Proto are believed, comma-separated"
    )
    failed_attempts: int = Field(
        default=10, ge=1, description="wrong tokens one address may send; each more doubles its wait, 1 s to 5 min (real time)"
    )
    max_body_kb: int = Field(default=2048, ge=1, description="a larger request is refused with 413")
    request_limit_s: float = Field(
        default=30.0, gt=0, description="a client that takes longer to send its request or to take the answer is cut off"
    )
    max_connections: int = Field(default=200, ge=4, description="connections at a time; more are answered 503")


class JobsSection(Strict):
    """Calibration, planning, compaction and backup, as child processes."""

    calibration: str = Field(
        default="0 2 * * sun",
        description="cadence: five cron fields in local time (minute hour day month weekday), such as `30 3 * * *`, or `never`",
    )
    plan: str = Field(default="30 3 * * *", description="cadence of plan searches; an accepted calibration plans at once as well")
    weather: str = Field(default="20 */3 * * *", description="cadence of asking the weather service; never without [weather] url")
    compaction: str = Field(default="10 4 * * *", description="cadence of compaction and forgetting, see [store]")
    backup: str = Field(default="40 4 * * *", description="cadence of backups, see [store]")
    savings: str = Field(default="20 5 * * *", description="cadence of the savings report, see [savings]")
    history_h: int = Field(
        default=672,
        ge=USUAL_RULES.least_h,
        le=USUAL_RULES.window_h,
        description="measured hours a calibration looks at, warm-up included; it refuses fewer and does not look at more",
    )
    horizon_h: int = Field(default=168, ge=24, le=336, description="hours a plan covers")
    calibration_limit_s: float = Field(default=1800.0, gt=0, description="a calibration that runs longer is ended (real time)")
    plan_limit_s: float = Field(default=1800.0, gt=0, description="a plan search that runs longer is ended (real time)")
    upkeep_limit_s: float = Field(
        default=3600.0,
        gt=0,
        description="a compaction, backup, savings report or weather job that runs longer is ended (real time)",
    )
    memory_limit_mb: float = Field(
        default=450.0, gt=50, description="a job with more resident memory is ended; the service itself takes about 200"
    )
    threads: int = Field(default=1, ge=1, description="threads of the metamodel in a job")
    seed: int = Field(default=0, ge=0, description="seed of every job; same seed and data, same plan")


class GuardSection(Strict):
    """What may leave the service."""

    max_plan_age_h: float = Field(default=48.0, gt=0, description="an older plan is not followed: the own schedule takes over")
    max_data_age_h: float = Field(default=6.0, gt=0, description="without a reading for so long, the own schedule takes over")
    max_calibration_age_h: float = Field(default=24 * 60.0, gt=0, description="calibration older: the own schedule takes over")
    max_disagreement_k: float = Field(
        default=3.0,
        gt=0,
        description="zones further from what was predicted, in the mean over the last hours under the plan: the own schedule",
    )
    least_on_min: float = Field(default=10.0, ge=0, le=180, description="a system that was switched on stays on for so long")
    least_off_min: float = Field(default=10.0, ge=0, le=180, description="a system that was switched off stays off for so long")
    is_calibration_needed: bool = Field(default=True, description="false follows plans made with default parameters")
    max_override_h: float = Field(default=168.0, gt=0, description="longest time a person may override a setting for")
    changeover: Literal["none", "heating", "cooling", "calendar"] = Field(
        default="none",
        description="what the plant can do: none (both at any time), heating or cooling only, or by calendar (see the next two)",
    )
    cooling_from: str = Field(default="05-01", pattern=r"^\d\d-\d\d$", description="first day with cooling, month-day (calendar)")
    cooling_until: str = Field(default="09-30", pattern=r"^\d\d-\d\d$", description="last day with cooling, month-day (calendar)")
    frost_temperature: float = Field(default=8.0, ge=0, le=16, description="a zone measured colder forces heating on [degC]")


class SavingsSection(Strict):
    """How savings are proven: by a switchback trial, or, without one, by what was measured before and after."""

    trial: Literal["none", "day", "week"] = Field(
        default="none",
        description="day or week: such blocks run the plan or the building's own schedule, as a coin with `seed` decides; "
        "each pair of weeks has every day of the week on both sides",
    )
    start: str = Field(
        default="", pattern=r"^(\d{4}-\d\d-\d\d)?$", description="first day of the trial, local date; a trial needs one"
    )
    weeks: int = Field(default=8, ge=2, le=104, multiple_of=2, description="length of the trial; even")
    seed: int = Field(default=0, ge=0, description="of the coin; another seed in mid-trial is another trial")
    washout_h: int = Field(
        default=4,
        ge=0,
        le=48,
        description="hours after a switch that count on neither side: the first hours of every day (day, at most 12), "
        "or the first whole days of every stretch (week)",
    )
    confidence: float = Field(default=0.9, ge=0.5, le=0.99, description="two-sided, of the interval of a saving")


class WeatherSection(Strict):
    """Where the weather forecast comes from, besides MQTT and the API: a service in Open-Meteo's format."""

    url: SecretStr = Field(
        default=SecretStr(""),
        description="asked by the weather job; {latitude} and {longitude} are the site's; may hold a key. Empty asks nobody",
    )
    timeout_s: float = Field(default=20.0, gt=0, le=120, description="longest wait for an answer (real time)")


class PublishSection(Strict):
    """How setpoints leave."""

    mode: Mode = Field(
        default="auto",
        description="at the first start: watch (nothing leaves), advise (a plan leaves once a person confirms it), auto, "
        "maintenance (setpoints released). Later PUT /v1/mode decides, and stays over a restart",
    )
    heartbeat_s: float = Field(
        default=60.0, ge=0.5, description="beats on <root>/<building>/heartbeat this often while setpoints are kept up"
    )
    step_min: int = Field(default=15, ge=1, le=60, description="setpoints are renewed at each such step")
    valid_for_min: int = Field(default=45, ge=2, le=1440, description="valid_until of a setpoint is its step plus this")
    acknowledge_min: float = Field(default=5.0, gt=0, description="a setpoint without echo for so long is marked unconfirmed")


class ClockSection(Strict):
    """What time it is."""

    source: Literal["system", "topic"] = Field(
        default="system", description="topic follows the UTC stamps on <root>/<building>/clock: accelerated replay and demo"
    )
    ntp_server: str = Field(
        default="", description="asked by `setwise doctor` how far the clock is off; empty asks the system only"
    )


class LogSection(Strict):
    """What the service writes to stderr: a line when something changes, none while all goes on."""

    format: Literal["text", "json"] = Field(default="text", description="json: one JSON object a line, for log collectors")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severe line that is written")


class Config(Strict):
    """Everything the service is told. Frozen; secrets do not show in its text."""

    building: BuildingSection = BuildingSection()
    bundle: BundleSection = BundleSection()
    mqtt: MqttSection = MqttSection()
    store: StoreSection = StoreSection()
    ingest: IngestSection = IngestSection()
    api: ApiSection = ApiSection()
    jobs: JobsSection = JobsSection()
    guard: GuardSection = GuardSection()
    publish: PublishSection = PublishSection()
    savings: SavingsSection = SavingsSection()
    weather: WeatherSection = WeatherSection()
    clock: ClockSection = ClockSection()
    log: LogSection = LogSection()


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
            section, key = section.lower(), key.lower()
            if key.endswith("_file") and _is_secret(section, key.removesuffix("_file")):
                key, value = key.removesuffix("_file"), _read_secret(name, Path(value))
            data.setdefault(section, {})[key] = value
            changed = True
    source = f"the environment ({PREFIX}SECTION__KEY)" if changed else file or "the defaults"
    config = parse_strict(Config, data, source)
    if 24 * config.store.raw_days < config.ingest.max_age_h:
        reason = (
            f"[store] raw_days: {config.store.raw_days:g} days are less than [ingest] max_age_h, {config.ingest.max_age_h:g} h: "
            "readings would still come in for hours that were compacted."
        )
        raise BadDescriptionError(file=source, reason=reason)
    if reason := _why_no_trial(config.savings):
        raise BadDescriptionError(file=source, reason=f"[savings] {reason}")
    return config


def _why_no_trial(told: SavingsSection) -> str:
    if told.trial == "none":
        return ""
    try:
        date.fromisoformat(told.start)
    except ValueError:
        return f"start: '{told.start}' is no date; a trial needs its first day, such as 2026-01-05."
    if told.trial == "day" and told.washout_h > 12:
        return f"washout_h: {told.washout_h} h of every day would count on neither side; at most 12 with blocks of a day."
    return ""


def _is_secret(section: str, key: str) -> bool:
    model: Any = Config.model_fields[section].annotation if section in Config.model_fields else None
    field = None if model is None else model.model_fields.get(key)
    return field is not None and "SecretStr" in str(field.annotation)


def _read_secret(variable: str, file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BadDescriptionError(file=variable, reason=f"the secret in {file} cannot be read: {e}.") from e


def reference() -> str:
    """Return docs/reference/config.md: every section and key with its default, its variable and its meaning."""
    lines = [
        "# Configuration",
        "",
        "Generated by `python docs/generate.py config` from `service/config.py`; do not edit.",
        "",
        "`setwise serve --config service.toml`. The environment wins over the file. Unknown keys are errors.",
        "A secret (password, store URL) may lie in a file of its own: `SETWISE_MQTT__PASSWORD_FILE=/run/secrets/mqtt`.",
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
