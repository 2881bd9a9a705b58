"""Who owns a workload: the steps that are SQL alone.

Each happens in the transaction that also writes its job, so it has happened exactly when the job says so: no answer can
be lost between the two, and there is nothing to observe.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from migrator.errors import NotFound, PreconditionFailed, ResourceBusy
from migrator.models.session import Transaction
from migrator.models.values import Facts, Job, Workload
from migrator.service.identifiers import new_id
from migrator.service.originals import check_original_gone


@dataclass(frozen=True, slots=True)
class NotYet:
    """A polled step waits for other jobs."""

    facts: Facts
    """What it knows so far."""


class Decision:
    """One step about ownership. `workload_id` and `epoch` among its facts become the job's own."""

    name: str

    def run(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """Decide; a polled step may say that it must wait. `job.updated_at` is now."""
        raise NotImplementedError

    def undo(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """Decide otherwise."""
        del tx, job
        return {}


class Claim(Decision):
    """Take the workload for this job: nobody else moves it until the job has ended.

    A claim raises the epoch, so that hosts refuse whatever an earlier job may still send them.
    """

    name = "claim"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """Find the workload by where it runs, or register it.

        Raises:
            ResourceBusy: `workload_busy`, another job works on this container.
        """
        host, container = str(job.request.source_host), str(job.request.container)
        workload = tx.workloads.find(host, job.request.namespace, container)
        if workload is None:
            workload = _register(tx, job, new_id(container), host, container)
        else:
            workload = tx.workloads.commit(workload.id, epoch=workload.epoch, owner_host=host)
        return {
            **_identity(workload),
            "checkpoint_workload": workload.id,
            "claimed_at": job.updated_at.isoformat(timespec="milliseconds"),
        }


class Commit(Decision):
    """Move the workload's owner and raise its epoch: from here on it is the target's."""

    name = "commit"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """One compare-and-set.

        Raises:
            PreconditionFailed: `commit_lost`, somebody else decided about this workload.
        """
        target = str(job.request.target_host)
        _forget_former(tx, job, target, str(job.request.container))
        return _identity(tx.workloads.commit(str(job.workload_id), epoch=job.epoch, owner_host=target))

    def undo(self, tx: Transaction, job: Job) -> Facts:
        """Give the workload back to the source under a still higher epoch; nothing if the commit was refused."""
        source = str(job.request.source_host)
        if tx.workloads.get(str(job.workload_id)).owner_host == source:
            return {}
        return _identity(tx.workloads.commit(str(job.workload_id), epoch=job.epoch, owner_host=source))


class Adopt(Decision):
    """Register the restored container as a workload of its own, owned by the target."""

    name = "adopt"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """Register it.

        Raises:
            ResourceBusy: `workload_busy`, another job works on a container of that name there.
            AlreadyExists: `original_runs`, under that name the original may run elsewhere.
        """
        host = str(job.request.target_host)
        name = job.request.new_name or str(job.facts["source_name"])
        with suppress(NotFound):  # it was removed from the catalogue since: what it was of is nobody's any more
            check_original_gone(tx, tx.checkpoints.get(str(job.request.checkpoint_id)), job.request.namespace, name)
        _forget_former(tx, job, host, name)
        return _identity(_register(tx, job, job.workload_id or new_id(name), host, name))

    def undo(self, tx: Transaction, job: Job) -> Facts:
        """Forget the workload: it never ran."""
        tx.workloads.remove(str(job.workload_id))
        return {}


class Attest(Decision):
    """Mark a checkpoint as proven: a drill has restored it, and its probe was content."""

    name = "attest"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """Write down when, and how long the restore took."""
        restore_s = restore_seconds(job)
        tx.checkpoints.record_drill(str(job.request.checkpoint_id), job.updated_at, restore_s=restore_s)
        return {"restore_s": restore_s}


def restore_seconds(job: Job) -> float | None:
    """From the begin of a restore's preparation until somebody saw the program run, by the controller's clock."""
    steps = {step.name: step for step in job.steps}
    begun, seen = steps["prepare"].started_at, steps["prove"].finished_at
    return (seen - begun).total_seconds() if begun and seen else None


def shut_out(tx: Transaction, job: Job) -> Job:
    """Raise the epoch when a job turns back, and when it passes its last way back.

    Hosts then refuse whatever of the part that is over may still be on its way to them, even after a restart.
    """
    if job.workload_id is None:
        return job
    try:
        workload = tx.workloads.get(job.workload_id)
    except NotFound:  # a restore that has not adopted it yet
        return replace(job, epoch=job.epoch + 1)
    if workload.epoch != job.epoch:  # somebody else decided about it: it is not ours
        return job
    raised = tx.workloads.commit(workload.id, epoch=job.epoch, owner_host=workload.owner_host)
    return replace(job, epoch=raised.epoch)


def catch_up(tx: Transaction, epochs: Mapping[str, int]) -> list[Workload]:
    """Raise workloads to the epochs that a host has seen of them, and return those that were raised.

    Hosts know higher ones only if the database was put back to an earlier state: without this they would refuse all
    that it says. What a job works on is left alone until it has ended.
    """
    raised = []
    for workload_id, epoch in epochs.items():
        with suppress(NotFound, PreconditionFailed):  # gone, or decided about just now
            known = tx.workloads.get(workload_id)
            if known.epoch < epoch and tx.jobs.active_for_workload(workload_id) is None:
                owner = known.owner_host
                raised.append(tx.workloads.commit(workload_id, epoch=known.epoch, owner_host=owner, next_epoch=epoch))
    return raised


OWNERSHIP: dict[str, Decision] = {decision.name: decision for decision in (Claim(), Commit(), Adopt(), Attest())}


def _register(tx: Transaction, job: Job, workload_id: str, host: str, container: str) -> Workload:
    workload = Workload(workload_id, job.request.namespace, container, host, job.epoch + 1)
    tx.workloads.add(workload)
    return workload


def _forget_former(tx: Transaction, job: Job, host: str, container: str) -> None:
    """Drop the record of a container of that name on the target: preflight has seen that it is gone."""
    former = tx.workloads.find(host, job.request.namespace, container)
    if former is None or former.id == job.workload_id:
        return
    holder = tx.jobs.active_for_workload(former.id)
    if holder is not None:
        raise ResourceBusy(
            f"job '{holder.id}' works on a container named '{container}'",
            code="workload_busy",
            host=host,
            remedy=f"wait for its end: migrator jobs watch {holder.id}",
        )
    tx.workloads.remove(former.id)


def _identity(workload: Workload) -> Facts:
    return {"workload_id": workload.id, "epoch": workload.epoch}
