"""Statements that write. Nothing is kept in memory between statements: a read after them asks the database."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, Delete, Update, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from migrator.models.tables import Base


def write(session: Session, statement: Update | Delete) -> int:
    """Execute a statement and return how many rows it met."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], result).rowcount


def insert_unless_taken(session: Session, table: type[Base], values: dict[str, Any]) -> bool:
    """Insert a row, waiting for whoever inserts a rival right now; the transaction stays usable.

    Returns:
        False when a unique key was taken, and nothing was inserted.
    """
    statement = _insert(session, table).values(values).on_conflict_do_nothing()
    return session.execute(statement.returning(literal_column("1"))).first() is not None


def insert_or_replace(session: Session, table: type[Base], values: dict[str, Any], *, key: str) -> None:
    """Insert a row, or set the given columns of the row that has the same key."""
    rest = {name: value for name, value in values.items() if name != key}
    session.execute(_insert(session, table).values(values).on_conflict_do_update(index_elements=[key], set_=rest))


def _insert(session: Session, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if session.get_bind().dialect.name == "postgresql" else sqlite.insert(table)
