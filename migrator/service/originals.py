"""Whether a program that a checkpoint was taken of still lives: then nobody may run another one under its name.

The program is whatever goes on with the workload: the container itself, or what was restored under its name since,
whichever generation the checkpoint is of (`models.generations`).
"""

from __future__ import annotations

from migrator.errors import AlreadyExists
from migrator.models.generations import family_of
from migrator.models.session import Transaction
from migrator.models.values import Checkpoint, ContainerView, Workload

DEAD = ("stopped", "none")
"""What containerd says of a task that has ended, or of a container without one; all else may run."""


def generations(tx: Transaction, workload_id: str, namespace: str, name: str) -> list[Workload]:
    """The workloads of a name, on any host, of one family: a workload's own record, and what goes on with it."""
    family = family_of(workload_id)
    return [found for found in tx.workloads.named(namespace, name) if family_of(found.id) == family]


def current_generation(tx: Transaction, workload_id: str, namespace: str, name: str) -> Workload | None:
    """The one that is there: whose container its host has seen; else the workload itself, else any of its family."""
    known = generations(tx, workload_id, namespace, name)
    there = [workload for workload in known if _view(tx, workload) is not None]
    own = [workload for workload in known if workload.id == workload_id]
    return next(iter((*there, *own, *known)), None)


def check_original_gone(tx: Transaction, checkpoint: Checkpoint, namespace: str, name: str) -> None:
    """Refuse to restore under a name whose original may run: two of one name would be two copies of one program.

    Raises:
        AlreadyExists: `original_runs`.
    """
    for workload in generations(tx, checkpoint.workload_id, namespace, name):
        original = _view(tx, workload)
        if original is not None and original.status not in DEAD:
            raise AlreadyExists(
                f"container '{name}' of checkpoint {checkpoint.id} is {original.status} on host '{original.host}'",
                code="original_runs",
                host=original.host,
                remedy="restore under another name (--name), in its place (--replace), or remove it first; "
                f"if '{original.host}' is gone for good: migrator hosts remove {original.host} --gone",
            )


def _view(tx: Transaction, workload: Workload) -> ContainerView | None:
    """The container of a workload as its host saw it last."""
    place = (workload.owner_host, workload.namespace, workload.container)
    views = tx.hosts.containers(workload.owner_host)
    return next((view for view in views if (view.host, view.namespace, view.name) == place), None)
