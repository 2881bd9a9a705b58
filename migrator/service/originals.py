"""Whether the program that a checkpoint was taken of still lives: then nobody may run another one under its name."""

from __future__ import annotations

from migrator.errors import AlreadyExists, NotFound
from migrator.models.session import Transaction
from migrator.models.values import Checkpoint, ContainerView

DEAD = ("stopped", "none")
"""What containerd says of a task that has ended, or of a container without one; all else may run."""


def find_original(tx: Transaction, checkpoint: Checkpoint) -> ContainerView | None:
    """The container that a checkpoint was taken of, wherever its workload is, as its host saw it last."""
    try:
        workload = tx.workloads.get(checkpoint.workload_id)
    except NotFound:
        return None
    place = (workload.owner_host, workload.namespace, workload.container)
    return next(
        (view for view in tx.hosts.containers(workload.owner_host) if (view.host, view.namespace, view.name) == place),
        None,
    )


def check_original_gone(tx: Transaction, checkpoint: Checkpoint, namespace: str, name: str) -> None:
    """Refuse to restore under a name whose original may run: two of one name would be two copies of one program.

    Raises:
        AlreadyExists: `original_runs`.
    """
    original = find_original(tx, checkpoint)
    if original is None or original.status in DEAD or (original.namespace, original.name) != (namespace, name):
        return
    raise AlreadyExists(
        f"container '{name}' of checkpoint {checkpoint.id} is {original.status} on host '{original.host}'",
        code="original_runs",
        host=original.host,
        remedy="restore under another name (--name), in its place (--replace), or remove it first; "
        f"if '{original.host}' is gone for good: migrator hosts remove {original.host} --gone",
    )
