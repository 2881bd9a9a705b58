"""The database: transactions, and the repositories inside one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from migrator.models.checkpoints import CheckpointRepository
from migrator.models.engines import describe, make_room, open_engine, open_schema_engine, parse_url, reading
from migrator.models.examinations import ExaminationRepository
from migrator.models.faults import translate, translate_commit
from migrator.models.hosts import HostRepository
from migrator.models.jobs import JobRepository
from migrator.models.maintenance import CordonRepository, DisplacementRepository
from migrator.models.schedules import ScheduleRepository
from migrator.models.schema import upgrade
from migrator.models.workloads import WorkloadRepository


class Transaction:
    """All that happens through its repositories happens together, or not at all.

    After an error a transaction is of no more use: let the error leave the `with` block.
    """

    def __init__(self, session: Session):
        self.jobs = JobRepository(session)
        self.hosts = HostRepository(session)
        self.workloads = WorkloadRepository(session)
        self.checkpoints = CheckpointRepository(session)
        self.examinations = ExaminationRepository(session)
        self.schedules = ScheduleRepository(session)
        self.cordons = CordonRepository(session)
        self.displacements = DisplacementRepository(session)


class Database:
    """A SQLite file or a PostgreSQL database. May be shared by threads; nothing is connected before it is used.

    Args:
        url: `sqlite:////path` or `postgresql+psycopg://user:password@host/name`.

    Raises:
        InvalidRequest: `bad_configuration`, the URL is malformed or of an unknown kind.
    """

    def __init__(self, url: str):
        self._url = parse_url(url)
        self._place = describe(self._url)
        self._writer = open_engine(self._url)
        self._reader = reading(self._writer)

    def upgrade(self) -> None:
        """Bring the schema up to date. Several processes may do so at once.

        Raises:
            Unavailable: `database_unavailable`.
            PreconditionFailed: `schema_newer`, a newer version of migrator has changed the schema.
            InvalidRequest: `bad_configuration`, the directory of the SQLite file cannot be made.
        """
        make_room(self._url)
        engine = open_schema_engine(self._url)
        try:
            upgrade(engine, self._place)
        except SQLAlchemyError as error:
            raise translate(error, self._place, write=True) from error
        finally:
            engine.dispose()

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Begin a transaction; the end of the block commits it, an error that leaves the block rolls it back.

        Args:
            write: False for one that only reads: it sees one snapshot and never waits for a writer.

        Raises:
            Unavailable: `database_unavailable`.
            ResourceBusy: `database_busy`, it lost against others: a deadlock, a lock not obtained in time.
            OutcomeUnknown: `commit_unanswered`, the connection broke during the commit.
        """
        session = Session(self._writer if write else self._reader, autoflush=False, expire_on_commit=False)
        try:
            try:
                yield Transaction(session)
            except SQLAlchemyError as error:
                raise translate(error, self._place, write=write) from error
            if write:
                self._commit(session)
        finally:
            with suppress(SQLAlchemyError):  # a broken connection cannot roll back: the server does
                session.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._writer.dispose()

    def _commit(self, session: Session) -> None:
        try:
            session.commit()
        except SQLAlchemyError as error:
            raise translate_commit(error, self._place) from error
