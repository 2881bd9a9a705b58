"""Processes that CRIU cannot take hold of: stopped ones, and other users' where it may not read their limits.

And those that it does not put back as they were: threads that keep to some processors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from migrator.models.preflight import Finding, Grade
from migrator.service.preflight.processes import read_status
from migrator.service.preflight.subject import Subject

CAP_SYS_RESOURCE = 24


def check_stopped(subject: Subject) -> Iterator[Finding]:
    """A stopped process in a frozen cgroup never answers a tracer: the dump would hang until its time is over."""
    stopped = [pid for pid, status in _statuses(subject) if status.get("State", "").startswith("T")]
    if stopped:
        fault = f"has a process that was stopped by a signal (pid {stopped[0]} of the host)"
        yield subject.refusal("stopped", "stopped_process", fault, f"let it go on (kill -CONT {stopped[0]}) or end it")


def check_users(subject: Subject) -> Iterator[Finding]:
    """prlimit(2) tells a process of another user's limits only to CAP_SYS_RESOURCE."""
    if _may_read_limits():
        return
    for pid, status in _statuses(subject):
        users = {*status.get("Uid", "0").split(), *status.get("Gid", "0").split()}
        if users != {"0"} and not status.get("State", "").startswith("Z"):
            fault = f"has a process that is not root's (pid {pid} of the host), on a host without CAP_SYS_RESOURCE,"
            remedy = "give containerd and the worker that capability, or use a host that has it"
            yield subject.refusal("users", "no_cap_sys_resource", fault, remedy)
            return


def check_pinned(subject: Subject) -> Iterator[Finding]:
    """CRIU restores no thread's affinity; the processors that the container's limits name are the runtime's affair."""
    limits = subject.spec.get("linux", {}).get("resources", {}).get("cpu") or {}
    usual = parse_processors(limits["cpus"]) if limits.get("cpus") else _processors_of_shim(subject.task.pid)
    for process in subject.task.pids():
        kept = [mine for mine in _affinities(process.pid) if usual and mine != usual]
        if kept:
            shown = ",".join(map(str, sorted(kept[0])))
            message = f"process {process.pid} keeps to some processors ({shown}), and will not after the move"
            remedy = "let it set its affinity again, or limit the whole container (`--cpuset-cpus`), which moves"
            yield Finding("pinned", Grade.WARN, message, "pinned_processors", remedy)


def parse_processors(text: str) -> set[int]:
    """Read a list such as `0-3,5` (cpuset(7), list format)."""
    ranges = (part.partition("-") for part in text.split(",") if part.strip())
    return {number for first, _, last in ranges for number in range(int(first), int(last or first) + 1)}


def _processors_of_shim(pid: int) -> set[int]:
    """Who started the container keeps to what everything here keeps to; nothing when that cannot be said."""
    try:
        return os.sched_getaffinity(int(read_status(Path(f"/proc/{pid}/status"))["PPid"]))
    except (OSError, KeyError, ValueError):
        return set()


def _affinities(pid: int) -> Iterator[set[int]]:
    with suppress(OSError):  # gone since
        for thread in Path(f"/proc/{pid}/task").iterdir():
            yield os.sched_getaffinity(int(thread.name))


def _may_read_limits() -> bool:
    return bool(int(read_status(Path("/proc/self/status"))["CapEff"], 16) >> CAP_SYS_RESOURCE & 1)


def _statuses(subject: Subject) -> Iterator[tuple[int, dict[str, str]]]:
    for process in subject.task.pids():
        with suppress(OSError):  # gone since
            yield process.pid, read_status(Path(f"/proc/{process.pid}/status"))
