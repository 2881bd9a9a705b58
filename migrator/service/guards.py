"""The pause guard: a small detached process for each freeze that promises nobody stays frozen for ever.

Its whole state is one JSON file under a lock, `RUN_DIR/guards/JOB.json`:

    armed     resume the task when the worker dies or the freeze budget is spent
    promised  the source waits for the verdict, whatever the clock says
    released  the verdict is in (or the freeze is over): the guard goes
    resumed   the guard has let the task run again; a promise is refused from then on

Promise and self-resume exclude each other by the lock: a source that has resumed itself can never be given away.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from migrator.errors import InternalError, PreconditionFailed

ARMING_S = 15.0
"""How long a new guard may take to say that it watches."""


class GuardState(StrEnum):
    """Where a guard stands."""

    ARMED = "armed"
    PROMISED = "promised"
    RELEASED = "released"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True)
class GuardRecord:
    """What a guard knows; no secrets."""

    job_id: str
    namespace: str
    container: str
    containerd_socket: str
    worker_pid: int
    worker_started: int
    """Field 22 of /proc/PID/stat (proc(5)), so that a reused pid is not taken for the worker."""
    budget_s: float
    patience_s: float
    state: GuardState = GuardState.ARMED
    guard_pid: int = 0
    network: dict[str, Any] | None = None
    """How the container is connected, if the freeze cuts it off: the guard joins it again."""
    reason: str = ""


class GuardFile:
    """One guard's record on disk, changed under a lock."""

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[GuardRecord | None]:
        """Hold the lock and give the record as it is; None when there is no guard.

        The file of the lock goes when the record is gone.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_path = self.path.with_suffix(".lock")
        with _open_locked(lock_path):
            try:
                yield self.read()
            finally:
                if not self.path.exists():
                    lock_path.unlink(missing_ok=True)

    def write(self, record: GuardRecord) -> None:
        """Replace the record; call it under the lock."""
        temporary = self.path.with_suffix(".new")
        try:
            temporary.write_text(json.dumps(asdict(record)))
            temporary.rename(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Forget the guard; call it under the lock."""
        self.path.unlink(missing_ok=True)

    def read(self) -> GuardRecord | None:
        """Give the record as it is; without the lock it may be another one at once."""
        try:
            data = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        return GuardRecord(**{**data, "state": GuardState(data["state"])})


class Guards:
    """The guards of this host.

    Args:
        directory: Where the records are; gone after a reboot, as the frozen tasks are.
        containerd_socket: What a guard talks to.
        budget_s: The longest a source may stay frozen before the promise.
        patience_s: How long a guard waits after its worker died.
    """

    def __init__(self, directory: Path, containerd_socket: Path, *, budget_s: float, patience_s: float):
        self._directory = directory
        self._socket = containerd_socket
        self._budget_s = budget_s
        self._patience_s = patience_s

    def arm(self, job_id: str, namespace: str, container: str, network: dict[str, Any] | None = None) -> None:
        """Start a guard and return when it watches; a guard that still watches this job is kept.

        Raises:
            PreconditionFailed: `guard_resumed`, this job's guard has promised, or has let the task run: too late.
            InternalError: `guard_failed`, the process did not come up.
        """
        file = self._file(job_id)
        with file.locked() as record:
            if record and record.state is not GuardState.ARMED:
                raise _not_armed(record)
            if record and self._alive(record.guard_pid):
                return
            worker_pid, worker_started = self._worker()
            file.write(
                GuardRecord(
                    job_id=job_id,
                    namespace=namespace,
                    container=container,
                    containerd_socket=str(self._socket),
                    worker_pid=worker_pid,
                    worker_started=worker_started,
                    budget_s=self._budget_s,
                    patience_s=self._patience_s,
                    network=network,
                )
            )
        self._spawn(file)

    def check(self, job_id: str) -> None:
        """Make sure that the guard of this job has watched all the time.

        Raises:
            PreconditionFailed: `guard_resumed`, the task runs again or its guard is gone.
        """
        with self._file(job_id).locked() as record:
            if not self._watches(record):
                raise _not_armed(record)

    @contextmanager
    def holding(self, job_id: str) -> Iterator[None]:
        """Freeze in this block: until its end the guard of this job, which watches, decides nothing.

        Raises:
            PreconditionFailed: `guard_resumed`, it has decided already, or is gone.
        """
        with self._file(job_id).locked() as record:
            if not self._watches(record):
                raise _not_armed(record)
            yield

    def promise(self, job_id: str) -> None:
        """From now on the guard waits for the verdict instead of its own clock.

        Raises:
            PreconditionFailed: `guard_resumed`, the task runs again or its guard is gone; it cannot be given away.
        """
        file = self._file(job_id)
        with file.locked() as record:
            if record and record.state is GuardState.PROMISED:
                return
            if record is None or not self._watches(record):
                raise _not_armed(record)
            file.write(replace(record, state=GuardState.PROMISED))

    def release(self, job_id: str) -> None:
        """Send the guard away: the verdict is in and has been carried out."""
        file = self._file(job_id)
        with file.locked() as record:
            if record:
                file.write(replace(record, state=GuardState.RELEASED))
        if record:
            self._await_exit(record.guard_pid)
        with file.locked():
            file.remove()

    def state(self, job_id: str) -> GuardState | None:
        """Tell where a job's guard stands; None when there is none."""
        with self._file(job_id).locked() as record:
            return record.state if record else None

    def list(self) -> list[GuardFile]:
        """List every job's file, also where only the lock is left."""
        names = {path.with_suffix(".json") for path in self._directory.glob("*.*")}
        return [GuardFile(path) for path in sorted(names)]

    def watched(self, record: GuardRecord) -> bool:
        """Whether the process behind a record lives."""
        return self._alive(record.guard_pid)

    def forget(self, job_id: str) -> None:
        """Drop what a dead guard left; one that lives is not touched."""
        file = self._file(job_id)
        with suppress(ValueError, TypeError), file.locked() as record:  # what nobody can read has no guard
            if record and self.watched(record):
                return
            file.remove()
        file.remove()
        for suffix in (".new", ".lock"):
            file.path.with_suffix(suffix).unlink(missing_ok=True)

    def _watches(self, record: GuardRecord | None) -> bool:
        return record is not None and record.state is GuardState.ARMED and self._alive(record.guard_pid)

    def _file(self, job_id: str) -> GuardFile:
        return GuardFile(self._directory / f"{job_id}.json")

    def _worker(self) -> tuple[int, int]:
        """This worker's pid and when it started."""
        pid = os.getpid()
        return pid, started_ticks(pid) or 0

    def _alive(self, pid: int) -> bool:
        return _alive(pid)

    def _spawn(self, file: GuardFile) -> None:
        _spawn(file.path)

    def _await_exit(self, pid: int) -> None:
        _await_exit(pid)


def criu_directory(run_directory: Path, job_id: str) -> Path:
    """Where CRIU works for a job."""
    return run_directory / "criu" / job_id


def _open_locked(path: Path) -> TextIO:
    """Open and lock a file that its holder may remove: whoever waited for it then takes the one that is there now."""
    while True:
        lock = path.open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()


def started_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc(5), field 22); None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _not_armed(record: GuardRecord | None) -> PreconditionFailed:
    reason = record.reason if record and record.reason else "its pause guard is gone or has given it away"
    return PreconditionFailed(
        f"the source can no longer be given away: {reason}",
        code="guard_resumed",
        remedy="start again; raise MIGRATOR_FREEZE_BUDGET_S if the freeze took too long",
    )


def _spawn(path: Path) -> None:
    """Start the guard in a session of its own and wait for its first word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "migrator.service.pause_guard", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        close_fds=True,
    )
    word = _read_line(process, time.monotonic() + ARMING_S)
    if word != b"watching":
        process.kill()
        process.wait(timeout=5)
        raise InternalError(
            "the pause guard did not start",
            code="guard_failed",
            remedy="see the worker's log; nothing was frozen",
        )


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    line = b""
    while time.monotonic() < deadline and process.poll() is None and not line.endswith(b"\n"):
        line += process.stdout.read() or b""
        time.sleep(0.005)
    process.stdout.close()
    return line.strip()


def _alive(pid: int) -> bool:
    return pid > 0 and started_ticks(pid) is not None


def _await_exit(pid: int) -> None:
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
