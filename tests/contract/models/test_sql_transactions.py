"""What a transaction does when something goes wrong, and in whose words it says so."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from migrator.errors import (
    InternalError,
    InvalidRequest,
    OutcomeUnknown,
    ResourceBusy,
    ResourceExhausted,
    Unavailable,
)
from migrator.models import engines
from migrator.models.session import Database
from migrator.models.values import Host
from tests.contract.models.samples import a_job, moment, race
from tests.servers.postgres import Postgres
from tests.servers.postgres_proxy import lossy_proxy

ALPHA, BETA = Host("alpha", moment(0)), Host("beta", moment(0))


def names(database: Database) -> list[str]:
    with database.transaction(write=False) as tx:
        return [host.name for host in tx.hosts.list()]


def test_an_error_takes_everything_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.transaction() as tx:
        tx.hosts.record(ALPHA)
        tx.jobs.add(a_job())
        raise ZeroDivisionError
    assert names(database) == []
    with database.transaction(write=False) as tx:
        assert tx.jobs.list() == []


@pytest.mark.parametrize("value", [object(), float("nan")], ids=["object", "nan"])
def test_what_is_not_json_takes_everything_back(database: Database, value: object) -> None:
    with pytest.raises(InternalError) as caught, database.transaction() as tx:
        tx.hosts.record(ALPHA)
        tx.jobs.add(a_job(failure={"not": value}))
    assert caught.value.code == "database_misused"
    assert "JSON" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.__cause__ is not None
    assert names(database) == []


def test_a_reading_transaction_refuses_to_write(database: Database) -> None:
    with pytest.raises(InternalError) as caught, database.transaction(write=False) as tx:
        tx.hosts.record(ALPHA)
    assert caught.value.code == "database_misused"
    with database.transaction() as tx:
        tx.hosts.record(BETA)
    assert names(database) == ["beta"], "a connection that has read may write later"


def test_a_reading_transaction_may_run_inside_a_writing_one(database: Database) -> None:
    with database.transaction() as tx:
        tx.hosts.record(ALPHA)
        assert names(database) == []
    assert names(database) == ["alpha"]


def test_closing_twice_and_using_it_again(database: Database) -> None:
    database.close()
    database.close()
    with database.transaction() as tx:
        tx.hosts.record(ALPHA)
    assert names(database) == ["alpha"]


@pytest.mark.sql
class TestWaiting:
    """A lock that is not obtained in time is somebody else's work, not a broken database."""

    @pytest.fixture
    def impatient(self, empty_url: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
        monkeypatch.setattr(engines, "BUSY_TIMEOUT_S", 0.2)
        url = empty_url + "&options=-c%20lock_timeout%3D200ms" if "?" in empty_url else empty_url
        impatient = Database(url)
        yield impatient
        impatient.close()

    def test_busy(self, database: Database, impatient: Database) -> None:
        with database.transaction() as tx:
            tx.jobs.add(a_job())
        with database.transaction() as tx:
            tx.jobs.request_cancel("mig-1", moment(1))
            with pytest.raises(ResourceBusy) as caught, impatient.transaction() as late:
                late.jobs.request_cancel("mig-1", moment(2))
        assert caught.value.code == "database_busy"
        with impatient.transaction() as again:
            assert again.jobs.request_cancel("mig-1", moment(3)).updated_at == moment(1)


class TestSqlite:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "migrator.db"

    @pytest.fixture
    def sqlite(self, file: Path) -> Iterator[Database]:
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        yield database
        database.close()

    def test_is_durable_and_does_not_block_readers(self, sqlite: Database, statements: list[str], file: Path) -> None:
        settings: dict[str, object] = {}

        def look(connection: sqlite3.Connection, *_rest: object) -> None:
            for name in ("journal_mode", "synchronous", "foreign_keys"):
                settings[name] = connection.execute(f"PRAGMA {name}").fetchone()[0]

        event.listen(sqlite._writer, "connect", look)
        sqlite.close()
        with sqlite.transaction() as tx:
            tx.hosts.record(ALPHA)
        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
        assert "BEGIN IMMEDIATE" in statements

    def test_makes_its_directory(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/a/b/migrator.db")
        database.upgrade()
        assert names(database) == []
        database.close()

    def test_a_directory_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidRequest, match="file") as caught:
            Database(f"sqlite:///{tmp_path}/file/migrator.db").upgrade()
        assert caught.value.code == "bad_configuration"

    def test_a_file_that_is_no_database(self, file: Path) -> None:
        file.write_text("Dear diary, today I was opened by a database engine. " * 40)
        with pytest.raises(Unavailable, match=str(file)) as caught:
            Database(f"sqlite:///{file}").upgrade()
        assert caught.value.code == "database_unavailable"

    def test_a_full_disk(self, sqlite: Database) -> None:
        def shrink(connection: sqlite3.Connection, *_rest: object) -> None:
            connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the size it has now instead

        event.listen(sqlite._writer, "connect", shrink)
        sqlite.close()
        with pytest.raises(ResourceExhausted) as caught, sqlite.transaction() as tx:
            tx.hosts.record(replace(ALPHA, facts={"much": "x" * 1_000_000}))
        assert caught.value.code == "database_full"
        assert names(sqlite) == []


@pytest.mark.servers
class TestPostgres:
    @pytest.fixture
    def url(self, postgres: Postgres) -> Iterator[str]:
        with postgres.fresh_database("transactions") as url:
            yield url

    @pytest.fixture
    def database(self, url: str) -> Iterator[Database]:
        database = Database(url)
        database.upgrade()
        yield database
        database.close()

    def test_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        database = Database(f"postgresql+psycopg://me:hunter2@/prod?host={tmp_path}")
        with pytest.raises(Unavailable, match="'prod'") as caught, database.transaction(write=False) as tx:
            tx.jobs.list()
        with pytest.raises(Unavailable) as again:
            database.upgrade()
        for error in (caught.value, again.value):
            assert error.code == "database_unavailable"
            assert error.remedy
            assert "hunter2" not in f"{error!r} {error} {error.__cause__!r} {error.__cause__}"

    def test_a_connection_that_dies_under_way(self, database: Database, postgres: Postgres) -> None:
        with pytest.raises(Unavailable), database.transaction() as tx:
            tx.hosts.record(ALPHA)
            self.kill_clients(postgres)
            tx.hosts.record(BETA)
        assert names(database) == [], "the next transaction has a fresh connection"

    def test_connections_that_die_while_idle_do_no_harm(self, database: Database, postgres: Postgres) -> None:
        assert names(database) == []
        self.kill_clients(postgres)
        assert names(database) == []

    def test_a_deadlock_has_one_victim_that_may_try_again(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.jobs.add(a_job("a"))
            tx.jobs.add(a_job("b"))
        both_hold = threading.Barrier(2, timeout=10)

        def cross(number: int) -> str:
            first, second = ("a", "b") if number else ("b", "a")
            with database.transaction() as tx:
                tx.jobs.request_cancel(first, moment(1))
                both_hold.wait()
                tx.jobs.request_cancel(second, moment(1))
                return first

        winners, losers = race(2, cross)
        assert len(winners) == 1
        assert [(type(error), error.code) for error in losers] == [(ResourceBusy, "database_busy")]

    def test_a_commit_whose_answer_is_lost(
        self, database: Database, url: str, postgres: Postgres, tmp_path: Path
    ) -> None:
        with lossy_proxy(tmp_path, postgres.sockets) as proxy:
            remote = Database(replace(postgres, sockets=tmp_path).url("transactions"))
            with pytest.raises(OutcomeUnknown) as caught, remote.transaction() as tx:
                tx.hosts.record(ALPHA)
                proxy.swallow_commit.set()
            proxy.swallow_commit.clear()
            assert caught.value.code == "commit_unanswered"
            assert names(remote) == ["alpha"], "it had happened, and the next transaction can see that"
            remote.close()

    def test_a_value_it_cannot_store(self, database: Database) -> None:
        with pytest.raises(InvalidRequest) as caught, database.transaction() as tx:
            tx.hosts.record(Host("nul\0", moment(0)))
        assert caught.value.code == "invalid_value"

    def kill_clients(self, postgres: Postgres) -> None:
        with postgres.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'transactions'")
