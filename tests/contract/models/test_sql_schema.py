"""The revisions make the schema that the mapped classes describe, on both databases, up and down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, event, inspect, text

from migrator.errors import PreconditionFailed
from migrator.models.engines import open_schema_engine, parse_url
from migrator.models.phase import TERMINAL, Phase
from migrator.models.schema import revision_config
from migrator.models.session import Database
from migrator.models.tables import FINISHED, Base
from tests.contract.models.samples import a_job

pytestmark = pytest.mark.sql
TABLES = {
    "jobs",
    "steps",
    "hosts",
    "containers",
    "workloads",
    "checkpoints",
    "examinations",
    "cordons",
    "hearing",
    "displacements",
    "schedules",
    "schedule_runs",
}


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    engine = open_schema_engine(parse_url(empty_url))
    yield engine
    engine.dispose()


def indexes(connection: Connection) -> dict[str, str]:
    """Every index by name, as the database spells it: Alembic does not compare the conditions of partial ones."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    found = {str(name): str(definition) for name, definition in connection.execute(text(query))}
    found.pop("alembic_version_pkc", None)
    return found


def test_revisions_and_mapped_classes_agree(database: Database, engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_comparison_would_notice(database: Database, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX ix_jobs_unfinished"))
        connection.execute(text("ALTER TABLE hosts ADD COLUMN extra INTEGER"))
    with engine.connect() as connection:
        assert len(compare_metadata(MigrationContext.configure(connection), Base.metadata)) == 2


def test_partial_indexes_agree(database: Database, engine: Engine) -> None:
    with engine.connect() as connection:
        by_revisions = indexes(connection)
    with engine.begin() as connection:
        command.downgrade(revision_config(connection), "base")
        Base.metadata.create_all(connection)
    with engine.connect() as connection:
        by_classes = indexes(connection)
    assert by_revisions == by_classes
    held, unfinished = by_revisions["uq_jobs_workload_held"], by_revisions["ix_jobs_unfinished"]
    assert {phase for phase in Phase if f"'{phase}'" in held} == FINISHED
    assert {phase for phase in Phase if f"'{phase}'" in unfinished} == TERMINAL


def test_down_and_up_again(database: Database, engine: Engine) -> None:
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == TABLES | {"alembic_version"}
    with engine.begin() as connection:
        command.downgrade(revision_config(connection), "base")
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    database.upgrade()
    with database.transaction() as tx:
        tx.jobs.add(a_job())


def test_upgrading_keeps_what_is_there(database: Database) -> None:
    with database.transaction() as tx:
        tx.jobs.add(a_job())
    database.upgrade()
    with database.transaction(write=False) as tx:
        assert tx.jobs.get("mig-1") == a_job()


def test_a_revision_that_fails_changes_nothing(database: Database, engine: Engine) -> None:
    with engine.begin() as connection:
        command.downgrade(revision_config(connection), "base")
        connection.execute(text("CREATE TABLE checkpoints (in_the_way INTEGER)"))
    with pytest.raises(Exception, match="checkpoints"):
        database.upgrade()
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version", "checkpoints"}


def test_a_schema_from_the_future_is_refused(database: Database, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(PreconditionFailed, match="9999") as caught:
        database.upgrade()
    assert caught.value.code == "schema_newer"
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_a_database_without_tables_says_what_to_do(empty_url: str) -> None:
    database = Database(empty_url)
    with pytest.raises(PreconditionFailed) as caught, database.transaction(write=False) as tx:
        tx.jobs.list()
    database.close()
    assert caught.value.code == "schema_missing"
    assert "migrator server" in str(caught.value.remedy)


class TestIndexes:
    """What is asked often is answered from an index."""

    @pytest.fixture
    def plans(self, database: Database, engine: Engine) -> Iterator[list[tuple[str, Any]]]:
        sent: list[tuple[str, Any]] = []

        def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
            if statement.startswith("SELECT") and "FROM jobs" in statement:
                sent.append((statement, parameters))

        event.listen(Engine, "before_cursor_execute", note)
        yield sent
        event.remove(Engine, "before_cursor_execute", note)

    def explain(self, engine: Engine, statement: str, parameters: Any) -> str:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL enable_seqscan = off"))  # a small table needs no index
                connection.execute(text("SET LOCAL enable_sort = off"))
            how = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
            return "\n".join(str(row) for row in connection.exec_driver_sql(f"{how} {statement}", parameters))

    def test_unfinished(self, database: Database, engine: Engine, plans: list[tuple[str, Any]]) -> None:
        with database.transaction(write=False) as tx:
            tx.jobs.unfinished()
        assert "ix_jobs_unfinished" in self.explain(engine, *plans[0])

    def test_by_host(self, database: Database, engine: Engine, plans: list[tuple[str, Any]]) -> None:
        with database.transaction(write=False) as tx:
            tx.jobs.list(host="alpha")
        plan = self.explain(engine, *plans[0])
        assert "ix_jobs_source_host" in plan or "ix_jobs_created_at" in plan

    def test_active_for_workload(self, database: Database, engine: Engine, plans: list[tuple[str, Any]]) -> None:
        with database.transaction(write=False) as tx:
            tx.jobs.active_for_workload("w")
        assert "uq_jobs_workload_held" in self.explain(engine, *plans[0])

    def test_newest(self, database: Database, engine: Engine, plans: list[tuple[str, Any]]) -> None:
        with database.transaction(write=False) as tx:
            tx.jobs.list(limit=5)
        assert "ix_jobs_created_at" in self.explain(engine, *plans[0])
