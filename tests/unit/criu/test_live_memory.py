"""A running program's memory, read from outside."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from migrator.criu.live_memory import PAGE_BYTES, live_extents, private_mappings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")

WINDOW_BYTES = 32 << 10
PROGRAM = """
import mmap, os, sys, time
private = mmap.mmap(-1, 64 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
shared = mmap.mmap(-1, 8 * mmap.PAGESIZE)
for page in range(64):
    if page % 16 != 5:
        private[page * mmap.PAGESIZE : (page + 1) * mmap.PAGESIZE] = bytes([page + 1]) * mmap.PAGESIZE
for place in range(mmap.PAGESIZE):  # or the page would lie in private memory, too
    shared[place] = ord("S")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def program() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process.pid
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    process.stdout.close()


def test_every_page_that_was_written_is_read(program: int) -> None:
    pages = [
        extent[at : at + PAGE_BYTES]
        for extent in live_extents(program, WINDOW_BYTES)
        for at in range(0, len(extent), PAGE_BYTES)
    ]
    for page in range(64):
        content = bytes([page + 1]) * mmap.PAGESIZE
        assert (content in pages) is (page % 16 != 5), page


def test_shared_memory_is_left_to_its_own_images(program: int) -> None:
    assert not any(b"S" * PAGE_BYTES in extent for extent in live_extents(program, WINDOW_BYTES))


def test_no_extent_crosses_a_border_of_its_window(program: int) -> None:
    extents = list(live_extents(program, WINDOW_BYTES))
    assert extents
    assert max(map(len, extents)) <= WINDOW_BYTES
    assert all(len(extent) % PAGE_BYTES == 0 for extent in extents)


def test_a_process_that_is_gone_has_no_memory() -> None:
    pid = os.spawnlp(os.P_WAIT, "true", "true")
    assert pid == 0
    assert private_mappings(2**22 - 1) == []
    assert list(live_extents(2**22 - 1, WINDOW_BYTES)) == []
