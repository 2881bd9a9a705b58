"""The real API server on a unix socket, over SQLite and an object store in memory; only broker and hosts are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from migrator.api.faults import FAILURE_KEY
from migrator.api.server import build_server
from migrator.errors import Unavailable
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import migrator_pb2_grpc as services
from migrator.gen.migrator.v1 import schedules_pb2_grpc as schedule_services
from migrator.models.housekeeping import HostExamination
from migrator.models.phase import Phase
from migrator.models.session import Database
from migrator.models.values import Checkpoint, ContainerView, Facts, Host, Job, StepStatus
from migrator.service.control import engine
from migrator.service.control_plane import ControlPlane
from migrator.service.messages import EXAMINATION
from migrator.service.schedules.desk import ScheduleDesk
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.samples import Sample

CALL_S = 10.0
SILENT_S = 4.0
TAKEN_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Bell:
    """Notes who was told; a host that `answers` reports its containers at once."""

    rung: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers: Callable[[str], None] = lambda _: None
    examines: Callable[[str, str, bool], None] = lambda *_: None
    broken: bool = False

    def ring_controller(self, job_id: str) -> None:
        self._check()
        self.rung.append(job_id)

    def ask_host_to_look(self, host: str) -> None:
        self._check()
        self.asked.append(host)
        self.answers(host)

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        self._check()
        self.examines(host, token, sweep)

    def _check(self) -> None:
        if self.broken:
            raise Unavailable("the message broker does not answer", code="broker_unavailable", remedy="start it")


class ServedApi:
    """A server that runs, what is behind it, and a client's stubs."""

    def __init__(self, directory: Path):
        self.database = Database(f"sqlite:///{directory / 'migrator.db'}")
        self.database.upgrade()
        self.objects = MemoryStore()
        self.checkpoints = CheckpointStore(self.objects)
        self.bell = Bell()
        self.plane = ControlPlane(self.database, self.bell, self.checkpoints, host_silent_s=SILENT_S)
        self.socket = directory / "api.sock"
        self.address = f"unix://{self.socket}"
        self.desk = ScheduleDesk(self.database, self.plane)
        self.server = build_server(self.plane, self.desk, self.socket, None)
        self.channel = grpc.insecure_channel(self.address)
        self.jobs = services.JobServiceStub(self.channel)
        self.hosts = services.HostServiceStub(self.channel)
        self.schedules = schedule_services.ScheduleServiceStub(self.channel)
        self.catalogue = services.CheckpointServiceStub(self.channel)

    # ---- what others would write into the database

    def beat(self, *names: str, age_s: float = 0.0, facts: Facts | None = None) -> None:
        """Let hosts have had a heartbeat so long ago."""
        seen_at = datetime.now(UTC) - timedelta(seconds=age_s)
        known = facts or {"kernel": "6.18.44", "criu": "4.2.1", "containerd": "2.1.9", "cpus": 2, "boot_id": "b1"}
        with self.database.transaction() as tx:
            for name in names:
                tx.hosts.record(Host(name, seen_at, facts=known))

    def heard(self, age_s: float) -> None:
        """Let the controller have got with its messages to so long ago."""
        with self.database.transaction() as tx:
            tx.hosts.note_hearing(datetime.now(UTC) - timedelta(seconds=age_s))

    def show(self, *views: ContainerView) -> None:
        """Let hosts answer with these containers as soon as they are asked."""

        def answer(host: str) -> None:
            with self.database.transaction() as tx:
                mine = [view for view in views if view.host == host]
                tx.hosts.replace_containers(host, mine, datetime.now(UTC))

        self.bell.answers = answer

    def examine(self, *examinations: HostExamination) -> None:
        """Let hosts answer with what they found as soon as they are asked; others stay silent."""
        known = {item.host: item.examination for item in examinations if item.examination}

        def answer(host: str, token: str, sweep: bool) -> None:
            if host in known:
                told = replace(known[host], taken_at=known[host].taken_at or datetime.now(UTC))
                with self.database.transaction() as tx:
                    tx.examinations.record(token, host, EXAMINATION.pack(told), datetime.now(UTC))

        self.bell.examines = answer

    def keep_checkpoint(self, checkpoint_id: str = "ck-1", namespace: str = "default", minutes: int = 0) -> Checkpoint:
        """Put a checkpoint into store and catalogue."""
        sample = Sample()
        digest = sample.seal(self.checkpoints, "web-1", checkpoint_id)
        size_bytes = sum(len(data) for data in sample.blobs.values())
        taken_at = TAKEN_AT + timedelta(minutes=minutes)
        kept = Checkpoint(
            checkpoint_id, "web-1", "chk-1", "alpha", namespace, "web", "local/web:1", digest, size_bytes, taken_at
        )
        with self.database.transaction() as tx:
            tx.checkpoints.add(kept)
        return kept

    def move(self, job_id: str, phase: Phase, *, failure: Facts | None = None, start: str | None = None) -> Job:
        """Let the controller bring a job into a phase, and perhaps start a step."""
        with self.database.transaction() as tx:
            job = tx.jobs.get(job_id)
            now = datetime.now(UTC)
            steps = tuple(
                replace(step, status=StepStatus.STARTED, attempt=1, started_at=now) if step.name == start else step
                for step in job.steps
            )
            after = replace(job, failure=failure or job.failure, steps=steps, updated_at=now)
            after = engine.finish(after, phase, now) if phase.terminal else replace(after, phase=phase)
            return tx.jobs.save(job, after)

    def report(self, job_id: str, step: str, done_bytes: int, total_bytes: int) -> None:
        """Let a host have reported how far a step is."""
        with self.database.transaction() as tx:
            position = next(item.position for item in tx.jobs.get(job_id).steps if item.name == step)
            tx.jobs.record_progress(job_id, position, 1, done_bytes, total_bytes)

    # ---- what a client does

    def migrate(self, **values: object) -> pb.Job:
        """Ask for a migration of alpha/web to beta, unless `values` say otherwise."""
        wanted: dict[str, object] = {"kind": pb.JOB_KIND_MIGRATION, "source": "alpha", "container": "web"}
        request = pb.CreateJobRequest(**(wanted | {"target": "beta"} | values))  # type: ignore[arg-type]
        return self.jobs.CreateJob(request, timeout=CALL_S).job

    def stop(self) -> None:
        """Stop the server, as a restart does."""
        self.server.stop(0)


@contextmanager
def served_api(directory: Path) -> Iterator[ServedApi]:
    api = ServedApi(directory)
    api.server.start()
    try:
        yield api
    finally:
        api.channel.close()
        api.stop()
        api.database.close()


def failure_of(call: Callable[[], object]) -> tuple[str, pb.Failure]:
    """The status of a call that must fail, and the failure among its trailing metadata."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    trailing = dict(error.trailing_metadata() or ())
    assert FAILURE_KEY in trailing, error
    return error.code().name, pb.Failure.FromString(trailing[FAILURE_KEY])
