"""Set aside what runs, so that an old checkpoint of it can be restored in its place; and let go of it once that runs.

The container's record is kept under another name while its own is given away: it holds the rw snapshot, survives a
reboot, and says by being there that the original is out of its place. Its memory lies in the images that the job has
dumped, and sealed in the object store.

Ended is ended: a mark is put on the record before the first process is killed. Whoever finds it there brings the
program back from the images; whoever does not finds it frozen and whole.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from migrator.containerd import Container, ContainerdClient, PlainIO, ProcessState, Stdio, end_remains
from migrator.errors import AlreadyExists, MigratorError, NotFound, PermanentError, PreconditionFailed, ResourceBusy
from migrator.models.values import Facts
from migrator.service.catalogue import NOT_BROUGHT_BACK
from migrator.service.guards import started_ticks
from migrator.service.host import Act, Host, HostStep
from migrator.service.network.attachment import read_attachment
from migrator.service.rewinding import as_target
from migrator.service.steps.criu_options import read_options, with_options
from migrator.service.steps.ending import delete_container, end_task
from migrator.service.steps.freeze import PATIENT_ATTEMPTS, check_paused
from migrator.service.steps.image import JOB_LABEL, drop_lease
from migrator.service.steps.interface import detach_source, drop_interface, join_restored, leave_room
from migrator.service.steps.restarting import without_restart
from migrator.service.steps.restore import bring_to_life, streams_of
from migrator.service.steps.restored_spec import with_loopback
from migrator.service.steps.work import image_directory, remove_work_directory, work_directory


class Displace(HostStep):
    """End the frozen original and give its name free. Undo: bring it back from the images of its dump."""

    name = "displace"

    def run(self, host: Host, act: Act) -> Facts:
        """Set the record aside, then end the task, then delete the record under its own name.

        Raises:
            PreconditionFailed: `images_gone`, nothing could bring it back; `guard_resumed`, it is not frozen any more.
        """
        runtime, name = host.runtime(act.request.namespace), str(act.request.container)
        _note_whole(host, act)
        container = _find(runtime, name)
        if container is None and _find(runtime, _aside(act)) is not None:
            return {}
        if container is None or str(container.created_at) != act.facts["source_created_at"]:
            raise PreconditionFailed(f"container '{name}' is not the one that was frozen", code="container_changed")
        if container.labels.get(JOB_LABEL) != _aside(act):
            check_paused(runtime.task(name))
            _set_aside(runtime, container, act)
        _end(runtime, container, act)
        runtime.containers.delete(name)
        return {}

    def undo(self, host: Host, act: Act) -> Facts:
        """Bring the original back, unless it never left.

        Where its images are gone with a reboot, or CRIU cannot restore them, its record and files are put back, and
        the sealed checkpoint is its last copy.

        Returns:
            When the first process of what runs now began: it is another one than was frozen.
        """
        runtime, name = host.runtime(act.request.namespace), str(act.request.container)
        aside, fault = _find(runtime, _aside(act)), ""
        if aside is not None:
            container = _find(runtime, name)
            if container is None or container.labels.get(JOB_LABEL) in (_aside(act), act.command.job_id):
                fault = _bring_back(host, act, runtime, aside)
            with suppress(NotFound):
                runtime.containers.delete(aside.id)  # its snapshot is the original's again
        return {**_begun(runtime, name), **({NOT_BROUGHT_BACK: fault} if fault else {})}


class RemoveDisplaced(HostStep):
    """Let go of the original, which is sealed and in the catalogue, once its successor was seen."""

    name = "remove-displaced"

    def run(self, host: Host, act: Act) -> Facts:
        """Remove record and snapshot, send the guard away, give back the lease and remove CRIU's files."""
        runtime = host.runtime(act.request.namespace)
        delete_container(runtime, _aside(act))
        host.guards.release(act.command.job_id)
        drop_lease(runtime, act.lease_id)
        remove_work_directory(host, act)
        return {}


def _bring_back(host: Host, act: Act, runtime: ContainerdClient, aside: Container) -> str:
    """Let the original be in its place again; return why it does not run there, empty if it does."""
    name = str(act.request.container)
    drop_interface(host, as_target(act))  # what took its place may have had its address
    own = {label: value for label, value in aside.labels.items() if label != JOB_LABEL}
    record = replace(aside, id=name, labels={**own, JOB_LABEL: act.command.job_id})
    fault = "" if _runs(runtime, record) else _revive(host, act, runtime, record)
    if not fault:
        _join(host, act, runtime)
    with suppress(AlreadyExists):
        runtime.containers.create(record)  # a container without its program: its files are there
    runtime.containers.update(replace(record, labels=own), "labels")
    return fault


def _revive(host: Host, act: Act, runtime: ContainerdClient, record: Container) -> str:
    """Restore the original from the images of its dump; return why that cannot be, empty if it runs.

    Raises:
        ResourceBusy: `not_brought_back`, CRIU has failed; it is tried some times.
    """
    _clear(runtime, record)
    drop_interface(host, act)  # of a former attempt: it may wait for a container that never came
    detach_source(act, None)
    if not _is_whole(host, act):
        return "its images are gone, as after a reboot"
    options = read_options(act.facts["criu_options"])
    spec = with_options(with_loopback(record.spec_json()), options, work_directory(host, act) / "criu.conf")
    attachment = read_attachment(act.facts.get("network"))
    waiting = replace(attachment, host_link="") if attachment else None
    try:
        bring_to_life(host, act, record, spec, _streams(act), waiting)
    except PermanentError as error:
        if act.command.attempt < PATIENT_ATTEMPTS or _runs(runtime, record):
            raise ResourceBusy(
                f"container '{record.id}' could not be brought back yet: {error.message}", code="not_brought_back"
            ) from error
        _clear(runtime, record)
        drop_interface(host, act)
        return error.message
    return ""


def _join(host: Host, act: Act, runtime: ContainerdClient) -> None:
    """Let it be reached, also if a former attempt got no further than its start; one that has ended needs nothing."""
    attachment = read_attachment(act.facts.get("network"))
    with suppress(NotFound):
        join_restored(attachment, runtime.task(str(act.request.container)).pid)
    leave_room(host, act, attachment)


def _runs(runtime: ContainerdClient, record: Container) -> bool:
    """Whether a former attempt has brought it back.

    Raises:
        ResourceBusy: `task_unclear`, nobody can tell yet.
    """
    found = _find(runtime, record.id)
    if found is None or found.labels.get(JOB_LABEL) != record.labels[JOB_LABEL]:
        return False
    try:
        state = runtime.task(record.id).status().state
    except NotFound:
        return False
    if state not in (ProcessState.RUNNING, ProcessState.CREATED, ProcessState.STOPPED):
        raise ResourceBusy(f"the task of container '{record.id}' is {state.value}", code="task_unclear")
    return state is ProcessState.RUNNING


def _set_aside(runtime: ContainerdClient, container: Container, act: Act) -> None:
    """Write the record under the other name, then mark the original: from here on its task counts as ended."""
    labels = {**without_restart(container.labels), JOB_LABEL: _aside(act)}
    with suppress(AlreadyExists):
        runtime.containers.create(replace(container, id=_aside(act), labels=labels))
    runtime.containers.update(replace(container, labels=labels), "labels")


def _end(runtime: ContainerdClient, container: Container, act: Act) -> None:
    """End the task and give its network back, which the successor gets."""
    with suppress(MigratorError, OSError):  # it is tried again below; the task must not wait for it
        detach_source(act, runtime.task(container.id).pid)
    end_task(runtime, container.id)
    end_remains(container, runtime.namespace)
    detach_source(act, None)


def _clear(runtime: ContainerdClient, record: Container) -> None:
    """End what is half ended or half restored under the name, and delete its record; the snapshot stays."""
    end_task(runtime, record.id)
    end_remains(record, runtime.namespace)
    with suppress(NotFound):
        runtime.containers.delete(record.id)


def _begun(runtime: ContainerdClient, name: str) -> Facts:
    try:
        return {"source_started": started_ticks(runtime.task(name).pid)}
    except NotFound:
        return {}


def _streams(act: Act) -> PlainIO:
    names = act.facts.get("stdio") or {}
    return streams_of(Stdio(stdout=str(names.get("stdout", "")), stderr=str(names.get("stderr", ""))))


def _note_whole(host: Host, act: Act) -> None:
    """Note where a reboot forgets it that the images are whole: what is on a disk after one may not be.

    Raises:
        PreconditionFailed: `images_gone`.
    """
    if not image_directory(host, act).is_dir():
        raise PreconditionFailed(f"the images of container '{act.request.container}' are gone", code="images_gone")
    _note(host, act).touch(mode=0o600)


def _is_whole(host: Host, act: Act) -> bool:
    return _note(host, act).exists() and image_directory(host, act).is_dir()


def _note(host: Host, act: Act) -> Path:
    return work_directory(host, act) / "whole"


def _aside(act: Act) -> str:
    """What the original's record is called while its name is another's; also the mark of one that may be ended."""
    return f"{act.command.job_id}-displaced"


def _find(runtime: ContainerdClient, name: str) -> Container | None:
    try:
        return runtime.containers.get(name)
    except NotFound:
        return None
