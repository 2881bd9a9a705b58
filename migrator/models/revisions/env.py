"""What Alembic runs for every command: the caller gives the open connection and ends its transaction."""

from __future__ import annotations

from alembic import context

from migrator.models.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
