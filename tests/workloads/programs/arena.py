#!/usr/bin/python3
"""Change an address space in every way, and know each page of it: its content, or that it is empty."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import threading

from witness import Witness

PAGE = 4096
BLOCK_PAGES = 256
BLOCKS = 160
QUIET = 32
"""So many blocks are only read, by threads."""
READ_WRITE, READ = 3, 1
PRIVATE, ANONYMOUS, FIXED = 0x2, 0x20, 0x10
MAY_MOVE = 1
DONT_NEED = 4

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.madvise.argtypes = libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def checked(result: int | None) -> int:
    """The result of a call that must not fail."""
    if result is None or result in (-1, 2**64 - 1):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def page_of(block: int, page: int, generation: int) -> bytes:
    """What a page holds; 0 is the generation of an empty one."""
    if not generation:
        return bytes(PAGE)
    return hashlib.shake_128(f"{block}/{page}/{generation}".encode()).digest(PAGE)


class Block:
    """A mapping of its own, with a gap behind it."""

    def __init__(self, number: int):
        self.number = number
        self.address = reserve()
        self.generations = [1] * BLOCK_PAGES
        for page in range(BLOCK_PAGES):
            self.write(page, 1)

    def at(self, page: int) -> int:
        """Where a page is."""
        return self.address + page * PAGE

    def write(self, page: int, generation: int) -> None:
        """Give a page another content."""
        ctypes.memmove(self.at(page), page_of(self.number, page, generation), PAGE)
        self.generations[page] = generation

    def is_right(self, page: int) -> bool:
        """Whether a page holds what it must."""
        return ctypes.string_at(self.at(page), PAGE) == page_of(self.number, page, self.generations[page])


def reserve() -> int:
    """Map a block."""
    address = checked(libc.mmap(None, (BLOCK_PAGES + 1) * PAGE, READ_WRITE, PRIVATE | ANONYMOUS, -1, 0))
    checked(libc.munmap(address + BLOCK_PAGES * PAGE, PAGE))
    return address


def move(block: Block, chance: random.Random) -> None:
    """Move it to where the kernel likes, and back to a place of its own."""
    target = reserve()
    block.address = checked(libc.mremap(block.address, BLOCK_PAGES * PAGE, BLOCK_PAGES * PAGE, MAY_MOVE | 2, target))


def empty(block: Block, chance: random.Random) -> None:
    """Give pages back; they are empty when they are touched again."""
    first = chance.randrange(BLOCK_PAGES - 8)
    checked(libc.madvise(block.at(first), 8 * PAGE, DONT_NEED))
    block.generations[first : first + 8] = [0] * 8


def map_anew(block: Block, chance: random.Random) -> None:
    """Unmap pages and map others in their place."""
    first = chance.randrange(BLOCK_PAGES - 16)
    checked(libc.munmap(block.at(first), 16 * PAGE))
    checked(libc.mmap(block.at(first), 16 * PAGE, READ_WRITE, PRIVATE | ANONYMOUS | FIXED, -1, 0))
    block.generations[first : first + 16] = [0] * 16


def protect(block: Block, chance: random.Random) -> None:
    """Split the mapping by protecting a part of it."""
    first = chance.randrange(BLOCK_PAGES - 8)
    checked(libc.mprotect(block.at(first), 4 * PAGE, READ))
    if chance.random() < 0.5:
        checked(libc.mprotect(block.at(first), 4 * PAGE, READ_WRITE))
    else:
        block.is_right(first)
        checked(libc.mprotect(block.address, BLOCK_PAGES * PAGE, READ_WRITE))


def rewrite(block: Block, chance: random.Random) -> None:
    """Write a page."""
    block.write(chance.randrange(BLOCK_PAGES), chance.randrange(2, 1 << 30))


ACTS = (move, empty, map_anew, protect, rewrite, rewrite)


def family(blocks: list[Block], chance: random.Random) -> int:
    """Fork a child, and one of its own, that look at pages while we go on; return the child."""
    pid = os.fork()
    if pid:
        return pid
    chance.seed(os.getpid())
    grandchild = os.fork()
    wrong = sum(not chance.choice(blocks).is_right(chance.randrange(BLOCK_PAGES)) for _ in range(40))
    if not grandchild:
        os._exit(min(wrong, 100))
    _, status = os.waitpid(grandchild, 0)
    os._exit(min(wrong + os.waitstatus_to_exitcode(status), 100))


def main() -> None:
    """Change and look, for ever."""
    witness = Witness()
    blocks = [Block(number) for number in range(BLOCKS)]
    quiet, busy = blocks[:QUIET], blocks[QUIET:]
    chance = random.Random(witness.nonce)
    faults: list[str] = []

    def read_quiet(seed: int) -> None:
        mine = random.Random(seed)
        while True:
            block, page = mine.choice(quiet), mine.randrange(BLOCK_PAGES)
            if not block.is_right(page):
                faults.append(f"page {page} of block {block.number}")

    for seed in range(2):
        threading.Thread(target=read_quiet, args=(seed,), daemon=True).start()

    def act(number: int) -> None:
        block = chance.choice(busy)
        chance.choice(ACTS)(block, chance)
        for _ in range(8):
            block, page = chance.choice(blocks), chance.randrange(BLOCK_PAGES)
            witness.expect(f"page {page} of block {block.number}", block.is_right(page), True)
        if number % 10 == 0:
            child = family(blocks, chance)
            ACTS[number % len(ACTS)](chance.choice(busy), chance)
            witness.expect("what a child saw", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        witness.expect("what threads saw", faults, [])

    witness.run(act, pause_s=0.001)


if __name__ == "__main__":
    main()
