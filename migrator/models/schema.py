"""Bring a database's schema to a revision, safely while another process does the same."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from migrator.errors import InternalError, PreconditionFailed
from migrator.models.engines import SCHEMA_WAIT_S

REVISIONS = Path(__file__).parent / "revisions"
UPGRADE_LOCK = 0x6D696772
"""Key of PostgreSQL's advisory lock: one process at a time changes the schema."""
_ALEMBIC = threading.Lock()
"""Alembic keeps the revision run under way in a module: one at a time in a process."""
WAL = "PRAGMA journal_mode = WAL"
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def upgrade(engine: Engine, place: str) -> None:
    """Bring the schema up to date; does nothing when it is.

    Raises:
        PreconditionFailed: `schema_newer`, a newer version of migrator has changed the schema.
    """
    if engine.dialect.name == "sqlite":
        _turn_on_wal(engine)
    with _ALEMBIC, engine.begin() as connection:
        _take_turn(connection)
        try:
            command.upgrade(revision_config(connection), "head")
        except CommandError as error:
            raise PreconditionFailed(
                f"the {place} has a schema that this version of migrator does not know: {error}",
                code="schema_newer",
                remedy="run the version of migrator that made it, or a later one",
            ) from error
        _check_references(connection, place)


def revision_config(connection: Connection) -> Config:
    """Configure Alembic for an open connection; its transaction is the caller's."""
    config = Config()
    config.set_main_option("script_location", str(REVISIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _take_turn(connection: Connection) -> None:
    """Wait until no other process changes the schema; on SQLite the begin of the transaction did."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SET LOCAL lock_timeout = '{SCHEMA_WAIT_S:.0f}s'"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})


def _turn_on_wal(engine: Engine) -> None:
    """Readers and a writer do not wait for each other with a write-ahead log; the file remembers the mode."""
    deadline = time.monotonic() + SCHEMA_WAIT_S
    while True:
        try:
            with closing(engine.raw_connection()) as connection:
                connection.cursor().execute(WAL)
                return
        except sqlite3.Error as error:
            # SQLite does not wait by itself for a process that changes the mode at the same moment.
            if error.sqlite_errorcode & 0xFF not in BUSY or time.monotonic() > deadline:
                raise OperationalError(WAL, None, error) from error
        time.sleep(0.02)


def _check_references(connection: Connection, place: str) -> None:
    if connection.dialect.name != "sqlite":
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchone()
    if broken is not None:
        raise InternalError(f"a schema revision would leave the {place} with dangling rows in table {broken[0]}")
