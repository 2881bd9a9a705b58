"""The server of pages, with the kernel's real userfaultfd: this process is the program whose memory comes later."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.criu.entries import write_entries
from migrator.criu.extents import PAGE_BYTES
from migrator.criu.lazy.journal import Journal, State
from migrator.criu.lazy.server import IMAGES, RUNS, SOCKET
from migrator.criu.lazy.twins import lives
from migrator.criu.lazy.userfault import why_not
from migrator.criu.memory_map import MM_MARK, PAGEMAP_MARK
from migrator.gen.criu.images_pb2 import MmEntry, PagemapEntry, PagemapHead, VmaEntry

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

PAGES = 32 << 10
"""128 MiB, so that something is left to come while the test acts."""
STEP = 97
"""Every so many pages one has a mark; the others are empty."""
API, REGISTER = 0xC018AA3F, 0xC020AA00
EVENTS = 0b1111 << 1 | 1 << 6
ANONYMOUS, NONE, READ_WRITE, DONT_NEED, MAY_MOVE = 0x22, 0, 3, 4, 1

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def mark(page: int) -> bytes:
    return f"page {page}".encode().ljust(16) if page % STEP == 0 else bytes(16)


class Program:
    """Memory of this process, registered as CRIU registers that of a program."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.address = libc.mmap(None, PAGES * PAGE_BYTES, READ_WRITE, ANONYMOUS, -1, 0)
        self.descriptor = libc.syscall(323, os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(self.descriptor, API, bytearray(struct.pack("<QQQ", 0xAA, EVENTS, 0)), True)
        wanted = struct.pack("<QQQQ", self.address, PAGES * PAGE_BYTES, 1, 0)
        fcntl.ioctl(self.descriptor, REGISTER, bytearray(wanted), True)

    def write_images(self) -> None:
        images = self.directory / "images"
        images.mkdir()
        entry = PagemapEntry(vaddr=self.address, compat_nr_pages=PAGES, nr_pages=PAGES, flags=6)
        (images / "pagemap-9.img").write_bytes(write_entries(PAGEMAP_MARK, [PagemapHead(pages_id=1), entry]))
        vma = VmaEntry(start=self.address, end=self.address + PAGES * PAGE_BYTES)
        (images / "mm-9.img").write_bytes(write_entries(MM_MARK, [MmEntry(exe_file_id=1, vmas=[vma])]))
        with (images / "pages-1.img").open("wb") as file:
            file.truncate(PAGES * PAGE_BYTES)
            for page in range(0, PAGES, STEP):
                os.pwrite(file.fileno(), mark(page), page * PAGE_BYTES)
        (self.directory / IMAGES).symlink_to(images)

    def run(self) -> None:
        """Hand the memory over and say that the program runs, as CRIU does."""
        with socket.socket(socket.AF_UNIX) as line:
            os.chdir(self.directory)
            line.connect(SOCKET)
            line.sendall(struct.pack("<i", -5))
            line.sendall(struct.pack("<i", 9))
            line.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.descriptor]))])
            line.sendall(struct.pack("<I", RUNS))
        os.close(self.descriptor)

    def read(self, page: int, address: int | None = None) -> bytes:
        return ctypes.string_at((address or self.address) + page * PAGE_BYTES, 16)

    def check(self) -> None:
        for page in range(PAGES):
            assert self.read(page) == mark(page), page


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    assert not why_not()
    journal = Journal.create(tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "migrator.criu.lazy.server", str(tmp_path)])
    wait_for(journal, State.READY)
    yield journal
    for pid in (journal.twin, journal.server):
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=5)


@pytest.fixture
def program(journal: Journal, tmp_path: Path) -> Iterator[Program]:
    here = Path.cwd()
    program = Program(tmp_path)
    program.write_images()
    program.run()
    yield program
    libc.munmap(program.address, PAGES * PAGE_BYTES)
    os.chdir(here)


def wait_for(journal: Journal, state: State, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while journal.state is not state:
        assert time.monotonic() < deadline, journal.state
        time.sleep(0.002)


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while lives(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_page_comes_and_the_server_goes(journal: Journal, program: Program) -> None:
    assert program.read(STEP * 7) == mark(STEP * 7)
    wait_for(journal, State.WHOLE)
    program.check()
    assert (journal.left_bytes, journal.total_bytes) == (0, PAGES * PAGE_BYTES)
    wait_gone(journal.server)
    wait_gone(journal.twin)


def test_a_twin_takes_over_and_nothing_is_lost(journal: Journal, program: Program) -> None:
    wait_for(journal, State.SERVING)
    for _ in range(3):
        server, twin = journal.server, journal.twin
        os.kill(server, signal.SIGKILL)
        while journal.server != twin and journal.state is State.SERVING:
            time.sleep(0.001)
        if journal.state is State.WHOLE:
            break
    program.check()
    wait_for(journal, State.WHOLE)


def test_what_a_dead_server_was_told_its_twin_knows(journal: Journal, program: Program) -> None:
    wait_for(journal, State.SERVING)
    size_bytes, first = 64 * PAGE_BYTES, STEP * 3
    assert libc.madvise(program.address + first * PAGE_BYTES, PAGE_BYTES, DONT_NEED) == 0
    moved = libc.mmap(None, size_bytes, NONE, ANONYMOUS, -1, 0)
    place = program.address + 1024 * PAGE_BYTES
    assert libc.mremap(place, size_bytes, size_bytes, MAY_MOVE | 2, moved) == moved
    child = os.fork()
    if not child:
        time.sleep(0.3)
        wrong = [page for page in range(0, 1000, STEP) if page != first and program.read(page) != mark(page)]
        os._exit(len(wrong))
    os.kill(journal.server, signal.SIGKILL)
    assert program.read(first) == bytes(16), "it was given back"
    assert [program.read(page, moved) for page in range(64)] == [mark(page) for page in range(1024, 1088)]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait_for(journal, State.WHOLE)
    for page in (page for page in range(PAGES) if not 1024 <= page < 1088 and page != first):
        assert program.read(page) == mark(page), page


def test_a_server_that_nobody_needs_any_more_goes(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "lazy-journal").unlink()
    wait_gone(journal.server)
    wait_gone(journal.twin)


def test_a_restore_that_came_to_nothing_ends_it(journal: Journal, tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(SOCKET)
    os.chdir(here)
    wait_for(journal, State.BROKEN)
    wait_gone(journal.server)
