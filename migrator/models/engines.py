"""Engines: how we speak to SQLite and to PostgreSQL, and which URLs we take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from migrator.errors import InternalError, InvalidRequest

SQLITE_DRIVERS = ("sqlite", "sqlite+pysqlite")
POSTGRES_DRIVERS = ("postgresql", "postgresql+psycopg")
BUSY_TIMEOUT_S = 10.0
"""How long a writer waits for another process's transaction on SQLite."""
SCHEMA_WAIT_S = 60.0
"""How long to wait for another process that changes the schema."""
POOL_TIMEOUT_S = 10.0
POSTGRES_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,  # seconds
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "migrator",
    "options": "-c lock_timeout=5s -c statement_timeout=15s -c idle_in_transaction_session_timeout=60s",
}


def parse_url(url: str) -> URL:
    """Read and check a database URL.

    Raises:
        InvalidRequest: `bad_configuration`. The message never repeats the URL: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise _bad_url("it does not parse") from None  # the cause may quote a part of the password
    if parsed.drivername in POSTGRES_DRIVERS:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in SQLITE_DRIVERS:
        raise _bad_url(f"database kind '{parsed.drivername}' is unknown")
    if parsed.host or parsed.query:
        raise _bad_url("a SQLite URL is a path and nothing else: sqlite:////absolute or sqlite:///relative")
    if not parsed.database or parsed.database == ":memory:":
        raise _bad_url("SQLite needs a file, since several processes open the database")
    return parsed


def _bad_url(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"bad database URL: {reason}",
        code="bad_configuration",
        remedy="set MIGRATOR_DATABASE_URL to sqlite:////path or postgresql+psycopg://user:password@host/name",
    )


def describe(url: URL) -> str:
    """Name a database in messages, without user and password."""
    if url.drivername in SQLITE_DRIVERS:
        return f"SQLite file {url.database}"
    host = url.host or url.query.get("host") or "local socket"
    return f"PostgreSQL database '{url.database}' on {host}" + (f":{url.port}" if url.port else "")


def open_engine(url: URL) -> Engine:
    """Make the engine for everyday work; nothing is connected yet."""
    if url.drivername in SQLITE_DRIVERS:
        return _open_sqlite(
            url, foreign_keys=True, wait_s=BUSY_TIMEOUT_S, pool_size=10, max_overflow=20, pool_timeout=POOL_TIMEOUT_S
        )
    return create_engine(
        url,
        hide_parameters=True,
        json_serializer=_to_json,
        pool_size=10,
        max_overflow=20,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args=_postgres_arguments(url),
    )


def open_schema_engine(url: URL) -> Engine:
    """Make an engine for changing the schema; its one connection is closed after use.

    SQLite alters a table by making it anew, which foreign keys would take for deleting every row.
    """
    if url.drivername in SQLITE_DRIVERS:
        return _open_sqlite(url, foreign_keys=False, wait_s=SCHEMA_WAIT_S, poolclass=NullPool)
    arguments = _postgres_arguments(url)
    return create_engine(url, hide_parameters=True, poolclass=NullPool, connect_args=arguments)


def reading(engine: Engine) -> Engine:
    """Share the engine's connections for transactions that only read, all from one snapshot."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(only_reads=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def make_room(url: URL) -> None:
    """Make the directory of a SQLite file.

    Raises:
        InvalidRequest: `bad_configuration`, it cannot be made.
    """
    if url.drivername not in SQLITE_DRIVERS:
        return
    directory = Path(str(url.database)).absolute().parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            f"cannot make the directory {directory} for the database: {error.strerror}",
            code="bad_configuration",
            remedy="set MIGRATOR_DATABASE_URL to a path that can be written",
        ) from error


def _to_json(value: object) -> str:
    """Spell a value as JSON that both databases take."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InternalError(f"a value cannot be stored as JSON: {error}", code="database_misused") from error


def _postgres_arguments(url: URL) -> dict[str, Any]:
    return {name: value for name, value in POSTGRES_DEFAULTS.items() if name not in url.query}


def _open_sqlite(url: URL, *, foreign_keys: bool, wait_s: float, **pool: Any) -> Engine:
    engine = create_engine(
        url, hide_parameters=True, json_serializer=_to_json, connect_args={"timeout": wait_s}, **pool
    )

    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver says it too late and too weakly
        connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
        connection.execute("PRAGMA synchronous = FULL")  # who owns a workload must survive a power cut

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    """Take the write lock at once when writing: a reader that turns writer later may lose everything it did."""
    only_reads = bool(connection.get_execution_options().get("only_reads"))
    connection.exec_driver_sql(f"PRAGMA query_only = {int(only_reads)}")
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")
