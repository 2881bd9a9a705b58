#!/usr/bin/python3
"""A child that tells each number by an eventfd, a signal and a pipe; the parent waits for all three with epoll."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct

from witness import Witness

LIBC = ctypes.CDLL(None, use_errno=True)
SIGNAL_INFO_BYTES = 128
ANSWER_S = 60.0


def signal_descriptor(number: int) -> int:
    """signalfd(2); the signal is blocked, so it is read there and nowhere else."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    mask = ctypes.create_string_buffer(128)
    LIBC.sigemptyset(mask)
    LIBC.sigaddset(mask, number)
    descriptor = LIBC.signalfd(-1, mask, 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return descriptor


def tell(parent: int, events: int, down: int, up: int) -> None:
    """Tell each number that is asked for in three ways."""
    while request := os.read(down, 8):
        (number,) = struct.unpack("<Q", request)
        os.eventfd_write(events, number)
        os.write(up, struct.pack("<Q", number))
        os.kill(parent, signal.SIGUSR2)


def main() -> None:
    """Fork, then ask for number after number."""
    signals, events = signal_descriptor(signal.SIGUSR2), os.eventfd(0)
    (down_reader, down), (up, up_writer) = os.pipe(), os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        tell(parent, events, down_reader, up_writer)
    poll = select.epoll()
    for descriptor in (signals, events, up):
        poll.register(descriptor, select.EPOLLIN)
    witness = Witness()

    def read(descriptor: int) -> int:
        if descriptor == signals:
            return int(struct.unpack_from("<I", os.read(signals, SIGNAL_INFO_BYTES), 12)[0])  # ssi_pid
        return int.from_bytes(os.read(descriptor, 8), "little")

    def ask(count: int) -> None:
        number = count + 1
        os.write(down, struct.pack("<Q", number))
        found: dict[int, int] = {}
        while len(found) < 3:
            ready = poll.poll(ANSWER_S)
            if not ready:
                raise TimeoutError(f"only {found} came")
            found.update({descriptor: read(descriptor) for descriptor, _ in ready})
        witness.expect("what came", found, {signals: child, events: number, up: number})

    witness.run(ask)


if __name__ == "__main__":
    main()
