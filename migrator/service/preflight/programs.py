"""The processes of the task: how they sleep, who traces them, where they come from, in which namespaces they live."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path

from migrator.containerd import Task
from migrator.errors import PreconditionFailed
from migrator.models.preflight import Finding
from migrator.service.preflight.processes import PROC, UPROBES, Process, thread_state
from migrator.service.preflight.subject import Subject

STUCK_S = 0.5
"""A disk answers sooner; what sleeps longer than this may sleep for ever."""
ONE_FOR_ALL = {
    "pid": "pid",
    "net": "network",
    "ipc": "IPC",
    "uts": "UTS",
    "user": "user",
    "time": "time",
    "cgroup": "cgroup",
}
"""Namespaces of which CRIU dumps one for a whole container; of networks because runc lets it leave out their inside."""


def check_sleep(subject: Subject) -> Iterator[Finding]:
    """Nothing freezes a thread that waits for a disk, a file server or a child after vfork: the freeze would fail."""
    suspects = {thread: process for process in subject.processes for thread in process.stuck_threads}
    for thread in still_asleep(suspects):
        process = suspects[thread]
        fault = f"has a thread in uninterruptible sleep ({process}, thread {thread})"
        remedy = f"see what it waits for (cat /proc/{thread}/stack), then try again"
        yield subject.refusal("sleep", "uninterruptible_sleep", fault, remedy)


def check_tracing(subject: Subject) -> Iterator[Finding]:
    """CRIU looks into processes by ptrace(2), and a process has one tracer only."""
    for process in subject.processes:
        if process.tracer:
            fault = f"has a process that is being traced ({process}, by {process.tracer})"
            yield subject.refusal("tracing", "traced_process", fault, f"end the debugger or strace {process.tracer}")


def check_probes(subject: Subject) -> Iterator[Finding]:
    """A probe that somebody put into a program lives in the kernel of this host."""
    for process in subject.processes:
        if UPROBES in process.mapped:
            yield subject.refusal(
                "probes", "uprobes", f"is being probed ({process})", "end what traces it (perf, bpftrace)"
            )


def check_shared_memory(subject: Subject) -> Iterator[Finding]:
    """System V memory of the host's own IPC namespace belongs to the host."""
    own = {namespace["type"] for namespace in subject.spec.get("linux", {}).get("namespaces", [])}
    for process in subject.processes if "ipc" not in own else ():
        if any(name.startswith("/SYSV") for name in process.mapped):
            fault = f"uses System V shared memory of the host ({process})"
            yield subject.refusal("shared-memory", "host_ipc", fault, "give it an IPC namespace of its own")


def check_executed(subject: Subject) -> Iterator[Finding]:
    """CRIU dumps the first process and its offspring; what was brought in from outside it loses without a word."""
    known = {process.pid for process in subject.processes}
    for process in subject.processes:
        if process.pid != subject.task.pid and process.parent not in known:
            fault = f"has a process that was started in it from outside ({process})"
            yield subject.refusal("executed", "executed_process", fault, "wait for its end, or end it (ctr tasks exec)")


def refuse_executed(task: Task) -> None:
    """Make sure, now that the task is frozen, that nothing was added by an exec since preflight.

    Raises:
        PreconditionFailed: `executed_process`.
    """
    if added := [process.exec_id for process in task.pids() if process.exec_id]:
        raise PreconditionFailed(
            f"container '{task.container_id}' has processes that were added by an exec ({', '.join(added)})",
            code="executed_process",
            remedy="end them, or wait until they have ended",
        )


def check_nesting(subject: Subject) -> Iterator[Finding]:
    """A container within the container has namespaces that CRIU cannot dump."""
    first = next((process for process in subject.processes if process.pid == subject.task.pid), None)
    for process in subject.processes if first else ():
        own = dict(process.namespaces)
        found = [word for kind, word in ONE_FOR_ALL.items() if kind in own and own[kind] != _own(first, kind)]
        if found:  # a process that has ended, and is not yet waited for, lives in none
            fault = f"has a process in a {found[0]} namespace of its own ({process})"
            yield subject.refusal("nesting", "nested_namespace", fault, "end it: CRIU dumps one namespace of that kind")


def _own(process: Process | None, kind: str) -> int | None:
    return dict(process.namespaces).get(kind) if process else None


def still_asleep(threads: Collection[int], wait_s: float = STUCK_S, proc: Path = PROC) -> list[int]:
    """Say which of these threads neither wake nor go to sleep anew for a while; none of none, at once."""
    before = {thread: _state(proc / str(thread)) for thread in threads}
    if before:
        time.sleep(wait_s)
    return [thread for thread, was in before.items() if was[0] == "D" and _state(proc / str(thread)) == was]


def _state(thread: Path) -> tuple[str, str]:
    try:
        return thread_state(thread)
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
