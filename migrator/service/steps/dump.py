"""Dump the frozen task: memory by CRIU, changed files by the differ, and the container's own record."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from migrator.containerd import (
    CheckpointOptions,
    Descriptor,
    Task,
    diff_snapshot,
    with_role,
    write_container,
    write_runtime_options,
    write_spec,
)
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY
from migrator.criu.images import pack_images
from migrator.criu.log import explain_failure
from migrator.criu.timers import wake_timers
from migrator.errors import MigratorError
from migrator.models.phase import JobKind
from migrator.models.values import Facts, TcpPolicy
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.programs import refuse_executed
from migrator.service.steps.arrivals import keep_packets
from migrator.service.steps.chunked import travels_chunked
from migrator.service.steps.criu_options import CriuOptions, options_to_replay, usual_file_counts
from migrator.service.steps.freeze import check_still_frozen, resume
from migrator.service.steps.image import drop_lease, ensure_lease
from migrator.service.steps.restarting import with_restart
from migrator.service.steps.streams import await_drained
from migrator.service.steps.volumes import packing_volumes
from migrator.service.steps.work import (
    end_job_criu,
    new_image_directory,
    remove_work_directory,
    watching_criu,
    work_directory,
)


class Dump(HostStep):
    """Write the parts of the checkpoint: memory images into a directory, the rest into the content store, leased."""

    name = "dump"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the descriptors of the parts, each with its role.

        Raises:
            WorkloadFailed: CRIU refused; the message carries its cause and remedy. The source is unharmed.
            PreconditionFailed: `guard_resumed`, the task ran on during the dump; `volume_changing` and the like.
        """
        runtime, began = host.runtime(act.request.namespace), time.monotonic()
        ensure_lease(runtime, act.lease_id)
        leased = runtime.with_lease(act.lease_id)
        container = leased.containers.get(str(act.request.container))
        task = leased.task(container.id)
        refuse_executed(task)
        await_drained(task, act.facts.get("stdio") or {})
        images = new_image_directory(host, act, int(act.facts["memory_bytes"]) + int(act.facts.get("volume_bytes", 0)))
        options = CriuOptions(
            tcp=TcpPolicy.KEEP if act.facts.get("dumps_connections") else TcpPolicy.REFUSE,
            external_unix=act.request.external_unix_sockets,
        )
        images.mkdir(mode=0o700)
        runs_on = act.request.kind is JobKind.BACKUP
        with ThreadPoolExecutor(1) as beside, packing_volumes(host, act) as volumes:
            diff = beside.submit(diff_snapshot, leased, container.snapshotter, container.snapshot_key)
            with usual_file_counts(task.pid, container.spec_json(), host.settings.run_dir / "criu"):
                _dump_memory(host, act, task, images, options)
            changed = [diff.result(), *volumes.result()]
            if runs_on:
                check_still_frozen(host, act, task)
                resume(host, act)  # `thaw` would, one message later; what follows needs no frozen task
            thawed_after_s = time.monotonic() - began
            wake_timers(images)
            parts = [
                None if travels_chunked(act) else describe_images(images),  # else the upload reads them
                write_spec(leased, container),
                write_container(leased, replace(container, labels=with_restart(container.labels))),
                write_runtime_options(leased, container),
                *changed,
            ]
        act.check_aborted()
        if not runs_on:
            check_still_frozen(host, act, task)
        keep_packets(host, act, images)
        return {
            "parts": [part.to_oci() for part in parts if part],
            "stdio": asdict(task.stdio()),
            "criu_options": options_to_replay(options, images),
            **({"thawed_after_s": thawed_after_s} if runs_on else {}),
        }

    def undo(self, host: Host, act: Act) -> Facts:
        """Give up the lease, so that containerd collects the parts, and remove CRIU's files."""
        drop_lease(host.runtime(act.request.namespace), act.lease_id)
        remove_work_directory(host, act)
        return {}


def describe_images(directory: Path) -> Descriptor:
    """Describe CRIU's images as the tar that they travel as."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pack_images(directory):
        digest.update(piece)
        size_bytes += len(piece)
    return with_role(Descriptor(CHECKPOINT_MEMORY, f"sha256:{digest.hexdigest()}", size_bytes))


def _dump_memory(host: Host, act: Act, task: Task, images: Path, wanted: CriuOptions) -> None:
    """Dump into a directory: through the content store it takes several times as long (a tar, a copy, a disk).

    A CRIU that has spent the freeze budget hangs, and would hold the task for ever.
    """
    work_path, limit_s = work_directory(host, act), host.settings.freeze_budget_s
    options = CheckpointOptions(
        image_path=str(images),
        work_path=str(work_path),
        open_tcp=wanted.tcp is TcpPolicy.KEEP,
        file_locks=wanted.file_locks,
        external_unix_sockets=wanted.external_unix,
    )
    begun = time.monotonic()
    try:
        with watching_criu(host, act):
            task.checkpoint_memory(options, timeout_s=limit_s)
    except MigratorError as error:
        if time.monotonic() - begun >= limit_s:
            end_job_criu(host, act)
        raise explain_failure("checkpoint", task.id, error, work_path / "dump.log") from error
