"""Read a running program's memory from outside, as far as CRIU would dump it: a guess that a dump makes good.

Formats: Linux, Documentation/admin-guide/mm/pagemap.rst and proc(5). What CRIU dumps of a private mapping: pages that are
present or swapped and are no page of a file (CRIU, criu/mem.c). Shared mappings are left out here: their pages lie in
images of their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ENTRY_BYTES = 8
PRESENT_OR_SWAPPED = 3 << 62
OF_A_FILE = 1 << 61
"""A page of a file, or of shared anonymous memory."""
NEVER_DUMPED = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
ENTRIES_AT_ONCE = 64 << 10


@dataclass(frozen=True, slots=True)
class Mapping:
    """One private mapping of a process."""

    start: int
    end: int


def private_mappings(pid: int) -> list[Mapping]:
    """List what a process maps privately; nothing if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        place, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights[3] == "p" and not (name and name[0].strip() in NEVER_DUMPED):
            start, end = (int(side, 16) for side in place.split("-"))
            found.append(Mapping(start, end))
    return found


def live_extents(pid: int, window_bytes: int) -> Iterator[bytes]:
    """Give the content of a process's private pages, cut where a dump of it is cut.

    Args:
        pid: The process; it may run on meanwhile, and end.
        window_bytes: No extent goes over an address that is a multiple of this.

    Raises:
        OSError: This process may not look (ptrace access is needed, see proc(5)).
    """
    with ExitStack() as open_files:
        try:
            pagemap, memory = (os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in ("pagemap", "mem"))
        except FileNotFoundError:
            return
        for file in (pagemap, memory):
            open_files.callback(os.close, file)
        for mapping in private_mappings(pid):
            for start, end in runs(pagemap, mapping, window_bytes):
                with suppress(OSError):  # unmapped meanwhile
                    data = os.pread(memory, end - start, start)
                    if len(data) == end - start:
                        yield data


def runs(pagemap: int, mapping: Mapping, window_bytes: int) -> Iterator[tuple[int, int]]:
    """Find the address ranges of a mapping that hold pages worth a dump, cut at every multiple of the window."""
    begun: int | None = None
    for address, wanted in _pages(pagemap, mapping):
        if begun is not None and (not wanted or address % window_bytes == 0):
            yield begun, address
            begun = None
        if wanted and begun is None:
            begun = address
    if begun is not None:
        yield begun, mapping.end


def _pages(pagemap: int, mapping: Mapping) -> Iterator[tuple[int, bool]]:
    """Tell of each page whether a dump would have it."""
    address = mapping.start
    while address < mapping.end:
        count = min(ENTRIES_AT_ONCE, (mapping.end - address) // PAGE_BYTES)
        data = os.pread(pagemap, count * ENTRY_BYTES, address // PAGE_BYTES * ENTRY_BYTES)
        if not data:
            return
        for entry in memoryview(data).cast("Q"):
            yield address, bool(entry & PRESENT_OR_SWAPPED) and not entry & OF_A_FILE
            address += PAGE_BYTES
