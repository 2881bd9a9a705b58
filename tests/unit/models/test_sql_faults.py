"""What each exception of the SQL library turns into; the contract suite provokes the common ones for real."""

from __future__ import annotations

import sqlite3

import pytest
from psycopg import errors
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from migrator.errors import (
    InternalError,
    InvalidRequest,
    MigratorError,
    OutcomeUnknown,
    PreconditionFailed,
    ResourceBusy,
    ResourceExhausted,
    Unavailable,
)
from migrator.models.faults import translate, translate_commit


def wrap(orig: Exception, kind: type[DBAPIError] = OperationalError) -> DBAPIError:
    return kind("SELECT secret", None, orig)


def sqlite(code: int, words: str = "it failed") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(words)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (PoolTimeout(), Unavailable, "database_unavailable"),
        (wrap(sqlite(sqlite3.SQLITE_BUSY)), ResourceBusy, "database_busy"),
        (wrap(sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT)), ResourceBusy, "database_busy"),
        (wrap(sqlite(sqlite3.SQLITE_FULL)), ResourceExhausted, "database_full"),
        (wrap(sqlite(sqlite3.SQLITE_CANTOPEN)), Unavailable, "database_unavailable"),
        (wrap(sqlite(sqlite3.SQLITE_READONLY)), Unavailable, "database_unavailable"),
        (wrap(sqlite(sqlite3.SQLITE_IOERR)), Unavailable, "database_unavailable"),
        (wrap(sqlite(sqlite3.SQLITE_ERROR, "no such table: jobs")), PreconditionFailed, "schema_missing"),
        (wrap(errors.SerializationFailure()), ResourceBusy, "database_busy"),
        (wrap(errors.DeadlockDetected()), ResourceBusy, "database_busy"),
        (wrap(errors.LockNotAvailable()), ResourceBusy, "database_busy"),
        (wrap(errors.DiskFull()), ResourceExhausted, "database_full"),
        (wrap(errors.TooManyConnections()), Unavailable, "database_unavailable"),
        (wrap(errors.AdminShutdown()), Unavailable, "database_unavailable"),
        (wrap(errors.QueryCanceled()), Unavailable, "database_unavailable"),
        (wrap(errors.OperationalError("connection refused")), Unavailable, "database_unavailable"),
        (wrap(errors.InterfaceError("closed"), InterfaceError), Unavailable, "database_unavailable"),
        (wrap(errors.UndefinedTable(), DBAPIError), PreconditionFailed, "schema_missing"),
        (wrap(errors.NumericValueOutOfRange(), DataError), InvalidRequest, "invalid_value"),
        (wrap(errors.NotNullViolation(), IntegrityError), InternalError, "database_misused"),
        (wrap(errors.InFailedSqlTransaction(), DBAPIError), InternalError, "database_misused"),
        (wrap(errors.UndefinedColumn(), DBAPIError), InternalError, "database_failed"),
    ],
    ids=lambda value: type(getattr(value, "orig", value)).__name__ if isinstance(value, Exception) else None,
)
def test_statements(error: DBAPIError, kind: type[MigratorError], code: str) -> None:
    fault = translate(error, "database X", write=True)
    assert type(fault) is kind
    assert fault.code == code
    assert "database X" in fault.message
    assert "secret" not in fault.message


@pytest.mark.parametrize(
    "orig",
    [
        errors.OperationalError("server closed the connection unexpectedly"),
        errors.ConnectionFailure(),
        errors.AdminShutdown(),
        errors.CrashShutdown(),
        errors.StatementCompletionUnknown(),
        sqlite(sqlite3.SQLITE_IOERR_FSYNC),
    ],
    ids=lambda orig: type(orig).__name__,
)
def test_a_commit_without_a_clear_answer_is_unknown(orig: Exception) -> None:
    fault = translate_commit(wrap(orig), "database X")
    assert type(fault) is OutcomeUnknown
    assert fault.code == "commit_unanswered"


@pytest.mark.parametrize(
    ("orig", "kind"),
    [
        (errors.SerializationFailure(), ResourceBusy),
        (errors.DiskFull(), ResourceExhausted),
        (sqlite(sqlite3.SQLITE_FULL), ResourceExhausted),
        (sqlite(sqlite3.SQLITE_BUSY), ResourceBusy),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_a_commit_that_is_refused_did_not_happen(orig: Exception, kind: type[MigratorError]) -> None:
    assert type(translate_commit(wrap(orig), "database X")) is kind
