"""The schema of a store: which revision it has, and the way from an older one to ours (alembic, service/migrations).

An older setwise refuses a newer store; `setwise downgrade` takes the tables back before it is installed again (docs/operate.md).
Either way is one transaction: a kill in the middle leaves the store as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa

from building.errors import StoreError

HEAD = "0003"
"""The revision this setwise works with."""
FIRST = "0001"
_FOLDER = Path(__file__).parent.parent / "migrations"


def revision(c: sa.Connection) -> str | None:
    """Return the revision of a store; None when there are no tables yet. Setwise 0.1 wrote none: its stores are the first."""
    looked = sa.inspect(c)
    if looked.has_table("alembic_version"):
        return c.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return FIRST if looked.has_table("meta") else None


def check(found: str | None, shown: str) -> None:
    """Raise StoreError for a revision that this setwise does not know: a newer one wrote it."""
    if found is not None and found > HEAD:
        reason = (
            f"it has schema {found}, this setwise knows up to {HEAD}: a newer setwise wrote it. Use that one, or put back the "
            "copy made before the upgrade ('setwise restore')."
        )
        raise StoreError(url=shown, reason=reason)


def earlier() -> list[str]:
    """Return the revisions before ours, oldest first."""
    from alembic.script import ScriptDirectory

    return [r.revision for r in ScriptDirectory(str(_FOLDER)).walk_revisions()][:0:-1]


def upgrade(c: sa.Connection, to: str = HEAD) -> None:
    """Bring the tables to revision `to`, inside the transaction of `c`."""
    from alembic import command  # only here: a store that is up to date needs no alembic

    config = _alembic(c)
    if revision(c) == FIRST and not sa.inspect(c).has_table("alembic_version"):
        command.stamp(config, FIRST)
    command.upgrade(config, to)


def downgrade(c: sa.Connection, to: str) -> None:
    """Take the tables back to revision `to`, inside the transaction of `c`; what that revision has no place for is gone."""
    from alembic import command

    command.downgrade(_alembic(c), to)


def _alembic(c: sa.Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = c
    return config
