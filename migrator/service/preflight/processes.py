"""The processes of a container: CRIU dumps the first one and its descendants, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from migrator.containerd import Task
from migrator.errors import PreconditionFailed
from migrator.models.preflight import Finding
from migrator.service.preflight.subject import Subject

CAP_SYS_RESOURCE = 24
REMEDY = "end them, or wait until they have ended"


def check_added(subject: Subject) -> Iterator[Finding]:
    """A process that was added by an exec has its parent outside: CRIU leaves it out without a word."""
    if added := added_processes(subject.task):
        yield subject.refusal("processes", "exec_processes", _fault(added), REMEDY)


def check_owners(subject: Subject) -> Iterator[Finding]:
    """Limits of a process of another user can be read only by who has CAP_SYS_RESOURCE (prlimit(2)); CRIU must."""
    if _may_read_limits():
        return
    others = [process.pid for process in subject.task.pids() if not _is_roots(process.pid)]
    if others:
        found = ", ".join(map(str, others))
        fault = f"has processes of other users than root (pid {found}), whose limits CRIU may not read here"
        yield subject.refusal("processes", "no_sys_resource", fault, "give containerd CAP_SYS_RESOURCE on this host")


def refuse_added(task: Task) -> None:
    """Make sure, now that the task is frozen, that nothing was added since preflight.

    Raises:
        PreconditionFailed: `exec_processes`.
    """
    if added := added_processes(task):
        message = f"container '{task.container_id}' {_fault(added)} and cannot be checkpointed"
        raise PreconditionFailed(message, code="exec_processes", remedy=REMEDY)


def added_processes(task: Task) -> list[str]:
    """The exec ids of what was added to a task and runs."""
    return [process.exec_id for process in task.pids() if process.exec_id]


def _may_read_limits() -> bool:
    capabilities = int(_status("self", "CapEff")[0], 16)
    return bool(capabilities >> CAP_SYS_RESOURCE & 1)


def _is_roots(pid: int) -> bool:
    try:
        return {*_status(pid, "Uid")[:3], *_status(pid, "Gid")[:3]} == {"0"}
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return True


def _status(pid: int | str, name: str) -> list[str]:
    """A line of a process's status (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


def _fault(added: list[str]) -> str:
    return f"has processes that were added by an exec ({', '.join(added)})"
