"""Controllers, an API and hosts over one database, and a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from migrator.models.memory import MemoryDatabase
from migrator.models.phase import JobKind, Phase
from migrator.models.schedule_values import Run, RunState, Schedule, ScheduleSpec, Target, Trigger
from migrator.models.session import Database
from migrator.models.values import ContainerView, Host, Job, JobRequest
from migrator.service.control_plane import ControlPlane
from migrator.service.schedules.desk import ScheduleDesk
from migrator.service.schedules.scheduler import Scheduler
from tests.unit.service.schedules.walk import utc

SILENT_S = 4.0
CHECKPOINT = JobRequest(JobKind.CHECKPOINT)
WEB = Target("alpha", "web")


class Bell:
    """Notes whom the API told; a host that is asked to look has just looked."""

    def __init__(self, bench: Bench):
        self.bench = bench
        self.rung: list[str] = []

    def ring_controller(self, job_id: str) -> None:
        self.rung.append(job_id)

    def ask_host_to_look(self, host: str) -> None:
        self.bench.look(host)

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        raise AssertionError


class Bench:
    """Everything but the hosts is the real thing."""

    def __init__(self, database: Database | None = None):
        self.database = database or MemoryDatabase()
        self.now = utc(2026, 3, 2, 12)
        self.views: list[ContainerView] = []
        self.silent: set[str] = set()
        self.bell = Bell(self)
        self.plane = ControlPlane(
            self.database,
            self.bell,
            None,
            host_silent_s=SILENT_S,
            now=lambda: self.now,  # type: ignore[arg-type]
        )
        self.desk = ScheduleDesk(self.database, self.plane, now=lambda: self.now)
        self.advanced: list[str] = []
        self.run_containers("alpha/web", "alpha/db", "beta/cache")
        self.scheduler = self.new_controller()
        self.pass_time(60, tick=False)

    def new_controller(self) -> Scheduler:
        return Scheduler(
            self.database,
            self.plane.accept_job,
            self.plane.cancel_job,
            self.advanced.append,
            host_silent_s=SILENT_S,
            now=lambda: self.now,
        )

    # ---- hosts

    def run_containers(self, *names: str, labels: dict[str, str] | None = None) -> None:
        for name in names:
            host, _, container = name.partition("/")
            self.views.append(ContainerView(host, "default", container, "running", labels=labels or {}))
        self.beat()

    def beat(self) -> None:
        with self.database.transaction() as tx:
            for host in {view.host for view in self.views} - self.silent:
                tx.hosts.record(Host(host, self.now))
        for host in {view.host for view in self.views} - self.silent:
            self.look(host)

    def look(self, host: str) -> None:
        with self.database.transaction() as tx:
            tx.hosts.replace_containers(host, [view for view in self.views if view.host == host], self.now)

    # ---- time

    def pass_time(self, seconds: float, *, step_s: float = 1.0, tick: bool = True) -> None:
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now = min(end, self.now + timedelta(seconds=step_s))
            self.beat()
            if tick:
                self.scheduler.tick()

    # ---- schedules

    def create(self, name: str = "s", **values: Any) -> Schedule:
        standard: dict[str, Any] = {"trigger": Trigger(every_s=60), "job": CHECKPOINT, "target": WEB}
        return self.desk.create(name, ScheduleSpec(**(standard | values)))

    def runs(self, name: str = "s") -> list[Run]:
        """Oldest first."""
        return self.desk.runs(name, 1000)[::-1]

    def states(self, name: str = "s") -> list[tuple[RunState, int]]:
        return [(run.state, run.count) for run in self.runs(name)]

    def jobs(self) -> list[Job]:
        return self.plane.list_jobs(limit=10_000)[::-1]

    def end(self, jobs: Iterable[Job | str] | None = None, phase: Phase = Phase.SUCCEEDED) -> None:
        """Let jobs come to their end; all that have not if none are named."""
        wanted = {getattr(job, "id", job) for job in jobs} if jobs is not None else None
        with self.database.transaction() as tx:
            for job in tx.jobs.unfinished():
                if wanted is None or job.id in wanted:
                    failure = {"kind": "WorkloadFailed", "code": "broken", "message": "it broke"}
                    told = None if phase is Phase.SUCCEEDED else failure
                    tx.jobs.save(job, replace(job, phase=phase, failure=told, finished_at=self.now))
