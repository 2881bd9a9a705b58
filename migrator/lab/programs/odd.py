#!/usr/bin/python3
"""A program that does odd things, named by its argument with commas between them, and counts.

`ok` in /state/state.json says whether all of them still work. What Python has no name for goes by ctypes.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

STATE = Path("/state/state.json")
LIBC = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, USERFAULTFD = 425, 323
IN_MODIFY, IN_NONBLOCK = 2, 0o4000
MIB = 1 << 20

Check = Callable[[], bool]


def checked(result: int) -> int:
    """A result of a call to the C library."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def io_uring() -> Check:
    """A ring for asynchronous I/O."""
    ring = checked(LIBC.syscall(IO_URING_SETUP, 8, ctypes.create_string_buffer(120)))
    return lambda: os.fstat(ring) is not None


def userfaultfd() -> Check:
    """A descriptor for page faults."""
    descriptor = checked(LIBC.syscall(USERFAULTFD, 1))  # UFFD_USER_MODE_ONLY
    return lambda: os.fstat(descriptor) is not None


def device() -> Check:
    """A device whose state lies outside, and two that are harmless."""
    held = [os.open(path, os.O_RDWR) for path in ("/dev/null", "/dev/zero", "/dev/fuse")]
    return lambda: len(os.read(held[1], 4)) == 4


def plain_devices() -> Check:
    """The devices that every container has."""
    held = [os.open(f"/dev/{name}", os.O_RDONLY) for name in ("null", "zero", "full", "random", "urandom")]
    return lambda: all(len(os.read(descriptor, 4)) == 4 for descriptor in held[1:])


def deleted(size_bytes: int) -> Check:
    """A file that is open and has no name any more."""
    path = Path(f"/state/deleted-{size_bytes}")
    content = os.urandom(1024) * (size_bytes // 1024)
    path.write_bytes(content)
    held = path.open("r+b")
    path.unlink()

    def check() -> bool:
        held.seek(0)
        return held.read() == content

    return check


def watch(directory: str) -> Check:
    """An inotify watch."""
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    watcher = checked(LIBC.inotify_init1(IN_NONBLOCK))
    checked(LIBC.inotify_add_watch(watcher, directory.encode(), IN_MODIFY))
    changed = place / "changed"
    changed.touch()

    def check() -> bool:
        changed.write_text(str(time.monotonic_ns()))
        try:
            return len(os.read(watcher, 4096)) > 0
        except BlockingIOError:
            return False

    return check


def vsock() -> Check:
    """A socket that is neither TCP nor UDP."""
    held = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    return lambda: held.fileno() >= 0


def vfork() -> Check:
    """A thread that sleeps where nothing can stop it: its child holds its memory."""
    if os.fork() == 0:
        os.posix_spawn("/usr/bin/python3", ["python3", "-c", "0"], {})  # so that the library is loaded
        pid = LIBC.vfork()
        if pid == 0:
            LIBC.sleep(3600)
            LIBC._exit(0)
    return lambda: True


def traced() -> Check:
    """A process that traces another."""
    child = os.fork()
    if child == 0:
        time.sleep(3600)
    checked(LIBC.ptrace(0x4206, child, None, None))  # PTRACE_SEIZE
    return lambda: True


def nested() -> Check:
    """A process in a pid and network namespace of its own."""
    if os.fork() == 0:
        checked(LIBC.unshare(0x40000000))  # CLONE_NEWNET
        time.sleep(3600)
    return lambda: True


def terminal() -> Check:
    """A terminal whose two ends are inside."""
    master, slave = os.openpty()

    def check() -> bool:
        os.write(slave, b"x\n")
        return len(os.read(master, 100)) > 0

    return check


def netlink() -> Check:
    """A netlink socket with an answer that nobody reads."""
    held = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    held.bind((0, 0))
    held.send(bytes.fromhex("14000000120001030100000000000000") + bytes(4))
    return lambda: held.fileno() >= 0


def shared() -> Check:
    """System V shared memory of this container."""
    segment = checked(LIBC.shmget(0, MIB, 0o1600))
    LIBC.shmat.restype = ctypes.c_void_p
    place = LIBC.shmat(segment, None, 0)
    ctypes.memset(place, 7, MIB)
    return lambda: ctypes.string_at(place, MIB) == b"\7" * MIB


ODDITIES: dict[str, Callable[[], Check]] = {
    "io_uring": io_uring,
    "userfaultfd": userfaultfd,
    "device": device,
    "plain-devices": plain_devices,
    "deleted-small": lambda: deleted(MIB // 2),
    "deleted-large": lambda: deleted(3 * MIB),
    "watch-image": lambda: watch("/data/watched"),
    "watch-etc": lambda: watch("/etc/watched"),
    "watch-tmpfs": lambda: watch("/dev/shm/watched"),
    "vsock": vsock,
    "vfork": vfork,
    "traced": traced,
    "nested": nested,
    "terminal": terminal,
    "netlink": netlink,
    "shared": shared,
}


def main() -> None:
    """Do it and count."""
    oddities = sys.argv[1].split(",") if len(sys.argv) > 1 else []
    nonce, counter = os.urandom(8).hex(), 0
    STATE.parent.mkdir(exist_ok=True)
    try:
        checks = {oddity: ODDITIES[oddity]() for oddity in oddities}
    except OSError as error:
        STATE.write_text(json.dumps({"nonce": nonce, "counter": 0, "ok": False, "fault": str(error)}))
        raise
    while True:
        counter += 1
        draft = STATE.with_suffix(".new")
        broken = [oddity for oddity, check in checks.items() if not check()]
        draft.write_text(json.dumps({"nonce": nonce, "counter": counter, "ok": not broken, "broken": broken}))
        draft.rename(STATE)
        time.sleep(0.01)


if __name__ == "__main__":
    main()
