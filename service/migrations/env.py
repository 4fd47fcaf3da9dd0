"""Alembic runs this; service/store/schema.py gives it the connection, inside a transaction."""

from alembic import context

from service.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
