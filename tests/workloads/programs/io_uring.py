#!/usr/bin/python3
"""Holds an io_uring: CRIU cannot dump one, so such a program cannot be moved."""

from __future__ import annotations

import ctypes
from pathlib import Path

from witness import Witness

SYS_IO_URING_SETUP = 425
LIBC = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Open a ring and look at it for ever."""
    witness = Witness()
    ring = LIBC.syscall(SYS_IO_URING_SETUP, 8, ctypes.create_string_buffer(120))
    if ring < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    witness.run(
        lambda _: witness.expect("the ring", str(Path(f"/proc/self/fd/{ring}").readlink()), "anon_inode:[io_uring]")
    )


if __name__ == "__main__":
    main()
