#!/usr/bin/python3
"""Watches a directory with inotify while making files in it: no event may be missed or come twice.

inotify.py DIRECTORY
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
from pathlib import Path

from witness import Witness

CREATE, DELETE = 0x100, 0x200
HEAD = struct.Struct("<iIII")
ANSWER_S = 60.0
LIBC = ctypes.CDLL(None, use_errno=True)


def watch(directory: Path) -> int:
    """Watch for files that come and go."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = LIBC.inotify_init1(0)
    if descriptor < 0 or LIBC.inotify_add_watch(descriptor, bytes(directory), CREATE | DELETE) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    return int(descriptor)


def events(descriptor: int) -> list[tuple[int, str]]:
    """Read what happened, after waiting for it."""
    if not select.select([descriptor], [], [], ANSWER_S)[0]:
        raise TimeoutError("no event came")
    data, found = os.read(descriptor, 65536), []
    while data:
        _, mask, _, length = HEAD.unpack_from(data)
        found.append((mask, data[HEAD.size : HEAD.size + length].rstrip(b"\0").decode()))
        data = data[HEAD.size + length :]
    return found


def main() -> None:
    """Make and remove a file for each number."""
    directory = Path(sys.argv[1])
    descriptor, witness = watch(directory), Witness()

    def act(number: int) -> None:
        file = directory / str(number)
        file.touch()
        file.unlink()
        seen: list[tuple[int, str]] = []
        while len(seen) < 2:
            seen += events(descriptor)
        witness.expect("what was seen", seen, [(CREATE, file.name), (DELETE, file.name)])

    witness.run(act)


if __name__ == "__main__":
    main()
