"""Dump the frozen task: memory by CRIU, changed files by the differ, and the container's own record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from migrator.containerd import CheckpointOptions, Container, ContainerdClient, Task
from migrator.criu.log import explain_failure
from migrator.errors import MigratorError
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.values import Facts
from migrator.service.container_record import CONTAINER_MEDIA_TYPE, encode_container
from migrator.service.host import Act, Host, HostStep
from migrator.service.steps.image import drop_lease, ensure_lease
from migrator.storage.oci import Role, with_role


class Dump(HostStep):
    """Write the parts of the checkpoint into the content store, under the job's lease."""

    name = "dump"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the descriptors of the parts, each with its role.

        Raises:
            WorkloadFailed: CRIU refused; the message carries its cause and remedy. The source is unharmed.
        """
        runtime = host.runtime(act.request.namespace)
        ensure_lease(runtime, act.lease_id)
        leased = runtime.with_lease(act.lease_id)
        container = leased.containers.get(str(act.request.container))
        task = leased.task(container.id)
        parts = [
            *_dump_memory(task, work_directory(host, act)),
            _write_record(leased, container, task, act),
            _dump_files(leased, container),
        ]
        act.check_aborted()
        return {"parts": [part.to_oci() for part in parts]}

    def undo(self, host: Host, act: Act) -> None:
        """Give up the lease, so that containerd collects the parts, and remove CRIU's work files."""
        drop_lease(host.runtime(act.request.namespace), act.lease_id)
        remove_work_directory(host, act)


def work_directory(host: Host, act: Act) -> Path:
    """Where CRIU leaves its log; the shim would remove it otherwise."""
    directory = host.settings.run_dir / "criu" / act.command.job_id
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def remove_work_directory(host: Host, act: Act) -> None:
    """Remove what CRIU left for this job."""
    shutil.rmtree(host.settings.run_dir / "criu" / act.command.job_id, ignore_errors=True)


def _dump_memory(task: Task, work_path: Path) -> list[Descriptor]:
    try:
        return task.checkpoint_memory(CheckpointOptions(work_path=str(work_path)))
    except MigratorError as error:
        raise explain_failure("checkpoint", task.id, error, work_path / "dump.log") from error


def _dump_files(runtime: ContainerdClient, container: Container) -> Descriptor:
    diff = runtime.diff_snapshot(container.snapshotter, container.snapshot_key)
    return with_role(diff, Role.RW_DIFF)


def _write_record(runtime: ContainerdClient, container: Container, task: Task, act: Act) -> Descriptor:
    """Store the container's own record; it may hold secrets, so it goes where the memory goes and nowhere else."""
    record = json.dumps(encode_container(container, task.stdio()), sort_keys=True).encode()
    digest = digest_bytes(record)
    runtime.content.write(f"{act.lease_id}-container", [record], size_bytes=len(record), digest=digest)
    return with_role(Descriptor(CONTAINER_MEDIA_TYPE, digest, len(record)), Role.CONTAINER)
