"""Hosts that answer at once, and a conductor that may die between any two transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from migrator.errors import MigratorError, Unavailable
from migrator.models.drains import Passage
from migrator.models.memory import JOBS, MemoryDatabase, MemoryJobs
from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.session import Transaction
from migrator.models.values import (
    ContainerView,
    Facts,
    Job,
    JobRequest,
    Outcome,
    Sight,
    StepAction,
    StepCommand,
)
from migrator.service.control.conductor import Conductor
from migrator.service.control.control_steps import ControlStep
from migrator.service.control_plane import ControlPlane
from migrator.service.drains.rounds import passages_of
from migrator.service.preflight.checks import failure
from migrator.service.preflight.report import FINDINGS
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore

MB = 10**6


class Died(BaseException):
    """The controller was killed."""


class Nothing(ControlStep):
    def run(self, job: Job) -> Facts:
        return {}


class MortalDatabase(MemoryDatabase):
    """A controller that uses it may die right before or right after a commit."""

    lives = -1
    at_risk = False

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        with super().transaction(write=write) as tx:
            jobs = tx.jobs
            assert isinstance(jobs, MemoryJobs)
            yield tx
            changed = JOBS in jobs._rows._changes
            self._live(changed)
        self._live(changed)

    def _live(self, changed: bool) -> None:
        self.lives -= changed and self.at_risk
        if self.lives == 0:
            self.lives = -1
            raise Died


@dataclass
class Bench:
    """A fleet in which every command is answered when `work` says so."""

    database: MortalDatabase = field(default_factory=MortalDatabase)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    queue: list[StepCommand] = field(default_factory=list)
    views: dict[tuple[str, str], ContainerView] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("alpha", "beta", "gamma"), 10_000 * MB))
    refusals: dict[tuple[str, str], MigratorError] = field(default_factory=dict)
    """By host and container: what preflight says there."""
    faults: Callable[[StepCommand], MigratorError | None] = lambda _: None
    slow: tuple[str, str] | None = None
    """A job and a step of it that is not answered for now."""
    most_moving: int = 0

    def __post_init__(self) -> None:
        self.start_controller()
        self.plane = ControlPlane(
            self.database, self, CheckpointStore(MemoryStore()), host_silent_s=4.0, now=lambda: self.now
        )
        self.beat()

    def start_controller(self) -> None:
        self.conductor = Conductor(
            self.database,
            self,
            {"settle": Nothing(), "predict": Nothing()},
            {},
            host_silent_s=4.0,
            let_run=lambda _: None,
            now=lambda: self.now,
        )

    # ---- the lines

    def send_command(self, host: str, command: StepCommand) -> None:
        self.queue.append(command)

    def ring_controller(self, job_id: str) -> None:
        raise Unavailable("nobody listens")

    def ask_host_to_look(self, host: str) -> None:
        """Hosts look by themselves."""

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        """Not here."""

    # ---- the hosts

    def add(
        self, *names: str, host: str = "alpha", memory_mb: int = 100, status: str = "running", **labels: str
    ) -> None:
        for name in names:
            self.views[host, name] = ContainerView(
                host, "default", name, status, memory_bytes=memory_mb * MB, labels=labels
            )

    def beat(self) -> None:
        for host, free_bytes in self.free.items():
            facts = {"boot_id": host, "memory_bytes": 20_000 * MB, "memory_free_bytes": free_bytes}
            self.conductor.record_heartbeat(host, facts, 1000.0)
            seen = [view for (where, _), view in self.views.items() if where == host]
            self.conductor.record_sight(host, Sight(seen, {}))

    def answer(self, command: StepCommand) -> None:
        error = self.faults(command) if command.action is StepAction.RUN else None
        facts: Facts = {}
        where = {"source": command.request.source_host, "target": command.request.target_host}
        host = str(where["source" if command.step in SOURCE_STEPS else "target"])
        if command.action is StepAction.RUN and error is None:
            facts, error = self.act(command, host)
        told = error.on(host).to_dict() if error else None
        outcome = Outcome(
            command.job_id, command.step, command.position, command.action, command.attempt, host,
            error is None, 0.01, facts, told,
        )  # fmt: skip
        self.conductor.receive(outcome)

    def act(self, command: StepCommand, host: str) -> tuple[Facts, MigratorError | None]:
        name = str(command.request.container)
        refusal = self.refusals.get((host, name))
        if command.step.startswith("inspect"):
            view = self.views.get((str(command.request.source_host), name))
            facts: Facts = {"memory_bytes": view.memory_bytes if view else 0}
            if command.request.kind is JobKind.PREFLIGHT:
                found = failure("some-check", refusal) if refusal else Finding("some-check", Grade.PASS, "")
                return facts | {FINDINGS: [found.to_facts()]}, None
            return facts, refusal
        if command.step == "restore":
            view = self.views.get((str(command.request.source_host), name))
            if view is not None:
                self.views[host, name] = ContainerView(
                    host, "default", name, "running", memory_bytes=view.memory_bytes, labels=view.labels
                )
        if command.step == "remove":
            self.views.pop((host, name), None)
        return {}, None

    # ---- time

    def work(self, seconds: float = 1.0) -> None:
        """Let time pass: heartbeats, ticks, answers. A controller that dies is started anew."""
        self.database.at_risk = True
        try:
            for _ in range(int(seconds * 2)):
                self.now += timedelta(seconds=0.5)
                self.beat()
                self.conductor.tick()
                coming, self.queue = self.queue, []
                for command in coming:
                    if (command.job_id, command.step) != self.slow:
                        self.answer(command)
                self.most_moving = max(self.most_moving, self.moving())
        except Died:
            self.start_controller()
        finally:
            self.database.at_risk = False

    def run(self, job_id: str, limit_s: int = 600) -> Job:
        """Let everything happen until a job has ended."""
        for _ in range(limit_s):
            if self.job(job_id).phase.terminal:
                return self.job(job_id)
            self.work()
        raise AssertionError(f"{job_id} does not end: {self.job(job_id)}")

    # ---- what there is

    def drain(self, host: str = "alpha", key: str | None = None, **request: object) -> str:
        return self.plane.create_job(JobRequest(JobKind.DRAIN, source_host=host, **request), key).id  # type: ignore[arg-type]

    def bring_back(self, host: str = "alpha", **request: object) -> str:
        return self.plane.create_job(JobRequest(JobKind.RETURN, target_host=host, **request), None).id  # type: ignore[arg-type]

    def job(self, job_id: str) -> Job:
        return self.plane.get_job(job_id)

    def passages(self, job_id: str) -> dict[str, Passage]:
        return {passage.container: passage for passage in passages_of(self.job(job_id))}

    def on(self, host: str) -> list[str]:
        return sorted(name for where, name in self.views if where == host)

    def moving(self) -> int:
        jobs = self.plane.list_jobs()
        return sum(job.request.kind is JobKind.MIGRATION and not job.phase.terminal for job in jobs)

    def jobs(self, kind: JobKind) -> list[Job]:
        return [job for job in self.plane.list_jobs(limit=1000) if job.request.kind is kind]


SOURCE_STEPS = ("inspect-source", "publish-image", "freeze", "dump", "thaw", "upload", "promise", "remove")
