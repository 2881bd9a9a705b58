"""What /proc tells, read from this very process."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.service.preflight.files import anonymous_kind, is_ghost
from migrator.service.preflight.processes import OpenFile, Process, device_number, parse_watches, read_processes

LIBC = ctypes.CDLL(None)


def me() -> Process:
    (process,) = read_processes([os.getpid()])
    return process


def opened(descriptor: int) -> OpenFile:
    return next(file for file in me().files if file.fd == descriptor)


@pytest.fixture
def watcher() -> Iterator[int]:
    descriptor = LIBC.inotify_init1(0)
    yield descriptor
    os.close(descriptor)


def test_a_process_as_it_is() -> None:
    process = me()
    assert (process.pid, process.parent, process.tracer) == (os.getpid(), os.getppid(), 0)
    assert process.stuck_threads == ()
    assert dict(process.namespaces)["pid"] == Path("/proc/self/ns/pid").stat().st_ino
    assert any("libc" in name for name in process.mapped)
    assert not any(name.startswith("[") for name in process.mapped)


def test_a_process_that_has_ended_is_left_out() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert [process.pid for process in read_processes([child.pid, os.getpid()])] == [os.getpid()]


def test_a_process_whose_parent_ends_while_it_is_looked_at_has_another_one() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())

        def pids() -> Iterator[int]:
            yield child_pid
            parent.kill()
            parent.wait()
            yield parent.pid

        (child,) = read_processes(pids())
        os.kill(child_pid, signal.SIGKILL)
    assert child.parent != parent.pid


def test_a_deleted_file() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(256)) * 400)
        file.flush()
        os.fsync(file.fileno())
        seen = opened(file.fileno())
    assert is_ghost(seen)
    assert 100_000 <= seen.size_bytes < 200_000


def test_a_file_with_a_name_is_no_ghost(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w") as file:
        assert not is_ghost(opened(file.fileno()))


def test_a_watch(watcher: int, tmp_path: Path) -> None:
    assert LIBC.inotify_add_watch(watcher, os.fsencode(tmp_path), 2) >= 0
    seen = opened(watcher)
    assert anonymous_kind(seen.target) == "inotify"
    (watch,) = seen.watches
    assert (watch.inode, watch.kind) == (tmp_path.stat().st_ino, "inotify")


def test_protocols_of_sockets() -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink,
    ):
        assert opened(tcp.fileno()).protocol == "TCPv6"
        assert opened(netlink.fileno()).protocol == "NETLINK"


def test_devices_and_watches_in_the_kernels_words() -> None:
    assert device_number(0x800013) == os.makedev(8, 19)
    fdinfo = "pos:\t0\nfanotify flags:10 event-flags:0\nfanotify mnt_id:12 mflags:0 mask:3b\nfanotify ino:4f969 sdev:800013 mflags:0"
    (watch,) = parse_watches(fdinfo)
    assert (watch.inode, watch.device, watch.kind) == (0x4F969, os.makedev(8, 19), "fanotify")
