"""What an exception of the SQL library means to a caller."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
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

REMEDY = "see that the database runs and that MIGRATOR_DATABASE_URL is right"

SQLITE_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
POSTGRES_BUSY = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock, lock timeout."""
POSTGRES_FULL = "53100"
POSTGRES_NO_TABLE = "42P01"
POSTGRES_READ_ONLY = "25006"
POSTGRES_ABORTED = "25P02"


def translate(error: SQLAlchemyError, place: str, *, write: bool) -> MigratorError:
    """Map an error of a statement or a connection.

    Args:
        error: What the library raised.
        place: The database, for the message.
        write: Whether the transaction was allowed to write.
    """
    if isinstance(error, PoolTimeout):
        return Unavailable(f"no free connection to the {place}", code="database_unavailable", remedy="try again")
    if not isinstance(error, DBAPIError):
        reason = str(error).splitlines()[0]
        return InternalError(f"the {place} was asked in a wrong way: {reason}", code="database_misused")
    reason = _reason(error)
    if _is_busy(error):
        return ResourceBusy(f"the {place} is busy: {reason}", code="database_busy", remedy="try again")
    if _is_full(error):
        return ResourceExhausted(f"the {place} has no room: {reason}", code="database_full", remedy="free disk space")
    if _has_no_table(error):
        remedy = "start `migrator server` or `migrator controller` once: they bring the schema up to date"
        return PreconditionFailed(f"the {place} has no tables: {reason}", code="schema_missing", remedy=remedy)
    if isinstance(error, DataError):
        return InvalidRequest(f"the {place} cannot store this: {reason}", code="invalid_value")
    if isinstance(error, IntegrityError) or _is_misuse(error, write=write):
        return InternalError(f"the {place} refused: {reason}", code="database_misused")
    if isinstance(error, OperationalError) or error.connection_invalidated or _sqlstate(error) is None:
        return Unavailable(f"the {place} does not answer: {reason}", code="database_unavailable", remedy=REMEDY)
    return InternalError(f"the {place} failed: {reason}", code="database_failed")


def translate_commit(error: SQLAlchemyError, place: str) -> MigratorError:
    """Map an error of the commit itself: if no clear refusal came back, nobody knows whether it happened."""
    if isinstance(error, DBAPIError) and _lost_answer(error):
        return OutcomeUnknown(
            f"the {place} did not say whether it committed: {_reason(error)}",
            code="commit_unanswered",
            remedy="read again before doing anything else",
        )
    return translate(error, place, write=True)


def _lost_answer(error: DBAPIError) -> bool:
    if _sqlite_code(error) is not None:
        # The commit record may be in the log although the disk refused to flush it.
        return _sqlite_code(error) == sqlite3.SQLITE_IOERR
    state = _sqlstate(error)
    return error.connection_invalidated or state is None or state.startswith(("08", "57P")) or state == "40003"


def _reason(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _sqlite_code(error: DBAPIError) -> int | None:
    """SQLite's primary result code; its extended codes carry it in the low byte."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _is_busy(error: DBAPIError) -> bool:
    return _sqlite_code(error) in SQLITE_BUSY or _sqlstate(error) in POSTGRES_BUSY


def _is_full(error: DBAPIError) -> bool:
    return _sqlite_code(error) == sqlite3.SQLITE_FULL or _sqlstate(error) == POSTGRES_FULL


def _has_no_table(error: DBAPIError) -> bool:
    return _sqlstate(error) == POSTGRES_NO_TABLE or "no such table" in str(error.orig)


def _is_misuse(error: DBAPIError, *, write: bool) -> bool:
    """Writing in a reading transaction, or going on after a refused statement: bugs of ours."""
    if not write and _sqlite_code(error) == sqlite3.SQLITE_READONLY:
        return True
    return _sqlstate(error) in (POSTGRES_READ_ONLY, POSTGRES_ABORTED)
