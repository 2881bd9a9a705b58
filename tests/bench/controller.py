"""What deciding costs the controller when its database is full: time and statements, on PostgreSQL and on SQLite.

The conductor is the real one; commands go nowhere and are answered at once. What lies in the database besides are
copies of a finished job, with all of their steps.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median, quantiles

from sqlalchemy import String, cast, event, insert, literal, select, true

from migrator.lab.rootfs import ensure_root
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Database
from migrator.models.tables import JobRow, StepRow
from migrator.models.values import ContainerView, Facts, Job, JobRequest, Outcome, Sight, StepCommand
from migrator.service.control.conductor import Conductor
from migrator.service.control.control_steps import ControlStep, control_steps
from migrator.service.ledger import in_a_row
from migrator.service.plans import steps_for
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.bench.records import FILE, write_rows
from tests.servers.postgres import running_postgres

FILE_OF_CONTROLLER = FILE.with_name("benchmarks-controller.json")
SIZES = ((10, 100), (1000, 100_000))
"""Hosts, and finished jobs."""
CONTAINERS = 20
"""On each host."""
AT_ONCE = 50
"""Unfinished jobs while one is moved and the clock ticks."""
MOVED = 20
TIMES = 20
COPIED_AT_ONCE = 5000
"""Jobs in one statement: the database ends one that takes too long."""
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ControllerRecord:
    """What the controller does on one database, with so much in it."""

    database: str
    hosts: int
    finished_jobs: int
    decision_ms: float
    """Median of: take an answer, decide what comes next, put it on record."""
    decision_p95_ms: float
    statements: float
    """SQL statements a decision, mean."""
    tick_ms: float
    """Median of: look after all unfinished jobs once."""
    heartbeat_ms: float
    sight_ms: float
    accept_ms: float
    list_ms: float
    """The newest hundred jobs."""


class _Settled(ControlStep):
    """Nothing is in a store."""

    def run(self, job: Job) -> Facts:
        return {}

    def undo(self, job: Job) -> Facts:
        return {}


class Filled:
    """A database with many hosts and jobs, and the conductor over it."""

    def __init__(self, database: Database, hosts: int, finished: int):
        self.database = database
        self.now = START
        self.made = 0
        self.sent: list[StepCommand] = []
        self._hosts = [f"host-{number}" for number in range(hosts)]
        store = CheckpointStore(MemoryStore())
        self.conductor = Conductor(
            database, self, control_steps(database, store) | {"settle": _Settled()}, {}, host_silent_s=1e6, let_run=lambda _: None,
            freezes_per_host=AT_ONCE, now=lambda: self.now,
        )  # fmt: skip
        for host in self._hosts:
            self.beat(host)
            self.look(host)
        self.move(self.accept("first"))
        _copy_job(database, "first", finished)
        for number in range(AT_ONCE):
            self.conductor.advance(self.accept(f"waits-{number}"))

    def send_command(self, host: str, command: StepCommand) -> None:
        """See `conductor.Sender`."""
        del host
        self.sent.append(command)

    def beat(self, host: str) -> None:
        """Let a host say that it lives."""
        self.conductor.record_heartbeat(host, {"boot_id": "one", "cpus": 8}, 1000.0)

    def look(self, host: str) -> None:
        """Let a host say what it has."""
        views = [
            ContainerView(host, "default", f"c-{number}", "running", "image:1", 4711, 1 << 26)
            for number in range(CONTAINERS)
        ]
        self.conductor.record_sight(host, Sight(views, {}))

    def list(self) -> None:
        """Show the newest jobs, as `migrator jobs list` does."""
        with self.database.transaction(write=False) as tx:
            assert tx.jobs.list()

    def accept(self, job_id: str) -> str:
        """Write a new job of its own container down."""
        self.made += 1
        source, target = (self._hosts[number % len(self._hosts)] for number in (self.made, self.made + 1))
        request = JobRequest(
            kind=JobKind.MIGRATION, namespace="default", source_host=source, container=job_id, target_host=target
        )
        self.now += timedelta(milliseconds=1)
        job = Job(
            job_id, request, Phase.ACCEPTED, 1, self.now, self.now, checkpoint_id=job_id, steps=steps_for(request)
        )
        with self.database.transaction() as tx:
            tx.jobs.add(job)
        return job_id

    def move(self, job_id: str) -> list[float]:
        """Bring a job to its end; return how long each decision took, in seconds."""
        took = []
        self.sent.clear()
        self.conductor.advance(job_id)
        while self.sent:
            commands, self.sent = [single for sent in self.sent for single in in_a_row(sent)], []
            for command in commands:
                began = time.perf_counter()
                self.conductor.receive(_answer(command))
                took.append(time.perf_counter() - began)
        with self.database.transaction(write=False) as tx:
            job = tx.jobs.get(job_id)
        assert job.phase is Phase.SUCCEEDED, (job.phase, job.failure)
        return took


def measure(kind: str, url: str, hosts: int, finished: int) -> ControllerRecord:
    """Fill an empty database and measure over it."""
    database = Database(url)
    database.upgrade()
    try:
        filled = Filled(database, hosts, finished)
        with _counting(database) as statements:
            decisions = [took for number in range(MOVED) for took in filled.move(filled.accept(f"moved-{number}"))]
            each = statements[0] / len(decisions)
        return ControllerRecord(
            kind, hosts, finished,
            decision_ms=_ms(decisions),
            decision_p95_ms=round(quantiles(decisions, n=20)[-1] * 1000, 2),
            statements=round(each, 1),
            tick_ms=_ms(_timed(filled.conductor.tick)),
            heartbeat_ms=_ms(_timed(lambda: filled.beat("host-3"))),
            sight_ms=_ms(_timed(lambda: filled.look("host-3"))),
            accept_ms=_ms(_timed(lambda: filled.accept(f"new-{time.perf_counter_ns()}"))),
            list_ms=_ms(_timed(filled.list)),
        )  # fmt: skip
    finally:
        database.close()


def main() -> None:
    """Measure both databases, empty and full; write and print."""
    with tempfile.TemporaryDirectory() as directory, running_postgres(ensure_root(print), fsync=True) as server:
        records = []
        for hosts, finished in SIZES:
            with server.fresh_database("bench") as url:
                records.append(measure("PostgreSQL", url, hosts, finished))
            records.append(measure("SQLite", f"sqlite:///{directory}/{finished}.db", hosts, finished))
            print(*records[-2:], sep="\n", flush=True)
    write_rows(records, FILE_OF_CONTROLLER)


def _timed(call: Callable[[], object]) -> list[float]:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return took


def _ms(took: list[float]) -> float:
    return round(median(took) * 1000, 2)


@contextlib.contextmanager
def _counting(database: Database) -> Iterator[list[int]]:
    """Count the statements that reach a database."""
    count = [0]

    def note(*_: object) -> None:
        count[0] += 1

    engine = database._writer
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield count
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _answer(command: StepCommand) -> Outcome:
    facts: Facts = {"memory_bytes": 1 << 26, "estimate_bytes": 1 << 26, "index_digest": f"sha256:{64 * '0'}"}
    return Outcome(
        command.job_id, command.step, command.position, command.action, command.attempt, "", True, 0.01, facts
    )  # fmt: skip


def _copy_job(database: Database, job_id: str, copies: int) -> None:
    """Write a finished job and its steps down so many times more, by the database itself."""
    for first in range(1, copies + 1, COPIED_AT_ONCE):
        _copy_some(database, job_id, first, min(copies, first + COPIED_AT_ONCE - 1))


def _copy_some(database: Database, job_id: str, first: int, last: int) -> None:
    numbers = select(literal(first).label("number")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < last))
    with database._writer.begin() as connection:
        for row, key in ((JobRow, "id"), (StepRow, "job_id")):
            table = row.__table__
            named = literal("copy-") + cast(numbers.c.number, String)
            values = [named.label(key) if column.name == key else column for column in table.columns]
            found = select(*values).select_from(table.join(numbers, true())).where(table.c[key] == job_id)
            connection.execute(insert(table).from_select([column.name for column in table.columns], found))


if __name__ == "__main__":
    main()
