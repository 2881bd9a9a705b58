"""One suite, two databases: a SQLite file, and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from migrator.models.session import Database
from tests.servers.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres(lab_root: Path) -> Iterator[Postgres]:
    with running_postgres(lab_root) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'migrator.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.fresh_database("contract") as url:
        yield url


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def rival(database: Database, empty_url: str) -> Iterator[Database]:
    """The same database as another process would open it."""
    rival = Database(empty_url)
    yield rival
    rival.close()


@pytest.fixture
def statements(database: Database) -> Iterator[list[str]]:
    """Every statement that is sent while the test runs."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)
