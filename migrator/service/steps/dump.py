"""Dump the frozen task: memory by CRIU, changed files by the differ, and the container's own record."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from migrator.containerd import (
    CheckpointOptions,
    Descriptor,
    Task,
    diff_snapshot,
    write_container,
    write_runtime_options,
)
from migrator.criu.log import explain_failure
from migrator.errors import MigratorError
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.steps.image import drop_lease, ensure_lease
from migrator.service.steps.work import remove_work_directory, work_directory


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
            write_container(leased, container),
            write_runtime_options(leased, container),
            diff_snapshot(leased, container.snapshotter, container.snapshot_key),
        ]
        act.check_aborted()
        return {"parts": [part.to_oci() for part in parts if part], "stdio": asdict(task.stdio())}

    def undo(self, host: Host, act: Act) -> None:
        """Give up the lease, so that containerd collects the parts, and remove CRIU's work files."""
        drop_lease(host.runtime(act.request.namespace), act.lease_id)
        remove_work_directory(host, act)


def _dump_memory(task: Task, work_path: Path) -> list[Descriptor]:
    try:
        return task.checkpoint_memory(CheckpointOptions(work_path=str(work_path)))
    except MigratorError as error:
        raise explain_failure("checkpoint", task.id, error, work_path / "dump.log") from error
