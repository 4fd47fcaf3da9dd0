"""The tables, as this setwise wants them; a change needs a migration in service/migrations/versions (a test compares them)."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
INSTANT = sa.BigInteger  # UTC milliseconds

READINGS = sa.Table(
    "readings",
    METADATA,
    sa.Column("variable", sa.String, primary_key=True),
    sa.Column("stamp", INSTANT, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("flag", sa.String, nullable=False),
    sa.Column("received", INSTANT, nullable=False),
    sqlite_with_rowid=False,  # the primary key is the table: half the disk, and every question here asks by (variable, stamp)
)
SUMMARIES = sa.Table(  # readings grown old: one row per variable, step and flag
    "summaries",
    METADATA,
    sa.Column("variable", sa.String, primary_key=True),
    sa.Column("stamp", INSTANT, primary_key=True),  # start of the step
    sa.Column("step_min", sa.Integer, primary_key=True),  # 15 or 60
    sa.Column("flag", sa.String, primary_key=True),
    sa.Column("mean", sa.Float, nullable=False),
    sa.Column("low", sa.Float, nullable=False),
    sa.Column("high", sa.Float, nullable=False),
    sa.Column("first", sa.Float, nullable=False),
    sa.Column("last", sa.Float, nullable=False),
    sa.Column("rise", sa.Float, nullable=False),  # what a counter rose from first to last, resets handled
    sa.Column("n", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
REFUSALS = sa.Table(
    "refusals",
    METADATA,
    sa.Column("reason", sa.String, primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("last", INSTANT, nullable=False),
    sa.Column("topic", sa.String, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
)
FORECASTS = sa.Table(
    "forecasts",
    METADATA,
    sa.Column("variable", sa.String, primary_key=True),
    sa.Column("stamp", INSTANT, primary_key=True),
    sa.Column("issued", INSTANT, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sqlite_with_rowid=False,
)
PLANS = sa.Table(
    "plans",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("issued", INSTANT, nullable=False, index=True),
    sa.Column("start", INSTANT, nullable=False),
    sa.Column("end", INSTANT, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("json", sa.Text, nullable=False),
)


def _documents(name: str) -> sa.Table:
    return sa.Table(
        name,
        METADATA,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("made", INSTANT, nullable=False, index=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
    )


CALIBRATIONS = _documents("calibrations")
FRONTS = _documents("fronts")
JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("started", INSTANT, nullable=False),
    sa.Column("ended", INSTANT),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("log", sa.Text, nullable=False),
    sa.Column("tail", sa.Text, nullable=False, server_default=""),  # the last lines the child wrote
    sa.Column("peak_mb", sa.Float),  # most memory of the child
    # The journal itself forbids two running jobs of a kind, whichever process asks.
    sa.Index(
        "one_running_per_kind",
        "kind",
        unique=True,
        sqlite_where=sa.text("outcome = 'running'"),
        postgresql_where=sa.text("outcome = 'running'"),
    ),
)
PUBLICATIONS = sa.Table(
    "publications",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("setting", sa.String, nullable=False),
    sa.Column("topic", sa.String, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("valid_until", INSTANT, nullable=False),
    sa.Column("made", INSTANT, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("settled", INSTANT),
    sa.Column("plan_id", sa.Integer),
    sa.Column("reason", sa.String, nullable=False),
    sa.Index("publications_by_setting", "setting", "id"),
)
REGIMES = sa.Table(  # how the building was run when: the proof of a saving stands on it
    "regimes",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("since", INSTANT, nullable=False),
    sa.Column("until", INSTANT, nullable=False, index=True),
    sa.Column("run", sa.String, nullable=False),  # plan, own or none
    sa.Column("assigned", sa.String, nullable=False),  # what a switchback trial asked for: plan, own or ''
    sa.Column("held", sa.String, nullable=False),  # settings a person held, comma-separated
    sa.Column("why", sa.String, nullable=False),
)
META = sa.Table("meta", METADATA, sa.Column("key", sa.String, primary_key=True), sa.Column("json", sa.Text, nullable=False))
AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without a gap
    sa.Column("at", INSTANT, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("target", sa.String, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("hash", sa.String, nullable=False),
)
OVERRIDES = sa.Table(
    "overrides",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("setting", sa.String, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("made", INSTANT, nullable=False),
    sa.Column("until", INSTANT, nullable=False),
    sa.Column("who", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("ended", INSTANT),
    sa.Column("ended_by", sa.String),
    sa.Index("overrides_by_setting", "setting", "id"),
)
ANSWERS = sa.Table(
    "answers",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("request", sa.String, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("json", sa.Text, nullable=False),
    sa.Column("made", INSTANT, nullable=False),
)
