"""Bring the container to life on the target, and prove it. A restore is a start: ownership was settled before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from migrator.containerd import (
    Container,
    ContainerdClient,
    PlainIO,
    ProcessState,
    RuncOptions,
    Stdio,
    Task,
    end_remains,
    read_record,
)
from migrator.criu.lazy.ending import end_server
from migrator.criu.lazy.journal import State
from migrator.criu.lazy.userfault import why_not
from migrator.criu.log import explain_failure
from migrator.errors import AlreadyExists, MigratorError, NotFound, PermanentError, PreconditionFailed
from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.models.streams import read_stdio
from migrator.models.values import Facts, TcpPolicy
from migrator.service.host import Act, Host, HostStep
from migrator.service.network.attachment import Attachment, pack_attachment, read_attachment
from migrator.service.preflight.arrival import restored_name, restored_snapshot_key, restored_volumes
from migrator.service.preflight.network import is_alone
from migrator.service.preflight.record import RECORD_LIMIT_BYTES, refuse_record
from migrator.service.records import without_foreign
from migrator.service.steps.arrivals import deliver_packets
from migrator.service.steps.criu_options import replayed_options, with_options
from migrator.service.steps.ending import delete_container, end_task
from migrator.service.steps.fetch import fetched_index
from migrator.service.steps.image import JOB_LABEL
from migrator.service.steps.interface import (
    TARGET_NETWORK,
    cut_off_restored,
    join_restored,
    waiting_interface,
    with_interface,
)
from migrator.service.steps.lazy import (
    EAGER,
    LAZY,
    LAZY_OPTION,
    RESTORED,
    WHY_EAGER,
    end_program,
    is_served,
    lost,
    prepare_server,
    show_images,
    state_of,
    wants_lazy,
    watch,
)
from migrator.service.steps.restarting import without_restart
from migrator.service.steps.restored_spec import Spec, alone, renamed, with_loopback, with_sources, with_sysctls
from migrator.service.steps.work import (
    image_directory,
    remove_work_directory,
    watching_criu,
    work_directory,
)
from migrator.storage.oci import CheckpointIndex, FactAnnotation

log = structlog.get_logger()
SEEN = {ProcessState.RUNNING: "done", ProcessState.CREATED: "absent", ProcessState.STOPPED: "absent"}
"""A task that was created and not started has run nothing; of the other states nothing can be concluded."""


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
            lazily = {RESTORED: LAZY} if is_served(host, act) else {}
            return {"pid": runtime.task(restored_name(act)).pid, **lazily}  # `prove` joins its network
        index = fetched_index(host, act)
        container = _read_record(host, runtime, index, act)
        io, waiting = _restored_io(index, act), read_attachment(act.facts.get(TARGET_NETWORK))

        def bring(options: tuple[str, ...]) -> tuple[Task, Attachment | None]:
            spec = _restorable(host, index, act, container.spec_json(), options)
            return bring_to_life(host, act, container, spec, io, waiting)

        task, interface, how = _bring_somehow(host, act, bring)
        return {"pid": task.pid, TARGET_NETWORK: pack_attachment(interface), **how}

    def undo(self, host: Host, act: Act) -> Facts:
        """Remove the restored task and container, if they are this job's."""
        runtime = host.runtime(act.request.namespace)
        name = restored_name(act)
        try:
            container = runtime.containers.get(name)
        except NotFound:
            return {}
        if container.labels.get(JOB_LABEL) != act.command.job_id:
            return {}
        cut_off_restored(act)
        end_task(runtime, name)
        end_remains(container, runtime.namespace)
        delete_container(runtime, name)
        remove_work_directory(host, act)
        return {}

    def observe(self, host: Host, act: Act) -> str:
        """Tell whether this job's container runs here."""
        runtime = host.runtime(act.request.namespace)
        try:
            container = runtime.containers.get(restored_name(act))
            task = runtime.task(container.id)
        except NotFound:
            return "absent"
        if container.labels.get(JOB_LABEL) != act.command.job_id:
            return "absent"
        return SEEN.get(task.status().state, "unknown")


class Prove(HostStep):
    """See the restored container running, by other eyes than those that started it."""

    name = "prove"

    def run(self, host: Host, act: Act) -> Facts:
        """Return how many processes run in it.

        Raises:
            PreconditionFailed: `ended_after_restore`, it ran here and ended since; `pages_lost`, it was ended because
                the rest of its memory could not come.
        """
        runtime = host.runtime(act.request.namespace)
        task = runtime.task(restored_name(act))
        status = task.status()
        if state_of(host, act) is State.LOST:
            raise lost(act)
        if status.state is not ProcessState.RUNNING:
            raise PreconditionFailed(
                f"container '{task.id}' was restored but is {status.state.value} (exit status {status.exit_status})",
                code="ended_after_restore",
                remedy="the program ended by itself after the move; the frozen source and the checkpoint are kept",
            )
        pids = [process.pid for process in task.pids()]
        alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not alive:
            raise PreconditionFailed(f"container '{task.id}' has no processes", code="ended_after_restore")
        join_restored(read_attachment(act.facts.get(TARGET_NETWORK)), task.pid)
        return {"processes": len(alive)}


def _bring_somehow(
    host: Host, act: Act, bring: Callable[[tuple[str, ...]], tuple[Task, Attachment | None]]
) -> tuple[Task, Attachment | None, Facts]:
    """Restore lazily if that is wanted; if it cannot be, or comes to nothing, with all of the memory at once."""
    why = why_not() if wants_lazy(act) else ""
    if wants_lazy(act) and not why:
        try:
            prepare_server(host, act)
            show_images(host, act)
            watch(host, act, partial(end_program, host, act))
            return (*bring((LAZY_OPTION,)), {RESTORED: LAZY})
        except (PermanentError, OSError) as error:  # an error from the start: the program ran nothing
            why = str(error)
            log.warning("not restored lazily", job=act.command.job_id, why=why)
    end_server(work_directory(host, act))
    return (*bring(()), {RESTORED: EAGER, **({WHY_EAGER: why} if why else {})})


def bring_to_life(
    host: Host, act: Act, container: Container, spec: Spec, io: PlainIO, waiting: Attachment | None
) -> tuple[Task, Attachment | None]:
    """Create a container and its task from this job's images, start it, and let it be reached.

    Args:
        host: This machine.
        act: Whose images they are.
        container: The record as it shall stay.
        spec: The spec with what only the restore needs.
        io: Where its output goes.
        waiting: The interface that it gets, as it was prepared.

    Returns:
        The task, and the interface as it came out.

    Raises:
        WorkloadFailed: CRIU could not restore; nothing of the program has run here.
    """
    runtime = host.runtime(act.request.namespace)
    interface = waiting_interface(host, act, waiting)
    _create(runtime, container, with_sysctls(with_interface(host, act, spec, interface)))
    try:
        with watching_criu(host, act):
            task = _start(host, runtime, act, container, io)
    except MigratorError as error:
        log = work_directory(host, act) / "restore.log"
        raise explain_failure("restore", container.id, error, log) from error
    join_restored(interface, task.pid)
    deliver_packets(act, interface, image_directory(host, act))
    return task, interface


def _read_record(host: Host, runtime: ContainerdClient, index: CheckpointIndex, act: Act) -> Container:
    """Read the container as its source knew it, under the name and snapshot that it gets here.

    Raises:
        IntegrityError: `bad_container_record`.
        PreconditionFailed: It asks for what no checkpoint of ours does; see `records`.
    """
    data = runtime.content.read_all(index.part(Role.CONTAINER).digest, RECORD_LIMIT_BYTES)
    known, name = read_record(data), restored_name(act)
    refuse_record(act, known)
    if act.request.kind is not JobKind.MIGRATION:
        known = without_foreign(known)
    spec = with_sources(renamed(known.spec_json(), known.id, name), restored_volumes(act, host))
    if is_alone(act.request):
        spec = alone(spec, None)
    return replace(
        known,
        id=name,
        spec=Container.pack_spec(spec),
        snapshot_key=restored_snapshot_key(act),
        labels={**without_restart(known.labels), JOB_LABEL: act.command.job_id},
    )


def _restored_io(index: CheckpointIndex, act: Act) -> PlainIO:
    """Log files and log programs go on here; a FIFO's reader stayed behind, so what it was for goes nowhere.

    What a drill says is of no use to anybody, and must not come into the container's own log.
    """
    if act.request.kind is JobKind.DRILL:
        return PlainIO(Stdio())
    names = read_stdio(index.told(FactAnnotation.STDIO))
    return streams_of(Stdio(stdout=str(names.get("stdout", "")), stderr=str(names.get("stderr", ""))))


def streams_of(known: Stdio) -> PlainIO:
    """Where the output of a restored task goes: log files and log programs go on, of a FIFO nobody reads any more."""
    stdout, stderr = known.stdout, known.stderr
    return PlainIO(Stdio(stdout=stdout if "://" in stdout else "", stderr=stderr if "://" in stderr else ""))


def _restorable(host: Host, index: CheckpointIndex, act: Act, spec: Spec, more: tuple[str, ...] = ()) -> Spec:
    """The spec with what only the restore needs: a hook, and what CRIU is told; `more` are options of this attempt."""
    tcp = TcpPolicy.CLOSE if is_alone(act.request) else act.request.tcp
    options = replayed_options(index.told(FactAnnotation.CRIU_OPTIONS), tcp)
    if is_alone(act.request):
        spec = alone(spec, read_attachment(index.told(FactAnnotation.NETWORK)))
    return with_options(with_loopback(spec), options, work_directory(host, act) / "criu.conf", more)


def _create(runtime: ContainerdClient, container: Container, spec: Spec) -> None:
    """Write the record with the spec that the restore needs; `_start` puts the container's own in its place."""
    hooked = replace(container, spec=Container.pack_spec(spec))
    try:
        runtime.containers.create(hooked)
    except AlreadyExists:
        if runtime.containers.get(container.id).labels.get(JOB_LABEL) != container.labels[JOB_LABEL]:
            raise
        runtime.containers.update(hooked, "spec")


def _start(host: Host, runtime: ContainerdClient, act: Act, container: Container, io: PlainIO) -> Task:
    end_task(runtime, container.id)  # what a former attempt may have left half-made
    end_remains(container, runtime.namespace)
    options = RuncOptions()
    if container.runtime_options is not None:
        options.ParseFromString(container.runtime_options.value)
    options.criu_image_path = str(image_directory(host, act))
    options.criu_work_path = str(work_directory(host, act))
    task = runtime.create_task(
        container.id,
        rootfs=runtime.snapshots(container.snapshotter).mounts(container.snapshot_key),
        io=io,
        options=options,
    )
    runtime.containers.update(container, "spec")  # the runtime has its copy by now
    task.start()
    return task
