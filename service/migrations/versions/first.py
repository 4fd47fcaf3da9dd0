"""The tables of setwise 0.1 (commit 2eeab7e), which knew no revisions. A store that has them is taken to be at this one."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "readings",
        sa.Column("variable", sa.String, primary_key=True),
        sa.Column("stamp", sa.BigInteger, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("flag", sa.String, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refusals",
        sa.Column("reason", sa.String, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
    )
    op.create_table(
        "forecasts",
        sa.Column("variable", sa.String, primary_key=True),
        sa.Column("stamp", sa.BigInteger, primary_key=True),
        sa.Column("issued", sa.BigInteger, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
    )
    op.create_index("ix_plans_issued", "plans", ["issued"])
    for name in ("calibrations", "fronts"):
        op.create_table(
            name,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("made", sa.BigInteger, nullable=False),
            sa.Column("state", sa.String, nullable=False),
            sa.Column("json", sa.Text, nullable=False),
        )
        op.create_index(f"ix_{name}_made", name, ["made"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
    )
    running = sa.text("outcome = 'running'")
    op.create_index("one_running_per_kind", "jobs", ["kind"], unique=True, sqlite_where=running, postgresql_where=running)
    op.create_table(
        "publications",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("setting", sa.String, nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("valid_until", sa.BigInteger, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("settled", sa.BigInteger),
        sa.Column("plan_id", sa.Integer),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_index("publications_by_setting", "publications", ["setting", "id"])
    meta = op.create_table("meta", sa.Column("key", sa.String, primary_key=True), sa.Column("json", sa.Text, nullable=False))
    op.bulk_insert(meta, [{"key": "schema_version", "json": "1"}])
