"""Run a command in a container by containerd's exec, as the container's own user and with its environment.

When this returns the command is gone, with all that it started and that is still below it: CRIU dumps nothing that was
brought in from outside.
"""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.containerd import ContainerdClient, FifoIO, Process, ProcessState
from migrator.errors import MigratorError, NotFound, PreconditionFailed, ResourceBusy

OUTPUT_LIMIT_BYTES = 2048
"""What is kept of the output: its end."""
TOLD_SIGNS = 400
LOOK_S = 0.2
END_S = 10.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    """The last of what it said, in one line of printable signs."""
    timed_out: bool = False
    took_s: float = 0.0

    @property
    def fault(self) -> str:
        """What went wrong, empty if nothing did."""
        if not self.timed_out and not self.code:
            return ""
        end = f"was ended after {self.took_s:.0f} s" if self.timed_out else f"failed with exit status {self.code}"
        return f"{end}: {self.output}" if self.output else f"{end} and said nothing"


class Tail(io.RawIOBase):
    """Keeps the end of what is written into it."""

    def __init__(self, limit_bytes: int = OUTPUT_LIMIT_BYTES):
        super().__init__()
        self._limit_bytes = limit_bytes
        self._kept = b""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Keep the end of it."""
        self._kept = (self._kept + bytes(data))[-self._limit_bytes :]
        return len(data)

    @property
    def text(self) -> str:
        """The last of it, in one line of printable signs."""
        lines = self._kept.decode(errors="replace").split("\n")
        line = " | ".join(filter(None, (line.strip() for line in lines)))
        plain = "".join(sign if sign.isprintable() else "?" for sign in line)
        return plain if len(plain) <= TOLD_SIGNS else f"…{plain[-TOLD_SIGNS:]}"


def run_command(
    runtime: ContainerdClient,
    container: str,
    exec_id: str,
    words: list[str],
    *,
    timeout_s: float,
    directory: Path,
    check: Callable[[], None] = lambda: None,
) -> Ended:
    """Run a command and wait for its end; one of that exec id that a former attempt left is ended first.

    Args:
        runtime: containerd's namespace of the container.
        container: Its id; its task must run.
        exec_id: A name for the process, always the same for the same act.
        words: The command.
        timeout_s: Then it is killed with all of its offspring.
        directory: Where its FIFOs are made.
        check: Called again and again; what it raises ends the command.

    Raises:
        NotFound: There is no such container or task.
        WorkloadFailed: It could not be started, such as for lack of a shell.
    """
    end_command(runtime, container, exec_id)
    spec = {**runtime.containers.get(container).spec_json()["process"], "args": words, "terminal": False}
    tail = Tail()
    with FifoIO(directory, stdout=tail, stderr=tail) as pipes:  # type: ignore[arg-type]
        process = runtime.task(container).exec(exec_id, spec, pipes)
        begun = time.monotonic()
        try:
            process.start()
            timed_out = _await(process, begun + timeout_s, check)
        except BaseException:
            with suppress(MigratorError):  # whoever comes next tries again
                end_command(runtime, container, exec_id)
            raise
        took_s = time.monotonic() - begun
        code = _end(process)
    return Ended(code, tail.text, timed_out, took_s)


def end_command(runtime: ContainerdClient, container: str, exec_id: str) -> None:
    """End a command and all that is below it, and delete it; an absent one is fine."""
    with suppress(NotFound):
        _end(runtime.task(container).load_process(exec_id))


def _end(process: Process) -> int:
    """End it, also if it never began, delete it, and return its exit status."""
    state = process.status().state
    if state is ProcessState.RUNNING:
        for pid in list(_family(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return process.delete(kill=state is ProcessState.RUNNING, timeout_s=END_S).code


def _await(process: Process, deadline: float, check: Callable[[], None]) -> bool:
    """Wait for its end; True when its time was over first."""
    while time.monotonic() < deadline:
        check()
        with suppress(ResourceBusy):
            process.wait(min(LOOK_S, max(0.01, deadline - time.monotonic())))
            return False
    return True


def _family(pid: int) -> Iterator[int]:
    """A process that runs and all below it; each is stopped before its children are looked for."""
    if not pid:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    yield from [below for child in _children(pid) for below in _family(child)]
    yield pid


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, file.read_text().split())
    return found


def check_runs(runtime: ContainerdClient, container: str) -> None:
    """Make sure that a container's task runs.

    Raises:
        PreconditionFailed: `task_not_running`.
    """
    try:
        state = runtime.task(container).status().state.value
    except NotFound:
        state = "absent"
    if state != "running":
        raise PreconditionFailed(
            f"container '{container}' does not run (its task is {state})", code="task_not_running", remedy="start it"
        )


def fault_of(error: MigratorError) -> str:
    """What went wrong when a command could not even be started."""
    return f"could not be run: {error.message}"
