"""What the API may ask: a job is written down, then the controller is told. Never waits for a job to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from migrator.errors import InvalidRequest, MigratorError, NotFound, PreconditionFailed, Unavailable
from migrator.models.drains import Cordon
from migrator.models.housekeeping import HostExamination
from migrator.models.phase import JobKind, JobState, Phase
from migrator.models.session import Database, Transaction
from migrator.models.values import (
    Checkpoint,
    CheckpointDetail,
    CheckpointPart,
    ContainerListing,
    Host,
    HostView,
    Job,
    JobRequest,
    Keep,
    Measures,
    Resolution,
)
from migrator.service.choosing import Choice, choose
from migrator.service.control import engine
from migrator.service.control.hearing import Hearing
from migrator.service.control.resolving import resolve
from migrator.service.control.rounds import utc_now
from migrator.service.drains.cordons import begin_maintenance, check_maintenance
from migrator.service.housekeeping.examining import ask_hosts
from migrator.service.job_making import new_job
from migrator.service.looking import Looker
from migrator.service.measures import measure
from migrator.service.originals import check_original_gone, generations
from migrator.service.reports import WorkloadReport, report_workloads
from migrator.service.requests import check_request
from migrator.service.retention.pinning import pin, unpin
from migrator.service.retention.removal import check_selection
from migrator.storage.archive import export_archive
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import part_of

NEVER = datetime.min.replace(tzinfo=UTC)
LOOK_S = 3.0
"""How long a host may take to say what it sees."""
log = structlog.get_logger()


class Bell(Protocol):
    """Tells others that there is something to do. A bell that does not ring only makes things slower."""

    def ring_controller(self, job_id: str) -> None:
        """Say that a job changed.

        Raises:
            Unavailable: `broker_unavailable`.
        """

    def ask_host_to_look(self, host: str) -> None:
        """Ask a host to report its containers.

        Raises:
            Unavailable: `broker_unavailable`.
        """

    def ask_host_to_examine(self, host: str, token: str, *, sweep: bool) -> None:
        """Ask a host to look at itself and answer under that token, and perhaps to remove what nobody needs.

        Raises:
            Unavailable: `broker_unavailable`.
        """


class ControlPlane:
    """The face of the service towards the API.

    Args:
        database: Where jobs live.
        bell: The way to the controller and the hosts.
        checkpoints: The object store, for listing parts and exports.
        host_silent_s: A host without a heartbeat for this long counts as without a live worker.
        now: The clock.
    """

    def __init__(
        self,
        database: Database,
        bell: Bell,
        checkpoints: CheckpointStore,
        *,
        host_silent_s: float,
        now: Callable[[], datetime] = utc_now,
    ):
        self._database = database
        self._bell = bell
        self._checkpoints = checkpoints
        self._silence = timedelta(seconds=host_silent_s)
        self._now = now
        self.looker = Looker(database, checkpoints)
        """Looks into checkpoints."""

    def create_job(self, request: JobRequest, idempotency_key: str | None, choice: Choice | None = None) -> Job:
        """Write a job down and tell the controller.

        Args:
            request: What is asked for.
            idempotency_key: Asking again with it gives the same job.
            choice: Instead of a checkpoint's id: of which workload it shall be, and of which time.

        Raises:
            InvalidRequest: `same_host`, source and target are one host; or what `check_request` says.
            NotFound: `host_not_found` or `checkpoint_not_found`.
            PreconditionFailed: `host_cordoned`, the target takes no new containers; `plan_not_usable`.
            ResourceBusy: `drain_under_way`, the host is being drained already.
            Unavailable: `no_live_worker`, a host it needs is silent.
            AlreadyExists: `idempotency_key_reused`, the key belongs to another request; `original_runs`, a restore
                would run a second copy under the same name.
        """
        if choice is not None and request.checkpoint_id is None:
            request = replace(request, checkpoint_id=self._choose(choice, idempotency_key))
        if request.kind is JobKind.RESTORE and request.checkpoint_id is not None:
            self._look_at_originals(request.checkpoint_id, request.new_name)
        with self._database.transaction() as tx:
            job = self.accept_job(tx, request, idempotency_key)
        if request.kind is JobKind.DRAIN and job.phase is Phase.ACCEPTED:
            with suppress(Unavailable):  # it looks by itself every few seconds
                self._bell.ask_host_to_look(str(request.source_host))
        self._ring(job.id)
        return job

    def accept_job(self, tx: Transaction, request: JobRequest, idempotency_key: str | None) -> Job:
        """Write a job down in the caller's transaction; see `create_job`."""
        check_request(request, idempotency_key)
        known = tx.jobs.find_by_key(idempotency_key) if idempotency_key else None
        if request.checkpoint_id is not None:
            # A repeated request is completed as the first one was, even if the checkpoint is gone by now.
            twin = known and known.request.checkpoint_id == request.checkpoint_id
            origin = known.request if known and twin else tx.checkpoints.hold(request.checkpoint_id)
            request = _complete_restore(request, origin)
        goes_on_with = None
        if known is None and request.kind is JobKind.RESTORE:
            taken = tx.checkpoints.get(str(request.checkpoint_id))
            name = request.new_name or taken.container
            check_original_gone(tx, taken, request.namespace, name)
            if (request.namespace, name) == (taken.namespace, taken.container):
                goes_on_with = taken.workload_id
        if known is None:
            self._check(tx, request)
            check_selection(tx, request)
            check_maintenance(tx, request)
        return tx.jobs.add(new_job(request, self._now(), idempotency_key, goes_on_with))

    def announce(self, job_id: str) -> None:
        """Tell the controller of a job that was written down in somebody's transaction."""
        self._ring(job_id)

    def get_job(self, job_id: str) -> Job:
        """Return a job as it stands.

        Raises:
            NotFound: `job_not_found`.
        """
        with self._database.transaction(write=False) as tx:
            return tx.jobs.get(job_id)

    def list_jobs(
        self, *, states: frozenset[JobState] = frozenset(), host: str | None = None, limit: int = 100
    ) -> list[Job]:
        """List jobs, newest first."""
        phases = frozenset(phase for phase in Phase if not states or phase.state in states)
        with self._database.transaction(write=False) as tx:
            return tx.jobs.list(phases=phases, host=host, limit=limit)

    def cancel_job(self, job_id: str) -> Job:
        """Ask for a job to be taken back.

        Raises:
            NotFound: `job_not_found`.
            PreconditionFailed: `job_finished` or `job_committed`, it is too late.
        """
        with self._database.transaction() as tx:
            job = tx.jobs.request_cancel(job_id, self._now())
            if not engine.may_cancel(job):  # as it is now that nobody else can move it; the wish is rolled back
                raise PreconditionFailed(
                    f"job '{job_id}' is {job.phase.value} already and cannot be cancelled any more",
                    code="job_committed",
                    remedy="wait for its end" + (", then migrate back" if job.request.target_host else ""),
                )
        self._ring(job_id)
        return job

    def resolve_job(self, job_id: str, keep: Keep, actor: str, reason: str) -> Job:
        """Take an operator's decision about a job that waits for one; it is kept with the job.

        Raises:
            NotFound: `job_not_found`.
            PreconditionFailed: See `resolving.resolve`.
            ResourceBusy: `job_changed`, somebody else decided at the same moment.
        """
        with self._database.transaction() as tx:
            job = tx.jobs.get(job_id)
            job = tx.jobs.save(job, resolve(job, Resolution(self._now(), keep, actor, reason)))
        self._ring(job_id)
        return job

    def list_hosts(self) -> list[HostView]:
        """List all hosts that ever had a worker."""
        with self._database.transaction(write=False) as tx:
            cordons = {cordon.host: cordon for cordon in tx.cordons.list()}
            hearing = self._hearing(tx)
            return [HostView(host, hearing.hears(host), cordons.get(host.name)) for host in tx.hosts.list()]

    def cordon_host(self, name: str, actor: str, reason: str) -> HostView:
        """Let a host take no new containers; what runs there stays.

        Raises:
            NotFound: `host_not_found`.
        """
        with self._database.transaction() as tx:
            host = tx.hosts.get(name)
            cordon = begin_maintenance(tx, Cordon(name, self._now(), actor, reason))
            alive = self._hearing(tx).hears(host)
        log.info("host cordoned", host=name, actor=actor, reason=reason)
        return HostView(host, alive, cordon)

    def uncordon_host(self, name: str, actor: str) -> HostView:
        """Let a host take containers again; a return that was planned for it does not happen any more.

        Raises:
            NotFound: `host_not_found`.
        """
        with self._database.transaction() as tx:
            host = tx.hosts.get(name)
            tx.cordons.lift(name)
            alive = self._hearing(tx).hears(host)
        log.info("host uncordoned", host=name, actor=actor)
        return HostView(host, alive)

    def remove_host(self, name: str, actor: str) -> list[Job]:
        """Take an operator's word that a host is gone for good; return the jobs that no longer wait for it.

        Raises:
            NotFound: `host_not_found`.
            PreconditionFailed: `host_alive`, its worker was heard of just now.
        """
        with self._database.transaction() as tx:
            if self._hearing(tx).hears(tx.hosts.get(name)):
                raise PreconditionFailed(
                    f"host '{name}' is alive: its worker was heard of just now",
                    code="host_alive",
                    host=name,
                    remedy="switch the machine off first; what is frozen there could run again",
                )
            tx.hosts.forget(name)
            tx.cordons.lift(name)
            tx.displacements.forget(name)
            jobs = [job for job in tx.jobs.unfinished() if name in (job.request.source_host, job.request.target_host)]
        log.info("host removed", host=name, actor=actor, jobs=[job.id for job in jobs])
        return jobs

    def list_containers(self, host: str | None) -> ContainerListing:
        """Ask one host or all to look now, and list what they saw.

        Raises:
            NotFound: `host_not_found`.
        """
        with self._database.transaction(write=False) as tx:
            hosts = [tx.hosts.get(host)] if host else tx.hosts.list()
            hearing = self._hearing(tx)
        asked_at = self._now()
        failures: list[MigratorError] = [self._silent(item) for item in hosts if not hearing.hears(item)]
        asked: list[str] = []
        for name in [item.name for item in hosts if hearing.hears(item)]:
            try:
                self._bell.ask_host_to_look(name)
                asked.append(name)
            except Unavailable as error:
                failures.append(error.on(name))
        late = self._await_looks(asked, asked_at)
        failures += [_late(name) for name in late]
        with self._database.transaction(write=False) as tx:
            views = [view for name in asked if name not in late for view in tx.hosts.containers(name)]
        return ContainerListing(containers=views, failures=[failure.to_dict() for failure in failures])

    def examine_hosts(self, host: str | None, *, fix: bool) -> list[HostExamination]:
        """Ask one host or all how they are, and wait for what they found and, if `fix`, removed.

        Raises:
            NotFound: `host_not_found`.
        """
        with self._database.transaction(write=False) as tx:
            hosts = [tx.hosts.get(host)] if host else tx.hosts.list()
            hearing = self._hearing(tx)
        silent = {item.name: self._silent(item) for item in hosts if not hearing.hears(item)}
        return ask_hosts(self._database, self._bell, [item.name for item in hosts], silent, fix=fix)

    def list_checkpoints(self) -> list[Checkpoint]:
        """List the catalogue, newest first."""
        with self._database.transaction(write=False) as tx:
            return tx.checkpoints.list()

    def get_checkpoint(self, checkpoint_id: str) -> CheckpointDetail:
        """Return a checkpoint, its parts and the facts of its origin.

        Raises:
            NotFound: `checkpoint_not_found`.
        """
        with self._database.transaction(write=False) as tx:
            checkpoint = tx.checkpoints.get(checkpoint_id)
        index = self._checkpoints.read_index(checkpoint.workload_id, checkpoint.id)
        parts = [
            CheckpointPart(
                role=index.role_of(part),
                media_type=part.media_type,
                digest=part.digest or named.digest,  # of its recipe, where that alone vouches for it
                size_bytes=part.size_bytes,
            )
            for named, part in ((named, part_of(named)) for named in index.parts)
        ]
        return CheckpointDetail(checkpoint=checkpoint, parts=parts, facts=dict(index.annotations))

    def pin_checkpoint(self, checkpoint_id: str, reason: str) -> Checkpoint:
        """See `pinning.pin`."""
        return pin(self._database, self._checkpoints, checkpoint_id, reason, self._now())

    def unpin_checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """See `pinning.unpin`."""
        return unpin(self._database, self._checkpoints, checkpoint_id)

    def export_checkpoint(self, checkpoint_id: str) -> Iterator[bytes]:
        """Give a checkpoint as the bytes of an OCI archive.

        Raises:
            NotFound: `checkpoint_not_found`.
        """
        with self._database.transaction(write=False) as tx:
            checkpoint = tx.checkpoints.get(checkpoint_id)
        return export_archive(self._checkpoints, checkpoint.workload_id, checkpoint.id)

    def measure(self, job: Job) -> Measures:
        """Add up what a job's phases took."""
        return measure(job)

    def report_workloads(self, workload: str, namespace: str) -> list[WorkloadReport]:
        """Say how well a workload is protected, or each.

        Raises:
            NotFound: `workload_not_found`.
        """
        return report_workloads(self._database, workload, namespace, self._now())

    def _choose(self, choice: Choice, idempotency_key: str | None) -> str:
        """The checkpoint that is meant; of a repeated request the one that was meant the first time."""
        with self._database.transaction(write=False) as tx:
            known = tx.jobs.find_by_key(idempotency_key) if idempotency_key else None
            if known is not None and known.request.checkpoint_id is not None:
                return known.request.checkpoint_id
            return choose(tx, choice, self._now()).id

    def _look_at_originals(self, checkpoint_id: str, new_name: str | None) -> None:
        """Let the hosts on which the program that a checkpoint was taken of may run look now, if they answer."""
        names: list[str] = []
        with self._database.transaction(write=False) as tx, suppress(NotFound):
            taken = tx.checkpoints.get(checkpoint_id)
            owners = {
                found.owner_host
                for found in generations(tx, taken.workload_id, taken.namespace, new_name or taken.container)
            }
            hearing = self._hearing(tx)
            names = [host.name for host in tx.hosts.list() if host.name in owners and hearing.hears(host)]
        asked_at = self._now()
        asked = []
        for name in names:
            with suppress(Unavailable):
                self._bell.ask_host_to_look(name)
                asked.append(name)
        self._await_looks(asked, asked_at)

    def _check(self, tx: Transaction, request: JobRequest) -> None:
        named = (request.source_host, request.target_host, *(request.drain.targets if request.drain else ()))
        hosts = {name: tx.hosts.get(name) for name in named if name is not None}
        if request.source_host is not None and request.source_host == request.target_host:
            raise InvalidRequest(
                f"container '{request.container}' is on host '{request.target_host}' already: target equals source",
                code="same_host",
                remedy="name another target; see `migrator hosts list`",
            )
        hearing = self._hearing(tx)
        for name in (request.source_host, request.target_host):
            if name is not None and not hearing.hears(hosts[name]):
                raise self._silent(hosts[name])

    def _silent(self, host: Host) -> MigratorError:
        silent_s = (self._now() - host.seen_at).total_seconds()
        return Unavailable(
            f"host '{host.name}' has no live worker (last heard of {silent_s:.0f} s ago)",
            code="no_live_worker",
            host=host.name,
            remedy=f"start it there: migrator worker --host {host.name}",
        )

    def _hearing(self, tx: Transaction) -> Hearing:
        return Hearing.read(tx, self._now(), self._silence)

    def _await_looks(self, names: list[str], asked_at: datetime) -> list[str]:
        """Wait until all have looked; return those that have not."""
        deadline, late = time.monotonic() + LOOK_S, names
        while late and time.monotonic() < deadline:
            time.sleep(0.02)
            with self._database.transaction(write=False) as tx:
                late = [name for name in late if (tx.hosts.containers_seen_at(name) or NEVER) < asked_at]
        return late

    def _ring(self, job_id: str) -> None:
        try:
            self._bell.ring_controller(job_id)
        except Unavailable as error:
            log.warning("controller not told, it will look by itself", job=job_id, error=str(error))


def _complete_restore(request: JobRequest, origin: Checkpoint | JobRequest) -> JobRequest:
    """A restore goes into the namespace that the checkpoint came from, unless the request says otherwise.

    A rewind that names no container is of the one that the checkpoint is of.
    """
    if request.kind is JobKind.REWIND and request.container is None:
        request = replace(request, container=origin.container)
    return replace(request, namespace=origin.namespace) if request.namespace == "default" else request


def _late(host: str) -> MigratorError:
    return Unavailable(
        f"host '{host}' did not say within {LOOK_S:.0f} s what runs there",
        code="host_silent",
        host=host,
        remedy="try again; if it stays so, see its worker's log",
    )
