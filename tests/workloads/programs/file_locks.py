#!/usr/bin/python3
"""Two processes and three kinds of locks: what one holds, the other must never get.

The parent keeps a lock of each kind for ever: flock(2), fcntl(2) of the process, and of the open file description.
The child tries to get them all the time; the parent must find them held each time it looks.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from witness import Witness

DIRECTORY = Path("/state")
LOCK = struct.Struct("hhqqi4x")  # struct flock on 64-bit machines
KINDS = ("flock", "process", "description")


def take(kind: str, descriptor: int) -> None:
    """Take a lock, or raise OSError when another has it."""
    if kind == "flock":
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        command = fcntl.F_SETLK if kind == "process" else fcntl.F_OFD_SETLK
        fcntl.fcntl(descriptor, command, LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


def obtainable() -> int:
    """Say how many of the locks another process can get."""
    got = 0
    for kind in KINDS:
        descriptor = os.open(DIRECTORY / kind, os.O_RDWR)
        try:
            take(kind, descriptor)
            got += 1
        except OSError:
            pass
        finally:
            os.close(descriptor)
    return got


def main() -> None:
    """Lock, fork the rival, and ask it for ever."""
    witness = Witness()
    held = [os.open(DIRECTORY / kind, os.O_RDWR | os.O_CREAT) for kind in KINDS]
    for kind, descriptor in zip(KINDS, held, strict=True):
        take(kind, descriptor)
    (down_reader, down), (up, up_writer) = os.pipe(), os.pipe()
    if os.fork() == 0:
        for descriptor in (*held, down, up):
            os.close(descriptor)
        while os.read(down_reader, 1):
            os.write(up_writer, bytes([obtainable()]))
        return

    def act(_: int) -> None:
        os.write(down, b"?")
        witness.expect("the number of locks that another process gets", os.read(up, 1)[0], 0)

    witness.run(act)


if __name__ == "__main__":
    main()
