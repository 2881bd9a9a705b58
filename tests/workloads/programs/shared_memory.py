#!/usr/bin/python3
"""Two processes that talk by five kinds of shared memory: each number put into one comes back changed by the other."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from pathlib import Path

from witness import Witness

SIZE = 1 << 20
WORD = struct.Struct("<Q")
ANSWER_AT = SIZE - WORD.size
ANSWER_S = 60.0
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p


def system_v() -> memoryview:
    """A System V segment that is removed once the last process lets go of it."""
    key = LIBC.shmget(0, SIZE, 0o600 | 0o1000)
    address = LIBC.shmat(key, None, 0)
    if key < 0 or address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return memoryview((ctypes.c_char * SIZE).from_address(address)).cast("B")


def mapped(descriptor: int) -> mmap.mmap:
    """A file of memory, seen by both."""
    os.ftruncate(descriptor, SIZE)
    return mmap.mmap(descriptor, SIZE)


def regions() -> dict[str, mmap.mmap | memoryview]:
    """One of each kind: anonymous, memfd, POSIX with a name, POSIX without its name, System V."""
    named, nameless = (os.open(f"/dev/shm/{name}", os.O_RDWR | os.O_CREAT) for name in ("named", "nameless"))
    Path("/dev/shm/nameless").unlink()
    return {
        "anonymous": mmap.mmap(-1, SIZE),
        "memfd": mapped(os.memfd_create("here")),
        "posix": mapped(named),
        "posix-nameless": mapped(nameless),
        "system-v": system_v(),
    }


def answer(shared: dict[str, mmap.mmap | memoryview], secret: int) -> None:
    """Add the secret to whatever is put in."""
    seen = dict.fromkeys(shared, 0)
    while True:
        for name, region in shared.items():
            (number,) = WORD.unpack_from(region, 0)
            if number != seen[name]:
                seen[name] = number
                WORD.pack_into(region, ANSWER_AT, number + secret)
        time.sleep(0.001)


def main() -> None:
    """Fork the one that answers, and ask for ever."""
    shared, secret = regions(), int.from_bytes(os.urandom(4), "big")
    if os.fork() == 0:
        answer(shared, secret)
    witness = Witness()

    def ask(number: int) -> None:
        for name, region in shared.items():
            WORD.pack_into(region, 0, number + 1)
            deadline = time.monotonic() + ANSWER_S
            while WORD.unpack_from(region, ANSWER_AT)[0] != number + 1 + secret:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no answer by {name}")
                time.sleep(0.001)

    witness.run(ask)


if __name__ == "__main__":
    main()
