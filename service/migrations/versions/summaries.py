"""Old readings become summaries; jobs remember memory and last lines; audit, overrides and answers get a place."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "summaries",
        sa.Column("variable", sa.String, primary_key=True),
        sa.Column("stamp", sa.BigInteger, primary_key=True),
        sa.Column("step_min", sa.Integer, primary_key=True),
        sa.Column("flag", sa.String, primary_key=True),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("mean", "low", "high", "first", "last", "rise")),
        sa.Column("n", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("jobs", sa.Column("tail", sa.Text, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("peak_mb", sa.Float))
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("who", "role", "action", "target")),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("hash", sa.String, nullable=False),
    )
    op.create_table(
        "overrides",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("setting", sa.String, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("ended_by", sa.String),
    )
    op.create_index("overrides_by_setting", "overrides", ["setting", "id"])
    op.create_table(
        "answers",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("request", sa.String, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        sa.Column("made", sa.BigInteger, nullable=False),
    )
    # setwise 0.1 reads this and refuses the store, instead of working on tables it does not know.
    op.execute("UPDATE meta SET json = '2' WHERE key = 'schema_version'")


def downgrade() -> None:
    """Change them back.

    Setwise 0.1 believes every reading that is kept, so those nobody should believe go. Summaries become readings again, one each:
    its mean, or what a counter showed first. Acts of people, kept answers and what a job said have no place there.
    """
    op.execute("DELETE FROM readings WHERE flag NOT IN ('good', 'clipped', 'late')")
    op.execute(
        "INSERT INTO readings (variable, stamp, value, flag, received) SELECT variable, stamp, "
        "CASE WHEN variable LIKE '%.counter' THEN min(first) ELSE sum(mean * n) / sum(n) END, 'good', stamp "
        "FROM summaries WHERE flag IN ('good', 'clipped', 'late') GROUP BY variable, stamp "
        "ON CONFLICT (variable, stamp) DO NOTHING"
    )
    for name in ("answers", "overrides", "audit", "summaries"):
        op.drop_table(name)
    for name in ("peak_mb", "tail"):
        op.drop_column("jobs", name)
    op.execute("UPDATE meta SET json = '1' WHERE key = 'schema_version'")
