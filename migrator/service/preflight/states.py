"""Processes that CRIU cannot take hold of: stopped ones, and other users' where it may not read their limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from migrator.models.preflight import Finding
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


def _may_read_limits() -> bool:
    return bool(int(read_status(Path("/proc/self/status"))["CapEff"], 16) >> CAP_SYS_RESOURCE & 1)


def _statuses(subject: Subject) -> Iterator[tuple[int, dict[str, str]]]:
    for process in subject.task.pids():
        with suppress(OSError):  # gone since
            yield process.pid, read_status(Path(f"/proc/{process.pid}/status"))
