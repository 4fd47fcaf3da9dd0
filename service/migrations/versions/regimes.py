"""How the building was run when gets a place: what savings are proven with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "regimes",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("since", "until")),
        *(sa.Column(name, sa.String, nullable=False) for name in ("run", "assigned", "held", "why")),
    )
    op.create_index("ix_regimes_until", "regimes", ["until"])


def downgrade() -> None:
    """Change them back; how the building was run has no place there."""
    op.drop_table("regimes")
