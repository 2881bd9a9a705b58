"""Dump the frozen task: memory by CRIU, changed files by the differ, and the container's own record."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from migrator.containerd import (
    Container,
    ContainerdClient,
    Descriptor,
    diff_snapshot,
    with_role,
    write_container,
    write_runtime_options,
    write_spec,
)
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY
from migrator.criu.images import pack_images
from migrator.criu.timers import wake_timers
from migrator.models.phase import JobKind
from migrator.models.values import Facts, TcpPolicy
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.programs import refuse_executed
from migrator.service.steps.arrivals import keep_packets
from migrator.service.steps.chunked import travels_chunked
from migrator.service.steps.criu_options import CriuOptions, options_to_replay, usual_file_counts
from migrator.service.steps.dump_way import choose_way
from migrator.service.steps.freeze import PAUSES_LATER, check_still_frozen, pause, resume
from migrator.service.steps.image import drop_lease, ensure_lease
from migrator.service.steps.memory_dump import Dumping, dump_memory
from migrator.service.steps.restarting import with_restart
from migrator.service.steps.streams import await_drained
from migrator.service.steps.volumes import packing_volumes
from migrator.service.steps.work import (
    new_image_directory,
    remove_work_directory,
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
        images = new_image_directory(host, act, int(act.facts["memory_bytes"]) + int(act.facts.get("volume_bytes", 0)))
        options = CriuOptions(
            tcp=TcpPolicy.KEEP if act.facts.get("dumps_connections") else TcpPolicy.REFUSE,
            external_unix=act.request.external_unix_sockets,
        )
        images.mkdir(mode=0o700)
        way, runs_on = choose_way(host, act, container), act.request.kind is JobKind.BACKUP
        record = [
            write_spec(leased, container),
            write_container(leased, replace(container, labels=with_restart(container.labels))),
            write_runtime_options(leased, container),
        ]
        with ExitStack() as ended:
            beside = _Beside(host, act, leased, container, ended)
            with usual_file_counts(task.pid, container.spec_json(), host.settings.run_dir / "criu"):
                dumped = dump_memory(host, act, way, Dumping(task, images, options, beside.freeze))
            changed = beside.results()
            if runs_on:
                check_still_frozen(host, act, task)
                resume(host, act)  # `thaw` would, one message later; what follows needs no frozen task
            times = beside.times(began)
            if runs_on:
                times["thawed_after_s"] = time.monotonic() - began
            dumped.finish(host, act, images)
            wake_timers(images)
            keep_packets(host, act, images)
            parts = [
                None if travels_chunked(act) else describe_images(images),  # else the upload reads them
                *record,
                *changed,
            ]
        act.check_aborted()
        if not runs_on:
            check_still_frozen(host, act, task)
        return {
            "parts": [part.to_oci() for part in parts if part],
            "stdio": asdict(task.stdio()),
            "criu_options": options_to_replay(options, images),
            **dumped.facts,
            **times,
        }

    def undo(self, host: Host, act: Act) -> Facts:
        """Give up the lease, so that containerd collects the parts, and remove CRIU's files."""
        drop_lease(host.runtime(act.request.namespace), act.lease_id)
        remove_work_directory(host, act)
        return {}


class _Beside:
    """Freezes a task, then does beside the dump of its memory what else needs a frozen one."""

    def __init__(self, host: Host, act: Act, runtime: ContainerdClient, container: Container, ended: ExitStack):
        self._host = host
        self._act = act
        self._runtime = runtime
        self._container = container
        self._task = runtime.task(container.id)
        self._ended = ended
        self._frozen_at_s = 0.0
        self._executed: Future[None] | None = None
        self._diff: Future[Descriptor] | None = None
        self._volumes: Future[list[Descriptor]] | None = None

    def freeze(self) -> None:
        """Freeze the task, wait until its output has left it, begin; the second time nothing is done."""
        if self._diff is not None:
            return
        took_s = pause(self._host, self._act, self._task)
        self._frozen_at_s = time.monotonic() - took_s
        await_drained(self._task, self._act.facts.get("stdio") or {})
        pool = self._ended.enter_context(ThreadPoolExecutor(2))
        self._executed = pool.submit(refuse_executed, self._task)
        self._diff = pool.submit(
            diff_snapshot, self._runtime, self._container.snapshotter, self._container.snapshot_key
        )
        self._volumes = self._ended.enter_context(packing_volumes(self._host, self._act))

    def results(self) -> list[Descriptor]:
        """The changed files, volumes and logs."""
        assert self._executed is not None
        assert self._diff is not None
        assert self._volumes is not None
        self._executed.result()
        return [self._diff.result(), *self._volumes.result()]

    def times(self, began_s: float) -> Facts:
        """How long after some moment the task was frozen, if it was here."""
        later = self._act.facts.get(PAUSES_LATER)
        return {"paused_after_s": self._frozen_at_s - began_s} if later else {}


def describe_images(directory: Path) -> Descriptor:
    """Describe CRIU's images as the tar that they travel as."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pack_images(directory):
        digest.update(piece)
        size_bytes += len(piece)
    return with_role(Descriptor(CHECKPOINT_MEMORY, f"sha256:{digest.hexdigest()}", size_bytes))
