"""Runs the migrations over the connection of ``ensure_database``, as mosaic_owner."""

from alembic import context
from sqlalchemy import text

owner = context.config.attributes["connection"]
owner.execute(text("CREATE SCHEMA IF NOT EXISTS ops"))
context.configure(connection=owner, version_table_schema="ops")
with context.begin_transaction():
    context.run_migrations()
