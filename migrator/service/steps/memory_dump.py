"""Dump the memory of a frozen task: without its pages where that can be done, which is much shorter, or with them.

Without them nothing of the memory lies in files: its pages are read where they are, and most are named while CRIU is
still at work. A migration leaves them there until they are sent. A backup, whose program runs on, keeps what has
changed since they were copied ahead (`precopy`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from migrator.containerd import CheckpointOptions, Task, pids_of
from migrator.criu.extents import Namer, Offer
from migrator.criu.frozen_memory import (
    FrozenOffers,
    KeptOffers,
    NamedExtents,
    complete,
    complete_pagemaps,
    find_pages,
    list_pages,
    name_extents,
    offer_images,
)
from migrator.criu.kept_extents import KeptExtents
from migrator.criu.live_memory import look_at
from migrator.criu.log import explain_failure
from migrator.criu.pageless import Runtime, dump_without_pages, lock_option
from migrator.errors import MigratorError, OutcomeUnknown, WorkloadFailed
from migrator.models.phase import JobKind
from migrator.models.values import Facts, TcpPolicy
from migrator.service.host import Act, Host
from migrator.service.room import fits_in_memory
from migrator.service.steps.criu_options import CriuOptions
from migrator.service.steps.dump_way import Way, choose_way
from migrator.service.steps.freeze import await_frozen, shares_network
from migrator.service.steps.work import end_job_criu, kept_file, watching_criu, work_directory
from migrator.storage.chunks import cut_by_content

PROC = Path("/proc")
DUMPED = "dumped"
"""Fact: `without pages`, or `whole` and why."""
WITHOUT_PAGES = "without pages"
NAMES = "extents.names"


@dataclass(frozen=True, slots=True)
class Dumping:
    """A dump of memory.

    Args:
        task: Of whom.
        images: An empty directory for it.
        wanted: What CRIU is told.
        freeze: Freezes the task, and begins what else needs a frozen one; the second time it does nothing.
    """

    task: Task
    images: Path
    wanted: CriuOptions
    freeze: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Dumped:
    """A dump that was made; the task need not be frozen any more.

    Args:
        facts: How it was made.
        named: What the extents of its memory are called, if the pages are elsewhere.
    """

    facts: Facts
    named: NamedExtents | None = None

    def finish(self, host: Host, act: Act, images: Path) -> None:
        """Write down what the upload needs to know."""
        if self.named is not None:
            complete_pagemaps(images)
            self.named.save(_work(host, act) / NAMES)


def dump_memory(host: Host, act: Act, way: Way, dumping: Dumping) -> Dumped:
    """Freeze a task and dump it; return how it was done.

    Raises:
        WorkloadFailed: CRIU refused; the message carries its cause and remedy. The task is as frozen as it was.
        PreconditionFailed: `guard_resumed`.
    """
    why = way.why
    if way.runtime is not None:
        try:
            return Dumped({DUMPED: WITHOUT_PAGES}, _dump_pageless(host, act, way.runtime, dumping))
        except WorkloadFailed as error:
            why = str(error)
        shutil.rmtree(dumping.images)
        dumping.images.mkdir(mode=0o700)
    dumping.freeze()
    await_frozen(dumping.task)
    _dump_whole(host, act, dumping.task, dumping.images, dumping.wanted)
    return Dumped({DUMPED: f"whole: {why}"})


def is_pageless(act: Act) -> bool:
    """Whether the dump of this job was made without pages."""
    return act.facts.get(DUMPED) == WITHOUT_PAGES


def keeps_extents(act: Act) -> bool:
    """Whether this job keeps the bytes of memory: its program runs on while they are sent."""
    return act.request.kind is JobKind.BACKUP


def offer_memory(
    host: Host, act: Act, images: Path, knows: Callable[[bytes], bool], opened: ExitStack
) -> Iterator[Offer]:
    """Give the chunks of a dump that was made without pages.

    Args:
        host: This host.
        act: The job's.
        images: The dump.
        knows: Whether the job has sent the chunk with a name.
        opened: Where is closed what this opens.
    """
    name, named = host.checkpoints.chunks.name, NamedExtents.load(_work(host, act) / NAMES)
    if keeps_extents(act):
        kept = KeptOffers(named, opened.enter_context(kept_extents(host, act)))
        return offer_images(images, list_pages(images), kept, cut_by_content, name)
    task = host.runtime(act.request.namespace).task(str(act.request.container))
    frozen = FrozenOffers(named, knows, name)
    return offer_images(images, find_pages(images, processes_of(task)), frozen, cut_by_content, name)


def kept_extents(host: Host, act: Act) -> KeptExtents:
    """Where this job keeps the bytes of memory."""
    return KeptExtents(kept_file(host, act, int(act.facts.get("memory_bytes", 0))))


def keep_ahead(host: Host, act: Act) -> None:
    """Copy the memory of the running program, so that a frozen one waits for what has changed since alone.

    Where there is no room for that and for all of it changed, or pages will be dumped, nothing is copied.
    """
    runtime, container = host.runtime(act.request.namespace), str(act.request.container)
    way = choose_way(host, act, runtime.containers.get(container))
    if way.runtime is None or not fits_in_memory(host, 2 * int(act.facts.get("memory_bytes", 0))):
        return
    task = runtime.task(container)
    with kept_extents(host, act) as keeper:
        name_extents(look_at(processes_of(task)), host.checkpoints.chunks.name, keeper)
        keeper.save()


def _dump_pageless(host: Host, act: Act, runtime: Runtime, dumping: Dumping) -> NamedExtents:
    """Let CRIU dump everything else while the pages are read and named.

    Raises:
        WorkloadFailed: runc or CRIU refused, or some pages can be read nowhere.
    """
    name, task, reading = host.checkpoints.chunks.name, dumping.task, list[Future[NamedExtents]]()
    with ExitStack() as opened:
        keeper = opened.enter_context(kept_extents(host, act)) if keeps_extents(act) else None
        beside = opened.enter_context(ThreadPoolExecutor(1))

        def freeze() -> None:
            dumping.freeze()
            reading.append(beside.submit(_name_now, processes_of(task), name, keeper))

        _run_pageless(host, act, runtime, dumping, freeze)
        await_frozen(task)
        named = reading[0].result() if reading else NamedExtents()
        complete(find_pages(dumping.images, processes_of(task)), named, name, keeper)
        if keeper is not None:
            keeper.save()
    return named


def _name_now(processes: list[Path], name: Namer, keeper: KeptExtents | None) -> NamedExtents:
    return name_extents(look_at(processes, executable=False), name, keeper)


def _run_pageless(host: Host, act: Act, runtime: Runtime, dumping: Dumping, freeze: Callable[[], None]) -> None:
    task, wanted = dumping.task, dumping.wanted
    flags = {
        "--tcp-established": wanted.tcp is TcpPolicy.KEEP,
        "--file-locks": wanted.file_locks,
        "--ext-unix-sk": wanted.external_unix,
    }
    locking = lock_option(host.settings.criu_path) if shares_network(task) else ("network-lock skip",)
    try:
        with watching_criu(host, act):
            dump_without_pages(
                runtime,
                dumping.images,
                _work(host, act),
                flags=[flag for flag, on in flags.items() if on],
                options=locking,
                processes=len(processes_of(task)),
                limit_s=host.settings.freeze_budget_s,
                freeze=freeze,
            )
    except OutcomeUnknown as error:
        end_job_criu(host, act)
        raise explain_failure("checkpoint", task.id, error, _work(host, act) / "dump.log") from error


def _dump_whole(host: Host, act: Act, task: Task, images: Path, wanted: CriuOptions) -> None:
    """Dump into a directory: through the content store it takes several times as long (a tar, a copy, a disk).

    A CRIU that has spent the freeze budget hangs, and would hold the task for ever.
    """
    work_path, limit_s = _work(host, act), host.settings.freeze_budget_s
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


def processes_of(task: Task) -> list[Path]:
    """The processes of a task, by their directories in /proc."""
    return [PROC / str(pid) for pid in pids_of(task)]


def _work(host: Host, act: Act) -> Path:
    return work_directory(host, act)
