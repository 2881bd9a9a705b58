"""Hold two checkpoints against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from migrator.criu.entries import Images
from migrator.criu.memory_changes import compare_pages, count_pages
from migrator.criu.memory_map import StoredPages, read_pages, shared_pages
from migrator.models.comparison import (
    Comparison,
    FileDifference,
    LimitChange,
    MemoryChange,
    ProcessChange,
    SocketChange,
)
from migrator.models.contents import Contents, Process
from migrator.service.contents import Opened

Pair = tuple[Process, Process]


def compare(
    before: Opened, after: Opened, *, same_workload: bool, with_pages: bool, check: Callable[[], None]
) -> Comparison:
    """Say how a later checkpoint differs from an earlier one.

    Args:
        before: The earlier one.
        after: The later one.
        same_workload: Whether both are of one workload.
        with_pages: Whether to compare the contents of pages, for which all of them are read.
        check: Raises when nobody wants the answer any more.

    Raises:
        IntegrityError: A part of one of them is malformed.
    """
    old, new = before.contents(with_memory=False), after.contents(with_memory=False)
    was, now = _by_identity(old), _by_identity(new)
    pairs = [(was[key], now[key]) for key in was if key in now]
    memory = _Memory(before.images, after.images, check, with_pages=with_pages)
    return Comparison(
        same_workload=same_workload,
        started=tuple(now[key] for key in now if key not in was),
        ended=tuple(was[key] for key in was if key not in now),
        processes=tuple(change for pair in pairs for change in _process_changes(*pair)),
        sockets=tuple(_socket_changes(old, new)),
        mounted=tuple(mount for mount in new.mounts if mount not in old.mounts),
        unmounted=tuple(mount for mount in old.mounts if mount not in new.mounts),
        files=tuple(_file_differences(old, new)),
        limits=tuple(LimitChange(*change) for change in _differences(old.limits, new.limits)),
        memory=(*memory.of_processes(was, now), *memory.of_shared()),
    )


class _Memory:
    """Compares pages, process by process.

    Args:
        before: The earlier images.
        after: The later ones.
        check: Raises when nobody wants the answer any more.
        with_pages: Whether contents are compared.
    """

    def __init__(self, before: Images, after: Images, check: Callable[[], None], *, with_pages: bool):
        self._before = before
        self._after = after
        self._check = check
        self._with_pages = with_pages

    def of_processes(
        self, was: Mapping[tuple[int, str], Process], now: Mapping[tuple[int, str], Process]
    ) -> Iterator[MemoryChange]:
        """Every process that has memory in one of the two."""
        for key in dict.fromkeys((*was, *now)):
            name = (now.get(key) or was[key]).name
            image = f"pagemap-{key[0]}.img"
            old = self._pages(self._before, image) if key in was else None
            new = self._pages(self._after, image) if key in now else None
            if old or new:
                yield self._compare(key[0], name, old, new)

    def of_shared(self) -> Iterator[MemoryChange]:
        """Every piece of memory that processes share."""
        was, now = shared_pages(self._before), shared_pages(self._after)
        for image in dict.fromkeys((*was, *now)):
            yield self._compare(0, _shared_name(image), was.get(image), now.get(image))

    def _compare(self, pid: int, name: str, old: StoredPages | None, new: StoredPages | None) -> MemoryChange:
        old, new = old or StoredPages("", ()), new or StoredPages("", ())
        changed_bytes: int | None = None
        if self._with_pages:
            found = compare_pages((self._before, old), (self._after, new), self._check)
            changed_bytes, added, removed = found.changed_bytes, found.added_bytes, found.removed_bytes
        else:
            added, removed = count_pages(old, new)
        return MemoryChange(pid, name, old.size_bytes, new.size_bytes, changed_bytes, added, removed)

    @staticmethod
    def _pages(images: Images, image: str) -> StoredPages | None:
        return read_pages(images, image) if image in images.names() else None


def _by_identity(contents: Contents) -> dict[tuple[int, str], Process]:
    """Processes by what makes them the same one: a number that a container gives out again, and a program."""
    return {(process.pid, process.program): process for process in contents.processes}


def _process_changes(before: Process, after: Process) -> Iterator[ProcessChange]:
    facts = (
        ("name", before.name, after.name),
        ("state", before.state.value, after.state.value),
        ("user", f"{before.uid}:{before.gid}", f"{after.uid}:{after.gid}"),
        ("parent", str(before.parent), str(after.parent)),
        ("threads", str(len(before.threads)), str(len(after.threads))),
        *((f"limit.{name}", old, new) for name, old, new in _differences(before.limits, after.limits)),
    )
    for what, old, new in facts:
        if old != new:
            yield ProcessChange(after.pid, after.name, what, old, new)


def _socket_changes(before: Contents, after: Contents) -> Iterator[SocketChange]:
    """Sockets by what they are, counted: which descriptor they have does not matter."""
    was, now = _sockets(before), _sockets(after)
    for key in sorted(was.keys() | now.keys()):
        if was[key] != now[key]:
            yield SocketChange(*key, was[key], now[key])


def _sockets(contents: Contents) -> Counter[tuple[str, str, str]]:
    return Counter(
        (file.kind, file.name, file.state) for process in contents.processes for file in process.files if file.is_socket
    )


def _file_differences(before: Contents, after: Contents) -> Iterator[FileDifference]:
    was, now = ({file.path: file for file in contents.files} for contents in (before, after))
    for path in sorted(was.keys() | now.keys()):
        if was.get(path) != now.get(path):
            yield FileDifference(path, was.get(path), now.get(path))


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new:
            yield name, old, new


def _shared_name(image: str) -> str:
    return f"shared memory {image.removeprefix('pagemap-shmem-').removesuffix('.img')}"
