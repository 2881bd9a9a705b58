"""What a task's first process and a process added to it have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from signal import Signals
from typing import TYPE_CHECKING

from migrator.containerd.faults import Subject
from migrator.containerd.io import ProcessIO, Stdio
from migrator.containerd.values import moment
from migrator.errors import NotFound, PreconditionFailed, ResourceBusy, Unavailable, WorkloadFailed
from migrator.gen.containerd.services.tasks.v1 import tasks_pb2 as pb
from migrator.gen.containerd.services.tasks.v1.tasks_pb2_grpc import TasksStub
from migrator.gen.containerd.types.task import task_pb2

if TYPE_CHECKING:
    from migrator.containerd.client import ContainerdClient

WAIT_ROUND_S = 60.0
"""A wait without end asks again this often, so that no call is without a deadline."""
OUTPUT_PATIENCE_S = 5.0
"""A grandchild may keep an output open for ever; its last words are waited for this long."""


class ProcessState(StrEnum):
    """The life of a process."""

    UNKNOWN = "unknown"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"
    PAUSED = "paused"
    PAUSING = "pausing"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a process stands; the exit fields mean something when it is stopped."""

    state: ProcessState
    exit_status: int = 0
    exited_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: 128 + N when signal N killed it."""

    code: int
    exited_at: datetime | None = None


class Process:
    """A process of a task, addressed by container id and exec id (empty: the first one).

    Errors carry the codes `container_not_found`, `task_not_found` and `process_not_found`.
    """

    kind = "process"

    def __init__(
        self, client: ContainerdClient, container_id: str, exec_id: str, *, pid: int = 0, io: ProcessIO | None = None
    ):
        self._client = client
        self._caller = client.caller
        self.container_id = container_id
        self.exec_id = exec_id
        self.pid = pid
        self.io = io

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} pid={self.pid}>"

    @property
    def id(self) -> str:
        """The container's id for the first process, else the exec id."""
        return self.exec_id or self.container_id

    def start(self, *, timeout_s: float | None = None) -> int:
        """Run what was created, or restore it; return its pid on the host.

        Raises:
            WorkloadFailed: `task_start_failed`: the runtime refused. Of a restored program nothing has run.
            OutcomeUnknown: No answer came: look at `status` before anything else.
        """
        request = pb.StartRequest(container_id=self.container_id, exec_id=self.exec_id)
        subject = self._subject("start", changes=True, runs=True)
        try:
            answer = self._caller.unary(
                self._stub.Start, request, subject, timeout_s=timeout_s or self._caller.slow_timeout_s
            )
        except BaseException:
            self._drop_io()
            raise
        self.pid = answer.pid
        return self.pid

    def kill(self, signal: int = Signals.SIGTERM, *, all: bool = False, exec_id: str | None = None) -> None:
        """Send a signal.

        Args:
            signal: Its number.
            all: To every process of the task. Signal 9 so ends a frozen task without one more of its instructions.
                Other signals reach the first process alone since runc 1.2.
            exec_id: To that added process instead of this one.

        Raises:
            NotFound: The process has ended, or never was.
        """
        request = pb.KillRequest(
            container_id=self.container_id,
            exec_id=self.exec_id if exec_id is None else exec_id,
            signal=int(signal),
            all=all,
        )
        self._caller.unary(self._stub.Kill, request, self._subject("kill", changes=True))

    def status(self, *, timeout_s: float | None = None) -> Status:
        """Ask where the process stands.

        Raises:
            NotFound: There is no such process.
        """
        found = self._get(timeout_s)
        state = ProcessState(task_pb2.Status.Name(found.status).lower())
        return Status(state, found.exit_status, moment(found.exited_at))

    def stdio(self) -> Stdio:
        """The names that the shim opened for this process."""
        found = self._get(None)
        return Stdio(found.stdin, found.stdout, found.stderr, found.terminal)

    def wait(self, timeout_s: float | None = None) -> ExitStatus:
        """Wait for the end of the process.

        Args:
            timeout_s: How long. None: for ever, in rounds that each have a deadline.

        Raises:
            ResourceBusy: `task_still_running` or `process_still_running`: the time is over.
            NotFound: There is no such process (any more).
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = WAIT_ROUND_S if end is None else max(0.05, end - time.monotonic())
            try:
                return self._wait_once(min(left, WAIT_ROUND_S))
            except Unavailable as error:
                if error.code != "containerd_timeout":
                    raise
                if end is not None and time.monotonic() >= end:
                    raise ResourceBusy(
                        f"{self._name()} still runs after {timeout_s:g} s", code=f"{self.kind}_still_running"
                    ) from error

    def delete(self, *, kill: bool = False, timeout_s: float | None = None) -> ExitStatus:
        """Delete the process and its runtime state, and return how it ended.

        Args:
            kill: End it by signal 9 first if it still runs, created, paused or running.
            timeout_s: Deadline of each call.

        Raises:
            PreconditionFailed: `task_not_stopped` or `process_not_stopped`.
            NotFound: There is no such process.
        """
        if kill:
            self._end(timeout_s)
        status = self.status()
        if not self._deletable(status):
            raise PreconditionFailed(
                f"{self._name()} is {status.state}; only what is stopped can be deleted",
                code=f"{self.kind}_not_stopped",
                remedy="kill it and wait for its end first",
            )
        if self.io is not None and status.state is not ProcessState.CREATED:
            self.io.wait(OUTPUT_PATIENCE_S)
        answer = self._delete(timeout_s)
        self._drop_io()
        return ExitStatus(answer.exit_status, moment(answer.exited_at))

    def close_io(self, *, stdin: bool = True) -> None:
        """Let the process see the end of its input."""
        request = pb.CloseIORequest(container_id=self.container_id, exec_id=self.exec_id, stdin=stdin)
        self._caller.unary(self._stub.CloseIO, request, self._subject("close the input of", changes=True))

    def resize(self, width: int, height: int) -> None:
        """Set the size of the process's terminal, in characters."""
        request = pb.ResizePtyRequest(container_id=self.container_id, exec_id=self.exec_id, width=width, height=height)
        self._caller.unary(self._stub.ResizePty, request, self._subject("resize the terminal of", changes=True))

    def _deletable(self, status: Status) -> bool:
        return status.state in (ProcessState.STOPPED, ProcessState.UNKNOWN, ProcessState.CREATED)

    def _delete(self, timeout_s: float | None) -> pb.DeleteResponse:
        request = pb.DeleteProcessRequest(container_id=self.container_id, exec_id=self.exec_id)
        return self._caller.unary(
            self._stub.DeleteProcess, request, self._subject("delete", changes=True), timeout_s=timeout_s
        )

    def _end(self, timeout_s: float | None) -> None:
        """Kill with signal 9 and wait; one that has ended already is fine."""
        try:
            if self.status().state is ProcessState.STOPPED:
                return
            self.kill(Signals.SIGKILL, all=not self.exec_id)
        except (NotFound, PreconditionFailed):
            if self.status().state is not ProcessState.STOPPED:
                raise
        self.wait(timeout_s or self._caller.timeout_s)

    def _wait_once(self, timeout_s: float) -> ExitStatus:
        request = pb.WaitRequest(container_id=self.container_id, exec_id=self.exec_id)
        answer = self._caller.unary(self._stub.Wait, request, self._subject("wait for"), timeout_s=timeout_s)
        return ExitStatus(answer.exit_status, moment(answer.exited_at))

    def _get(self, timeout_s: float | None) -> task_pb2.Process:
        request = pb.GetRequest(container_id=self.container_id, exec_id=self.exec_id)
        return self._caller.unary(self._stub.Get, request, self._subject("read"), timeout_s=timeout_s).process

    def _drop_io(self) -> None:
        if self.io is not None:
            self.io.cancel()
            self.io.close()

    def _name(self) -> str:
        return f"{self.kind} {self.id} in namespace {self._caller.namespace}"

    def _subject(self, act: str, *, changes: bool = False, runs: bool = False) -> Subject:
        if runs:
            return Subject(act, self.kind, self.id, self._caller.namespace, changes, WorkloadFailed)
        return self._caller.subject(act, self.kind, self.id, changes=changes)

    @property
    def _stub(self) -> TasksStub:
        return self._caller.stub(TasksStub)
