"""One suite, three databases: one in memory, a SQLite file, and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from migrator.models.memory import MemoryDatabase
from migrator.models.session import Database
from tests.servers.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres(lab_root: Path) -> Iterator[Postgres]:
    with running_postgres(lab_root) as server:
        yield server


REAL = ("sqlite", pytest.param("postgresql", marks=pytest.mark.servers))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the database run on all three, tests of SQL on the two that speak it."""
    if "empty_url" in metafunc.fixturenames:
        about_sql = "statements" in metafunc.fixturenames or metafunc.definition.get_closest_marker("sql")
        metafunc.parametrize("empty_url", REAL if about_sql else ("memory", *REAL), indirect=True)


@pytest.fixture
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "memory":
        yield "memory:"
        return
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'migrator.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.fresh_database("contract") as url:
        yield url


@pytest.fixture
def database(empty_url: str) -> Iterator[Database]:
    database = MemoryDatabase() if empty_url == "memory:" else Database(empty_url)
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def rival(database: Database, empty_url: str) -> Iterator[Database]:
    """The same database as another process would open it."""
    if isinstance(database, MemoryDatabase):
        yield database
        return
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
