"""The processes of a checkpoint, read from CRIU's images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from google.protobuf.message import Message

from migrator.criu.entries import Images, damaged, read_entries, read_entry, text_of
from migrator.criu.memory_map import ranges_of, read_map, read_pages
from migrator.criu.open_files import OpenFiles
from migrator.gen.criu.images_pb2 import CoreEntry, KernelIds, PstreeEntry, TaskCore
from migrator.models.contents import Process, ProcessState, Thread

PSTREE_MARK, CORE_MARK, IDS_MARK = 0x50273030, 0x55053847, 0x54432030
PSTREE_IMAGE = "pstree.img"
THREADS_LIMIT = 100_000
"""Threads of all processes together; each has an image of its own."""
_STATES = {1: ProcessState.ALIVE, 2: ProcessState.DEAD, 3: ProcessState.STOPPED, 6: ProcessState.DEAD}
_LIMITS = (
    "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending",
    "msgqueue", "nice", "rtprio", "rttime",
)  # fmt: skip
"""RLIMIT_* by number (getrlimit(2))."""
_UNLIMITED = 2**64 - 1
Entry = TypeVar("Entry", bound=Message)


def read_processes(images: Images, *, with_memory: bool = True) -> tuple[Process, ...]:
    """Read all processes, parents before their children.

    Args:
        images: CRIU's images; pages are not read.
        with_memory: Whether to list each range of their memory.

    Raises:
        IntegrityError: `bad_images`, one of them is missing, malformed or beyond a limit.
    """
    entries = read_entries(images, PSTREE_IMAGE, PSTREE_MARK, PstreeEntry)
    if sum(len(entry.threads) for entry in entries) > THREADS_LIMIT:
        raise damaged(PSTREE_IMAGE, f"it lists more than {THREADS_LIMIT} threads")
    files = OpenFiles(images)
    return tuple(_process(images, entry, files, with_memory=with_memory) for entry in _ordered(entries))


def _process(images: Images, entry: PstreeEntry, files: OpenFiles, *, with_memory: bool) -> Process:
    core = _core(images, entry.pid)
    state = _STATES.get(core.tc.task_state, ProcessState.UNKNOWN)
    names = images.names()
    found = Process(
        pid=entry.pid,
        parent=entry.ppid,
        group=entry.pgid,
        session=entry.sid,
        name=text_of(core.tc.comm),
        state=state,
        uid=core.thread_core.creds.uid,
        gid=core.thread_core.creds.gid,
        threads=tuple(_threads(images, entry, core)),
        limits=_limits(core.tc),
    )
    if f"mm-{entry.pid}.img" not in names:  # a dead process has neither memory nor files
        return found
    return _with_memory(images, found, core, files, with_memory=with_memory)


def _with_memory(images: Images, process: Process, core: CoreEntry, files: OpenFiles, *, with_memory: bool) -> Process:
    mapped = read_map(images, process.pid)
    pages = read_pages(images, f"pagemap-{process.pid}.img")
    ids = core.ids if core.HasField("ids") else _ids(images, process.pid)
    return replace(
        process,
        program=files.paths.get(mapped.exe_file_id, ""),
        stored_bytes=pages.size_bytes,
        files=files.of_table(ids.files_id),
        memory=tuple(ranges_of(mapped, pages, files.paths)) if with_memory else (),
    )


def _ids(images: Images, pid: int) -> KernelIds:
    name = f"ids-{pid}.img"
    return read_entry(images, name, IDS_MARK, KernelIds) if name in images.names() else KernelIds()


def _core(images: Images, thread: int) -> CoreEntry:
    return read_entry(images, f"core-{thread}.img", CORE_MARK, CoreEntry)


def _threads(images: Images, entry: PstreeEntry, core: CoreEntry) -> Iterable[Thread]:
    for number in entry.threads:
        if number == entry.pid:
            yield Thread(number, text_of(core.thread_core.comm) or text_of(core.tc.comm))
        else:
            yield Thread(number, text_of(_core(images, number).thread_core.comm))


def _limits(core: TaskCore) -> dict[str, str]:
    found = {}
    for name, limit in zip(_LIMITS, core.rlimits.rlimits, strict=False):
        soft, hard = ("unlimited" if value == _UNLIMITED else str(value) for value in (limit.cur, limit.max))
        found[name] = soft if soft == hard else f"{soft}:{hard}"
    return found


def _ordered(entries: list[PstreeEntry]) -> list[PstreeEntry]:
    """Parents before children, each process once; what has no way to a first process comes to nobody's tree.

    Raises:
        IntegrityError: `bad_images`, ids are doubled or go round in a circle.
    """
    if len({entry.pid for entry in entries}) != len(entries):
        raise damaged(PSTREE_IMAGE, "it lists a process twice")
    children: dict[int, list[PstreeEntry]] = {}
    known = {entry.pid for entry in entries}
    for entry in entries:
        children.setdefault(entry.ppid if entry.ppid in known else 0, []).append(entry)
    ordered, waiting = [], children.pop(0, [])[::-1]
    while waiting:
        entry = waiting.pop()
        ordered.append(entry)
        waiting += children.pop(entry.pid, [])[::-1]
    if len(ordered) != len(entries):
        raise damaged(PSTREE_IMAGE, "its processes are each other's parents")
    return ordered
