"""Bring a sealed checkpoint to the target: every digest verified, imported under the job's lease, files applied."""

from __future__ import annotations

from migrator.containerd import ContainerdClient
from migrator.errors import IntegrityError
from migrator.models.descriptors import Descriptor
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.steps.image import drop_snapshot, ensure_lease
from migrator.service.steps.inspect_target import restored_snapshot_key
from migrator.storage.checkpoints import CheckpointIndex
from migrator.storage.oci import Role

WANTED = (Role.RW_DIFF, Role.MEMORY, Role.CONTAINER)


class Fetch(HostStep):
    """Import the parts and put the changed files into the container's snapshot."""

    name = "fetch"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the bytes fetched.

        Raises:
            IntegrityError: A blob is not what its digest says, or the index is not the one that was sealed.
        """
        runtime = host.runtime(act.request.namespace)
        ensure_lease(runtime, act.lease_id)
        leased = runtime.with_lease(act.lease_id)
        index = sealed_index(host, act)
        parts = [index.part(role) for role in WANTED]
        total_bytes, done_bytes = sum(part.size_bytes for part in parts), 0
        for part in parts:
            done_bytes += _import(host, leased, act, part, done_bytes, total_bytes)
        leased.diffs.apply(index.part(Role.RW_DIFF), leased.snapshots(_snapshotter(act)).mounts(_key(act)))
        return {"downloaded_bytes": done_bytes}

    def undo(self, host: Host, act: Act) -> None:
        """Drop the snapshot that holds half of the files; the lease goes with the undo of `prepare`."""
        drop_snapshot(host.runtime(act.request.namespace), act)


def sealed_index(host: Host, act: Act) -> CheckpointIndex:
    """Read the checkpoint's index and hold it against the digest that was sealed.

    Raises:
        IntegrityError: `index_changed`, the store holds another index than the one that was sealed.
    """
    command = act.command
    index = host.checkpoints.read_index(str(act.facts["checkpoint_workload"]), str(command.checkpoint_id))
    if index.digest != act.facts["index_digest"]:
        raise IntegrityError(
            f"the index of checkpoint {command.checkpoint_id} is not the one that was sealed",
            code="index_changed",
            remedy="somebody changed the object store; take a new checkpoint",
        )
    return index


def _import(
    host: Host, runtime: ContainerdClient, act: Act, part: Descriptor, before_bytes: int, total_bytes: int
) -> int:
    done_bytes = before_bytes

    def count(size_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += size_bytes
        act.progress(done_bytes, total_bytes)

    runtime.content.write(
        f"{act.lease_id}-{part.digest}",
        host.checkpoints.get_blob(part.digest, part.size_bytes, on_progress=count),
        size_bytes=part.size_bytes,
        digest=part.digest,
    )
    return part.size_bytes


def _snapshotter(act: Act) -> str:
    return str(act.facts["snapshot"]["snapshotter"])


def _key(act: Act) -> str:
    return restored_snapshot_key(act)
