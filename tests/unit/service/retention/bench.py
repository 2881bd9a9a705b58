"""A control plane in memory that forgets, prunes and verifies for real; it can die at any write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from migrator.models.memory import MemoryDatabase
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import ForgetRequest, PruneRequest, RetentionPolicy
from migrator.models.session import Transaction
from migrator.models.values import Checkpoint, Host, Job, JobRequest
from migrator.service.control.rounds import Rounds
from migrator.service.control_plane import ControlPlane
from migrator.service.retention.steps import retention_steps
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.samples import Sample

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


class Died(BaseException):
    """The process is gone; nothing may catch this."""


class Clockwork:
    """Counts writes, and dies at the one that it was told."""

    def __init__(self) -> None:
        self.count = 0
        self.dies_at: int | None = None
        self.watch: Callable[[int], None] | None = None
        self.now: Callable[[], datetime] = lambda: NOON

    def tick(self) -> None:
        self.count += 1
        if self.watch is not None:
            watch, self.watch, count = self.watch, None, self.count  # what it does is not counted
            watch(count)
            self.count, self.watch = count, watch
        if self.dies_at is not None and self.count >= self.dies_at:
            raise Died


class DyingStore(MemoryStore):
    """Ticks before and after each write."""

    def __init__(self, clockwork: Clockwork):
        super().__init__()
        self.clockwork = clockwork

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        self.clockwork.tick()
        super().put(key, data, if_absent=if_absent)
        self._objects[key] = (bytes(data), self.clockwork.now())
        self.clockwork.tick()

    def sizes(self, prefix: str = "") -> int:
        """All bytes under a prefix."""
        return sum(info.size_bytes for info in self.scan(prefix))

    def delete(self, key: str) -> bool:
        self.clockwork.tick()
        gone = super().delete(key)
        self.clockwork.tick()
        return gone


class DyingDatabase(MemoryDatabase):
    """Ticks before and after each commit."""

    def __init__(self, clockwork: Clockwork):
        super().__init__(busy_timeout_s=0)
        self.clockwork = clockwork

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        with super().transaction(write=write) as tx:
            yield tx
            if write:
                self.clockwork.tick()
        if write:
            self.clockwork.tick()


class Bench:
    """Store, database, controller and API in one process; jobs run to their end at once."""

    def __init__(self) -> None:
        self.now = NOON
        self.clockwork = Clockwork()
        self.clockwork.now = lambda: self.now
        self.objects = DyingStore(self.clockwork)
        self.forget_chunks()
        self.lose_database()

    def forget_chunks(self) -> None:
        """A control plane whose cache of chunks is empty."""
        self.checkpoints = self.open()
        if hasattr(self, "database"):
            self.plane = ControlPlane(self.database, self, self.checkpoints, host_silent_s=4, now=lambda: self.now)
            self.start()

    def open(self) -> CheckpointStore:
        """The object store, opened anew."""
        return CheckpointStore(self.objects, parallel_looks=1)

    def lose_database(self) -> None:
        """A control plane with an empty database over the same store."""
        self.database = DyingDatabase(self.clockwork)
        self.forget_chunks()
        with self.database.transaction() as tx:
            for host in ("alpha", "beta"):
                tx.hosts.record(Host(host, NOON + timedelta(days=9999)))

    def start(self) -> None:
        """A controller that knows nothing of the one before it."""
        steps = retention_steps(self.database, self.checkpoints, lambda: self.now)
        self.rounds = Rounds(
            self.database, self, steps, {}, {}, freezes_per_host=2, now=lambda: self.now, spawn=lambda work: work()
        )

    # ---- what the API and the rounds need

    def ring_controller(self, job_id: str) -> None:
        self.rounds.move(job_id, lambda job: job)

    def send_command(self, host: str, command: object) -> None:
        """Hosts stay silent."""

    def ask_host_to_look(self, host: str) -> None:
        """Hosts stay silent."""

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        """Hosts stay silent."""

    # ---- what tests do

    def keep(self, checkpoint_id: str, hours_ago: float = 0, workload: str = "web-1", **sample: object) -> Checkpoint:
        """Seal a checkpoint and list it."""
        made = Sample(memory=f"memory of {checkpoint_id}".encode(), **sample)  # type: ignore[arg-type]
        digest = made.seal(self.checkpoints, workload, checkpoint_id)
        return self.list_checkpoint(checkpoint_id, digest, hours_ago, workload)

    def list_checkpoint(
        self, checkpoint_id: str, digest: str, hours_ago: float = 0, workload: str = "web-1"
    ) -> Checkpoint:
        """Put a sealed checkpoint into the catalogue."""
        at = self.now - timedelta(hours=hours_ago)
        kept = Checkpoint(checkpoint_id, workload, None, "alpha", "default", "web", "i", digest, 100, at)
        with self.database.transaction() as tx:
            tx.checkpoints.add(kept)
        return kept

    def end_jobs(self) -> None:
        """Let jobs that a dead controller left come to their end."""
        with self.database.transaction() as tx:
            for job in tx.jobs.unfinished():
                tx.jobs.save(job, replace(job, phase=Phase.FAILED, finished_at=self.now))

    def use(self, checkpoint_id: str, phase: Phase = Phase.FETCHING) -> str:
        """Let a restore work with a checkpoint."""
        request = JobRequest(JobKind.RESTORE, checkpoint_id=checkpoint_id, target_host="beta")
        job = Job(f"res-{checkpoint_id}", request, phase, 1, self.now, self.now, checkpoint_id=checkpoint_id)
        with self.database.transaction() as tx:
            tx.jobs.add(job)
        return job.id

    def forget(self, *checkpoint_ids: str, **words: object) -> Job:
        """Ask for a job that forgets, and return it as it ended."""
        rules = {name: words.pop(name) for name in [*words] if name in RetentionPolicy.__slots__}
        if not checkpoint_ids:
            words = {"policy": RetentionPolicy(**rules), "workload_id": "web-1"} | words  # type: ignore[arg-type]
        if words.get("everything") or words.get("host"):
            words["workload_id"] = None
        asked = ForgetRequest(checkpoint_ids=checkpoint_ids, **words)  # type: ignore[arg-type]
        return self.run(JobRequest(JobKind.FORGET, forget=asked))

    def prune(self, grace_s: float = 0, *, dry_run: bool = False) -> Job:
        """Ask for a prune, a while later; return the job as it ended."""
        self.now += timedelta(seconds=60)
        return self.run(JobRequest(JobKind.PRUNE, prune=PruneRequest(grace_s, dry_run)))

    def run(self, request: JobRequest) -> Job:
        """Run a job to its end; a pause between attempts passes at once."""
        job = self.plane.create_job(request, None)
        for _ in range(20):
            job = self.plane.get_job(job.id)
            if job.phase.terminal:
                return job
            self.now += timedelta(seconds=20)
            self.rounds.move(job.id, lambda job: job)
        raise AssertionError(f"the job does not end: {job}")

    def listed(self) -> list[str]:
        return sorted(checkpoint.id for checkpoint in self.plane.list_checkpoints())

    def sealed(self) -> list[str]:
        return sorted(found.checkpoint_id for found in self.checkpoints.sealed())

    def restores(self, checkpoint_id: str) -> bool:
        """Whether a checkpoint can be read as a restore reads it, to its last byte."""
        known = self.plane.get_checkpoint(checkpoint_id).checkpoint
        index = self.checkpoints.read_index(known.workload_id, known.id)
        for blob in self.checkpoints.reachable(index):
            b"".join(self.checkpoints.get_blob(blob.digest, blob.size_bytes))
        for part in index.parts:
            b"".join(self.checkpoints.read_part(part))
        return index.digest == known.index_digest
