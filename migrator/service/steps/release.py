"""Remove the frozen source once its successor was seen, and let go of what a job held on a host."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from migrator.containerd import ContainerdClient
from migrator.errors import MigratorError, NotFound
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep
from migrator.service.network.attachment import read_attachment
from migrator.service.preflight.arrival import restored_name
from migrator.service.steps.ending import delete_container, end_task
from migrator.service.steps.image import JOB_LABEL, drop_lease
from migrator.service.steps.interface import TARGET_NETWORK, detach_source, join_restored, leave_room
from migrator.service.steps.restarting import with_restart
from migrator.service.steps.volumes import places_of
from migrator.service.steps.work import remove_work_directory


class Remove(HostStep):
    """End the frozen source without one more line of it being run, and remove all that it had on this host."""

    name = "remove"

    def run(self, host: Host, act: Act) -> Facts:
        """Remove task, container, snapshot, lease and CRIU's files, then send the guard away."""
        runtime = host.runtime(act.request.namespace)
        name = str(act.request.container)
        if _is_still_there(runtime, name, act):
            with suppress(MigratorError, OSError):  # it is tried again below; the task must not wait for it
                detach_source(act, _task_pid(runtime, name))
            end_task(runtime, name)
            delete_container(runtime, name)
        detach_source(act, None)
        host.guards.release(act.command.job_id)
        host.packets.drop(act.command.job_id)
        _let_go(host, act)
        return {}


class ReleaseSource(HostStep):
    """Let go of what a checkpoint left on its host."""

    name = "release-source"

    def run(self, host: Host, act: Act) -> Facts:
        """Give the lease back, so that containerd collects the parts."""
        _let_go(host, act)
        return {}


class ReleaseTarget(HostStep):
    """Let go of what the restore no longer needs; the container stands on its own from now on."""

    name = "release-target"

    def run(self, host: Host, act: Act) -> Facts:
        """Take the job's mark off the container and its volumes, and give the lease back."""
        runtime = host.runtime(act.request.namespace)
        try:
            container = runtime.containers.get(restored_name(act))
            if container.labels.get(JOB_LABEL) == act.command.job_id:
                labels = {key: value for key, value in container.labels.items() if key != JOB_LABEL}
                labels = with_restart(labels)
                runtime.containers.update(replace(container, labels=labels), "labels")
        except NotFound:
            pass  # it ended and somebody removed it meanwhile: theirs to decide
        places_of(host, act).hand_over()
        if (pid := _task_pid(runtime, restored_name(act))) is not None:
            with suppress(MigratorError, OSError):  # the proof has joined it, unless an operator's word stands for that
                join_restored(read_attachment(act.facts.get(TARGET_NETWORK)), pid)
        leave_room(host, act, read_attachment(act.facts.get(TARGET_NETWORK)))
        _let_go(host, act)
        return {}


def _is_still_there(runtime: ContainerdClient, name: str, act: Act) -> bool:
    """Whether the container is the one that was frozen, and not a later one of that name."""
    try:
        return bool(str(runtime.containers.get(name).created_at) == act.facts["source_created_at"])
    except NotFound:
        return False


def _task_pid(runtime: ContainerdClient, name: str) -> int | None:
    try:
        return runtime.task(name).pid or None
    except NotFound:
        return None


def _let_go(host: Host, act: Act) -> None:
    drop_lease(host.runtime(act.request.namespace), act.lease_id)
    remove_work_directory(host, act)
