"""Bring the container to life on the target, and prove it. A restore is a start: ownership was settled before."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from migrator.containerd import (
    Container,
    ContainerdClient,
    ProcessState,
    RuntimeOptions,
    Stdio,
    Task,
    io_for_restore,
)
from migrator.criu.log import explain_failure
from migrator.errors import AlreadyExists, MigratorError, NotFound, PreconditionFailed
from migrator.models.values import Facts
from migrator.service.container_record import RECORD_LIMIT_BYTES, decode_container
from migrator.service.host import Act, Host, HostStep
from migrator.service.steps.dump import work_directory
from migrator.service.steps.fetch import sealed_index
from migrator.service.steps.image import JOB_LABEL
from migrator.service.steps.inspect_target import restored_name, restored_snapshot_key
from migrator.storage.oci import Role

END_S = 10.0


class Restore(HostStep):
    """Create the container and its task from the checkpoint, and start it."""

    name = "restore"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the pid of the restored task.

        Raises:
            WorkloadFailed: CRIU could not restore; nothing of the program has run here.
        """
        runtime = host.runtime(act.request.namespace).with_lease(act.lease_id)
        if self.observe(host, act) == "done":
            return {"pid": runtime.task(restored_name(act)).pid}
        container, stdio = _read_record(host, runtime, act)
        _create(runtime, container)
        work_path = work_directory(host, act)
        try:
            task = _start(host, runtime, act, container, stdio, work_path)
        except MigratorError as error:
            raise explain_failure("restore", container.id, error, work_path / "restore.log") from error
        return {"pid": task.pid}

    def undo(self, host: Host, act: Act) -> None:
        """Remove the restored task and container, if they are this job's."""
        runtime = host.runtime(act.request.namespace)
        name = restored_name(act)
        try:
            container = runtime.containers.get(name)
        except NotFound:
            return
        if container.labels.get(JOB_LABEL) != act.command.job_id:
            return
        end_task(runtime, name)
        delete_container(runtime, name)

    def observe(self, host: Host, act: Act) -> str:
        """Tell whether this job's container runs here."""
        runtime = host.runtime(act.request.namespace)
        try:
            container = runtime.containers.get(restored_name(act))
            task = runtime.task(container.id)
        except NotFound:
            return "absent"
        mine = container.labels.get(JOB_LABEL) == act.command.job_id
        state = task.status().state
        return "done" if mine and state is ProcessState.RUNNING else "absent"


class Prove(HostStep):
    """See the restored container running, by other eyes than those that started it."""

    name = "prove"

    def run(self, host: Host, act: Act) -> Facts:
        """Return how many processes run in it.

        Raises:
            PreconditionFailed: `ended_after_restore`, it ran here and ended since.
        """
        runtime = host.runtime(act.request.namespace)
        task = runtime.task(restored_name(act))
        status = task.status()
        if status.state is not ProcessState.RUNNING:
            raise PreconditionFailed(
                f"container '{task.id}' was restored but is {status.state.value} now (exit status {status.exit_status})",
                code="ended_after_restore",
                remedy="the program ended by itself after the move; the frozen source and the checkpoint are kept",
            )
        pids = [process.pid for process in task.pids()]
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not alive:
            raise PreconditionFailed(f"container '{task.id}' has no processes", code="ended_after_restore")
        return {"processes": len(alive)}


def end_task(runtime: ContainerdClient, container: str) -> None:
    """End a task without letting its program run one more line, and delete it; an absent one is fine."""
    try:
        task = runtime.task(container)
        if task.status().state is not ProcessState.STOPPED:
            task.kill(signal.SIGKILL, all=True)
            task.wait(timeout_s=END_S)
        task.delete()
    except NotFound:
        return


def delete_container(runtime: ContainerdClient, name: str) -> None:
    """Delete a container's record and its snapshot; absent ones are fine."""
    try:
        container = runtime.containers.get(name)
        runtime.containers.delete(name)
    except NotFound:
        return
    try:
        runtime.snapshots(container.snapshotter).remove(container.snapshot_key)
    except NotFound:
        return


def _read_record(host: Host, runtime: ContainerdClient, act: Act) -> tuple[Container, Stdio]:
    part = sealed_index(host, act).part(Role.CONTAINER)
    data = json.loads(runtime.content.read_all(part.digest, RECORD_LIMIT_BYTES))
    container, stdio = decode_container(data, name=restored_name(act), snapshot_key=restored_snapshot_key(act))
    labels = {**container.labels, JOB_LABEL: act.command.job_id}
    return container.relabelled(labels), stdio


def _create(runtime: ContainerdClient, container: Container) -> None:
    try:
        runtime.containers.create(container)
    except AlreadyExists:
        if runtime.containers.get(container.id).labels.get(JOB_LABEL) != container.labels[JOB_LABEL]:
            raise


def _start(
    host: Host, runtime: ContainerdClient, act: Act, container: Container, stdio: Stdio, work_path: Path
) -> Task:
    end_task(runtime, container.id)  # what a former attempt may have left half-made
    task = runtime.create_task(
        container.id,
        rootfs=runtime.snapshots(container.snapshotter).mounts(container.snapshot_key),
        io=io_for_restore(stdio),
        checkpoint=sealed_index(host, act).part(Role.MEMORY),
        options=RuntimeOptions.for_restore(container.runtime_options, criu_work_path=str(work_path)),
    )
    task.start()
    return task
