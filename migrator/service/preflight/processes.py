"""The processes of a container: CRIU dumps the first one and its descendants, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.containerd import Task
from migrator.errors import PreconditionFailed
from migrator.models.preflight import Finding
from migrator.service.preflight.subject import Subject

REMEDY = "end them, or wait until they have ended"


def check_added(subject: Subject) -> Iterator[Finding]:
    """A process that was added by an exec has its parent outside: CRIU leaves it out without a word."""
    if added := added_processes(subject.task):
        yield subject.refusal("processes", "exec_processes", _fault(added), REMEDY)


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


def _fault(added: list[str]) -> str:
    return f"has processes that were added by an exec ({', '.join(added)})"
