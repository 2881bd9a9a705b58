"""What preflight says of a container, fed with what it would have read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import Container
from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.values import JobRequest
from migrator.service.preflight import container, files, programs, sockets
from migrator.service.preflight.processes import OpenFile, Process, Watch
from migrator.service.preflight.subject import Subject

INIT = Process(10, "server", parent=1)
REQUEST = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
OVERLAY = os.makedev(0, 119)
Check = Callable[[Subject], Iterator[Finding]]


def subject(*processes: Process, own: tuple[str, ...] = ("pid", "ipc", "mount")) -> Subject:
    spec = {"linux": {"namespaces": [{"type": kind} for kind in own]}}
    nothing: Any = SimpleNamespace(pid=10)
    return Subject(nothing, REQUEST, nothing, Container(id="web"), nothing, spec, processes=processes)


def codes(check: Check, *processes: Process) -> list[str]:
    found = list(check(subject(*processes)))
    assert all(finding.grade is Grade.FAIL for finding in found)
    assert all(finding.remedy and "container 'web'" in finding.message for finding in found)
    return [finding.code for finding in found]


def holding(*open_files: OpenFile, **other: Any) -> Process:
    return replace(INIT, files=open_files, **other)


def device(kind: int, major: int, minor: int, target: str = "/dev/some", on: int = 0) -> OpenFile:
    return OpenFile(3, target, kind | 0o600, node=os.makedev(major, minor), device=on)


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("anon_inode:[io_uring]", "io_uring"),
        ("anon_inode:[userfaultfd]", "userfaultfd"),
        ("anon_inode:[perf_event]", "perf_event"),
        ("anon_inode:bpf-prog", "bpf"),
        ("anon_inode:kvm-vm", "kvm"),
        ("/dmabuf:frame", "dmabuf"),
        ("anon_inode:[something new]", "unknown_file"),
    ],
)
def test_a_file_without_a_path_that_criu_does_not_know(target: str, code: str) -> None:
    assert codes(files.check_anonymous, holding(OpenFile(3, target))) == [code]
    assert codes(files.check_anonymous, replace(INIT, mapped=frozenset({target}))) == [code]


@pytest.mark.parametrize("kind", ["eventfd", "eventpoll", "signalfd", "timerfd", "inotify", "fanotify", "pidfd"])
def test_files_without_a_path_that_criu_knows(kind: str) -> None:
    assert codes(files.check_anonymous, holding(OpenFile(3, f"anon_inode:[{kind}]"), OpenFile(4, "pipe:[7]"))) == []


@pytest.mark.parametrize(
    ("kind", "major", "minor"), [(stat.S_IFCHR, 10, 229), (stat.S_IFCHR, 195, 0), (stat.S_IFBLK, 8, 0)]
)
def test_a_device_whose_state_lies_outside(kind: int, major: int, minor: int) -> None:
    assert codes(files.check_devices, holding(device(kind, major, minor))) == ["open_device"]


@pytest.mark.parametrize(("major", "minor"), [(1, 3), (1, 9), (5, 0), (5, 2), (136, 0), (10, 200)])
def test_devices_that_criu_carries_over(major: int, minor: int) -> None:
    assert codes(files.check_devices, holding(device(stat.S_IFCHR, major, minor))) == []


def test_a_mapped_device() -> None:
    assert codes(files.check_devices, replace(INIT, mapped=frozenset({"/dev/dri/card0"}))) == ["open_device"]
    harmless = frozenset({"/dev/zero (deleted)", "/dev/shm/pool", "/dev/hugepages/pool", "/lib/libc.so.6"})
    assert codes(files.check_devices, replace(INIT, mapped=harmless)) == []


def test_a_terminal_needs_its_other_end_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_device_of", lambda _: 30)
    slave, master = device(stat.S_IFCHR, 136, 0, "/dev/pts/0", on=30), device(stat.S_IFCHR, 5, 2, "/dev/ptmx", on=30)
    assert codes(files.check_open_terminals, holding(slave, master)) == []
    assert codes(files.check_open_terminals, holding(slave), holding(master)) == []
    assert codes(files.check_open_terminals, holding(slave)) == ["open_terminal"]
    outside = replace(slave, device=24)
    assert codes(files.check_open_terminals, holding(outside, master)) == ["open_terminal"]


def ghost(size_bytes: int, **other: Any) -> OpenFile:
    known: dict[str, Any] = {"mode": stat.S_IFREG, "links": 0, "size_bytes": size_bytes}
    return OpenFile(3, "/tmp/gone (deleted)", **(known | other))


def test_a_deleted_file_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ghost_limit_bytes", lambda: 1 << 20)
    assert codes(files.check_deleted, holding(ghost((1 << 20) + 512))) == ["ghost_file"]
    assert codes(files.check_deleted, holding(ghost(1 << 20), ghost(1 << 30, links=1))) == []
    memory = replace(ghost(1 << 30), target="/memfd:pool (deleted)")
    assert codes(files.check_deleted, holding(memory)) == []
    monkeypatch.setattr(files, "ghost_limit_bytes", lambda: 10 << 20)
    assert codes(files.check_deleted, holding(ghost(2 << 20))) == [], "the host's own limit counts"


def test_a_watch_on_an_overlay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    known = (tmp_path / "etc").stat().st_ino
    monkeypatch.setattr(files, "_devices_of", lambda *_: {OVERLAY})
    monkeypatch.setattr(Subject, "root", tmp_path)
    watching = [holding(OpenFile(3, "anon_inode:inotify", watches=(watch,))) for watch in (
        Watch(known + 1, OVERLAY, "inotify"), Watch(known + 1, OVERLAY + 1, "inotify"), Watch(known, OVERLAY, "inotify")
    )]  # fmt: skip
    assert [codes(files.check_watches, process) for process in watching] == [["watch_on_overlay"], [], []]


def test_a_link_does_not_lead_the_search_out_of_the_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "log").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/var").symlink_to(outside)
    monkeypatch.setattr(files, "_devices_of", lambda *_: {OVERLAY})
    monkeypatch.setattr(Subject, "root", tmp_path / "root")
    watch = Watch((outside / "log").stat().st_ino, OVERLAY, "inotify")
    assert codes(files.check_watches, holding(OpenFile(3, "anon_inode:inotify", watches=(watch,)))) == [
        "watch_on_overlay"
    ]


def test_a_thread_that_nothing_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "still_asleep", lambda threads: [thread for thread in threads if thread == 12])
    assert codes(programs.check_sleep, replace(INIT, stuck_threads=(11, 12))) == ["uninterruptible_sleep"]
    assert codes(programs.check_sleep, replace(INIT, stuck_threads=(11,))) == [], "it was only waiting for a disk"


def states(proc: Path, **threads: tuple[str, int]) -> None:
    for name, (state, sleeps) in threads.items():
        place = proc / name.strip("t")
        place.mkdir(exist_ok=True)
        (place / "status").write_text(f"State:\t{state} (…)\nvoluntary_ctxt_switches:\t{sleeps}\n")


def test_one_and_the_same_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_time(_: float) -> None:
        states(tmp_path, t1=("D", 7), t2=("D", 8), t3=("S", 7))

    states(tmp_path, t1=("D", 7), t2=("D", 7), t3=("D", 7))
    monkeypatch.setattr(programs.time, "sleep", pass_time)
    assert programs.still_asleep([1, 2, 3, 4], proc=tmp_path) == [1], "2 slept anew, 3 woke, 4 has ended"


def test_nobody_waits_for_threads_that_are_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs.time, "sleep", lambda _: pytest.fail("waited"))
    assert programs.still_asleep([]) == []


def test_who_traces_probes_or_came_from_outside() -> None:
    child, stranger = replace(INIT, pid=11, parent=10), replace(INIT, pid=12, parent=7)
    assert codes(programs.check_tracing, INIT, replace(child, tracer=99)) == ["traced_process"]
    assert codes(programs.check_probes, replace(INIT, mapped=frozenset({"[uprobes]"}))) == ["uprobes"]
    assert codes(programs.check_executed, INIT, child) == []
    assert codes(programs.check_executed, INIT, child, stranger) == ["executed_process"]


@pytest.mark.parametrize(("kind", "refused"), [("net", True), ("pid", True), ("user", True), ("mnt", False)])
def test_namespaces_within_the_container(kind: str, refused: bool) -> None:
    first = replace(INIT, namespaces=(("net", 1), ("pid", 1), ("user", 1), ("mnt", 1)))
    inner = replace(first, pid=11, parent=10, namespaces=tuple((k, 2 if k == kind else 1) for k, _ in first.namespaces))
    assert codes(programs.check_nesting, first, inner) == (["nested_namespace"] if refused else [])
    ended = replace(first, pid=12, parent=10, namespaces=(("pid", 1), ("user", 1)))
    assert codes(programs.check_nesting, first, ended) == [], "it has ended, and nobody has waited for it yet"


def test_shared_memory_of_the_host() -> None:
    sharing = replace(INIT, mapped=frozenset({"/SYSV00000000 (deleted)"}))
    assert [f.code for f in programs.check_shared_memory(subject(sharing, own=("pid",)))] == ["host_ipc"]
    assert list(programs.check_shared_memory(subject(sharing))) == []


def socket_of(protocol: str, number: int = 7) -> OpenFile:
    return OpenFile(3, f"socket:[{number}]", protocol=protocol)


@pytest.mark.parametrize(
    "protocol", ["TCP", "TCPv6", "UDP", "UNIX", "UNIX-STREAM", "NETLINK", "PACKET", "RAWv6", "PING"]
)
def test_sockets_that_criu_knows(protocol: str) -> None:
    assert codes(sockets.check_sockets, holding(socket_of(protocol))) == []


@pytest.mark.parametrize("protocol", ["MPTCP", "SCTP", "AF_VSOCK", "MPTCPv6"])
def test_sockets_that_criu_does_not_know(protocol: str) -> None:
    assert codes(sockets.check_sockets, holding(socket_of(protocol))) == ["unknown_socket"]


NETLINK = """sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   4711       00000000 260      0        0     2        0        7
0000000000000000 0   0          00000000 0        0        0     2        0        8
"""


def test_unread_netlink_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(sockets.parse_netlink(NETLINK)) == ["socket:[7]"]
    monkeypatch.setattr(sockets, "_unread_netlink", lambda _: sockets.parse_netlink(NETLINK))
    (found,) = sockets.check_netlink(subject(holding(socket_of("NETLINK"))))
    assert (found.grade, found.code) == (Grade.WARN, "netlink_data")
    assert list(sockets.check_netlink(subject(holding(socket_of("NETLINK", 8))))) == []
    assert list(sockets.check_netlink(subject(holding(socket_of("UDP", 7))))) == []


def test_a_subject_names_the_container_in_its_refusals() -> None:
    found = cast(Subject, subject()).refusal("files", "some_code", "is odd", "make it even")
    assert found.message == "container 'web' is odd and cannot be checkpointed"


HOOKS: dict[str, Any] = {
    "createRuntime": [{"path": "/usr/bin/tool", "args": ["tool", "internal", "oci-hook", "createRuntime"]}],
    "poststop": [{"path": "/usr/bin/tool", "args": ["tool", "internal", "oci-hook", "postStop"]}],
}


@pytest.mark.parametrize(
    ("hooks", "labels", "told"),
    [
        (HOOKS, {}, ["runtime_hook", "runtime_hook"]),
        (HOOKS, {"nerdctl/namespace": "default"}, ["nerdctl_container"]),
        (None, {"nerdctl/namespace": "default"}, []),
        ({"prestart": None}, {}, []),
    ],
)
def test_a_hook_would_run_once_more_on_the_target(hooks: Any, labels: dict[str, str], told: list[str]) -> None:
    hooked = replace(subject(INIT), spec={"hooks": hooks}, container=Container(id="web", labels=labels))
    found = list(container.check_runtime_hooks(hooked))
    assert [finding.code for finding in found] == told
    assert all("container 'web'" in finding.message and finding.remedy for finding in found)


@pytest.mark.parametrize(
    ("mount", "found"),
    [
        ({"type": "tmpfs", "source": "shm"}, []),
        ({"type": "bind", "source": "/srv"}, []),
        ({"type": "none", "source": "/srv", "options": ["rbind"]}, []),
        ({"type": "ext4", "source": "/dev/sda1"}, ["unknown_mount"]),
        ({"type": "overlay", "source": "x", "options": ["lowerdir=/srv"]}, ["unknown_mount"]),
    ],
)
def test_a_disk_is_shown_by_a_bind_mount_or_not_at_all(mount: dict[str, Any], found: list[str]) -> None:
    seen = subject()
    seen.spec["mounts"] = [{"destination": "/data", **mount}]
    assert [finding.code for finding in container.check_mounts(seen)] == found


def test_what_is_the_hosts_own_is_refused() -> None:
    assert [finding.code for finding in container.check_namespaces(subject())] == []
    seen = subject(own=())
    seen.spec["linux"]["netDevices"] = {"eth1": {}}
    found = [finding.code for finding in container.check_namespaces(seen)]
    assert found == ["host_pid_namespace", "host_mount_namespace", "host_interface"]
