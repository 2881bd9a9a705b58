"""The memory of running processes, read as a dump would find it."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from migrator.criu.extents import PAGE_BYTES
from migrator.criu.layers import unpack_layer
from migrator.criu.live_memory import LiveMemory, look_at, offer_memory, share_known
from migrator.storage.chunks import cut_by_content

PAGES = 200
PROGRAM = f"""
import mmap, random, sys
own = mmap.mmap(-1, {PAGES} * {PAGE_BYTES}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
shared = mmap.mmap(-1, {PAGES} * {PAGE_BYTES})
chance = random.Random(5)
own.write(chance.randbytes(len(own)))
for page in range(0, {PAGES}, 2):
    shared[page * {PAGE_BYTES} : (page + 1) * {PAGE_BYTES}] = chance.randbytes({PAGE_BYTES})
print("ready", flush=True)
sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="memory of others is root's")


@pytest.fixture
def program() -> Iterator[Path]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Path(f"/proc/{process.pid}")
        process.kill()


def name_of(chunk: memoryview) -> bytes:
    return blake3(chunk).digest()


def cut(memories: list[LiveMemory]) -> list[tuple[bytes, int, bytes]]:
    """All chunks, with their bytes."""
    offers = offer_memory(memories, cut_by_content, name_of, lambda _: False)
    return [(name, size, content) for name, size, content in offers if isinstance(content, bytes)]


def expected() -> tuple[bytes, bytes]:
    chance = random.Random(5)
    own = chance.randbytes(PAGES * PAGE_BYTES)
    return own, b"".join(chance.randbytes(PAGE_BYTES) for _ in range(0, PAGES, 2))


def test_own_and_shared_pages_are_found_and_no_others(program: Path, tmp_path: Path) -> None:
    memories = look_at([program])
    assert [memory.pagemap.startswith("pagemap-shmem-") for memory in memories] == [False, True]
    own, shared = expected()
    chunks = cut(memories)
    assert all(content and blake3(content).digest() == name for name, _, content in chunks)
    assert all(size for _, size, _ in chunks)
    names, sizes = [name for name, _, _ in chunks], [size for _, size, _ in chunks]
    contents = {name: chunk for name, _, chunk in chunks}
    layer = unpack_layer([(names, sizes, contents, sum(sizes), None)], tmp_path / "out", None)
    assert own in (layer.directory / "pages-1.img").read_bytes()
    assert (layer.directory / "pages-2.img").read_bytes() == shared
    assert memories[1].size_bytes == len(shared)
    assert memories[0].size_bytes < 64 << 20


def test_what_is_reserved_and_never_touched_costs_nothing(tmp_path: Path) -> None:
    reserved = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    (memory, *_) = look_at([Path("/proc/self")])
    assert memory.size_bytes < 1 << 30
    reserved.close()


def test_a_process_that_is_gone_has_no_memory() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert look_at([Path(f"/proc/{process.pid}")]) == []


def test_pages_that_go_while_they_are_read_are_zeros(program: Path) -> None:
    memories = look_at([program])
    chunks = offer_memory(memories, cut_by_content, name_of, lambda _: False)
    size_bytes = next(chunks)[1]
    os.kill(int(program.name), 9)
    size_bytes += sum(size for _, size, _ in chunks)
    assert size_bytes > sum(memory.size_bytes for memory in memories)


def test_what_is_known_is_named_alone(program: Path) -> None:
    memories = look_at([program])
    names = {name for name, _, _ in cut(memories)}
    again = [content for _, _, content in offer_memory(memories, cut_by_content, name_of, names.__contains__)]
    assert again.count(None) > len(again) * 0.9
    assert share_known(memories, name_of, names.__contains__) == 1.0
    assert share_known(memories, name_of, lambda _: False) == 0.0
    assert share_known([], name_of, lambda _: False) == 1.0
