"""A pause that always ends: by the one who made it, or by a watcher process if that one dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from migrator.containerd.cgroup import freezer_of
from migrator.containerd.process import ProcessState
from migrator.containerd.vfork import in_vfork
from migrator.errors import MigratorError, NotFound, PermanentError, PreconditionFailed, ResourceBusy, Unavailable

if TYPE_CHECKING:
    from migrator.containerd.task import Task

RESUME_TRIES = 5
RESUME_TIMEOUT_S = 10.0
"""Deadline of each try: a fresh one, whatever the caller's own was."""
RESUME_DELAY_S = 0.2
LEFT_FROZEN = "task_left_frozen"
NOT_PAUSED = "container not paused"
"""What runc says when it is asked to resume what runs."""
_READY, _DONE = b"ready\n", b"done\n"


@contextmanager
def frozen(task: Task) -> Iterator[None]:
    """Keep a task frozen for the length of the block.

    A task that was paused before stays so. One that was running is resumed in every case; a watcher process does it
    when this process dies inside the block.

    Raises:
        PreconditionFailed: `task_not_running`: it neither runs nor is paused. `task_in_vfork`: it is paused where CRIU
            cannot dump it, and is not ours to resume.
        ResourceBusy: `task_in_vfork`: it cannot be frozen so that CRIU can dump it; it runs.
        MigratorError: `task_left_frozen`: the resume failed again and again; the message says what to do.
    """
    state = task.status().state
    if state is ProcessState.PAUSED:
        _refuse_vfork(task)
        yield
        return
    if state is not ProcessState.RUNNING:
        raise PreconditionFailed(
            f"task {task.container_id} is {state}, so it cannot be frozen",
            code="task_not_running",
            remedy="start it, or wait until it runs",
        )
    with _watched(task):
        _pause(task)
        try:
            yield
        except BaseException as error:
            thaw(task, after=error)
            raise
        thaw(task)


def thaw(task: Task, *, after: BaseException | None = None) -> None:
    """Resume a frozen task, again and again if need be. One that ended, or runs already, is fine.

    Raises:
        MigratorError: `task_left_frozen`; its kind is that of the last failure.
    """
    failure = try_to_thaw(task)
    for attempt in range(1, RESUME_TRIES):
        if failure is None:
            return
        time.sleep(RESUME_DELAY_S * attempt)
        failure = try_to_thaw(task)
    if failure is None:
        return
    reason = f"; before that: {after}" if after is not None else ""
    raise type(failure)(
        f"TASK {task.container_id} IS STILL FROZEN: {failure.message}{reason}",
        code=LEFT_FROZEN,
        host=failure.host,
        remedy=f"run: ctr --namespace {task._client.namespace} tasks resume {task.container_id}",
    ) from failure


def try_to_thaw(task: Task) -> MigratorError | None:
    """Resume once. None means that the task was seen running, or that it is gone; anything else proves nothing.

    While CRIU works on a task its shim does not answer, and the daemon calls its state unknown: it may be frozen.
    """
    failure: MigratorError | None = None
    try:
        task.resume(timeout_s=RESUME_TIMEOUT_S)
    except NotFound:
        return None
    except MigratorError as error:
        failure = error
    try:
        state = task.status(timeout_s=RESUME_TIMEOUT_S).state
    except NotFound:
        return None
    except MigratorError as error:
        return failure or error
    if state in (ProcessState.RUNNING, ProcessState.STOPPED):
        return None
    if failure is not None and NOT_PAUSED in failure.message and _freeze_again(task.pid):
        return _resume_frozen(task)
    return failure or ResourceBusy(f"task {task.container_id} is {state} after a resume", code="task_not_resumed")


def _resume_frozen(task: Task) -> MigratorError | None:
    try:
        task.resume(timeout_s=RESUME_TIMEOUT_S)
    except MigratorError as error:
        return error
    return None


def _freeze_again(pid: int) -> bool:
    """Freeze a task that runs although its shim believes it paused; only so can it be resumed.

    CRIU thaws a task once it holds its threads. Killed then, it leaves one that runs, and that nobody can resume.
    """
    try:
        file, word = freezer_of(pid)
        file.write_text(word)
    except OSError:
        return False
    return True


def _refuse_vfork(task: Task) -> None:
    """Say at once what CRIU would say after ten seconds."""
    pid = in_vfork(task)
    if pid is not None:
        raise PreconditionFailed(
            f"task {task.container_id} was paused while process {pid} stands in a vfork, where it cannot be dumped",
            code="task_in_vfork",
            remedy="resume and pause it again",
        )


def _pause(task: Task) -> None:
    """Pause. After a clear refusal there is nothing of ours to resume; after anything else there may be."""
    try:
        task.pause()
    except PermanentError:
        raise
    except BaseException as error:
        thaw(task, after=error)
        raise


@contextmanager
def _watched(task: Task) -> Iterator[None]:
    """Run the watcher beside the block. It is told at the end that all is well; not told, it resumes the task."""
    watcher = _start_watcher(task)
    word = _DONE
    try:
        yield
    except MigratorError as error:
        word = b"" if error.code == LEFT_FROZEN else _DONE
        raise
    finally:
        _dismiss(watcher, word)


def _dismiss(watcher: subprocess.Popen[bytes], word: bytes) -> None:
    try:
        watcher.communicate(word, timeout=RESUME_TRIES * RESUME_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        watcher.kill()
        watcher.communicate()


def _start_watcher(task: Task) -> subprocess.Popen[bytes]:
    """Start the watcher and wait until it is ready: only then may the task be frozen."""
    client = task._client
    command = [sys.executable, "-m", "migrator.containerd.watcher", client.socket, client.namespace, task.container_id]
    path = os.pathsep.join(part for part in sys.path if part)
    watcher = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert watcher.stdout is not None
    if watcher.stdout.readline() != _READY:
        watcher.kill()
        watcher.communicate()
        raise Unavailable(
            f"the watcher that would resume task {task.container_id} did not start; the task was not touched",
            code="watcher_failed",
        )
    return watcher
