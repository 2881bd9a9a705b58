"""The process behind `guards`: `python -m migrator.service.pause_guard RECORD`.

It says `watching` on its standard output once it does, then looks ten times a second. It needs nothing but its record
and containerd's socket, so it outlives its worker, the controller, the broker and the database. Only after a promise,
and only if its worker is dead, does it ask the object store for the verdict.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from migrator.containerd import ContainerdClient, try_to_thaw
from migrator.criu.leftovers import end_criu, works_in
from migrator.errors import MigratorError, NotFound
from migrator.service.guards import GuardFile, GuardRecord, GuardState, criu_directory, started_ticks

LOOK_S = 0.1
CALL_LIMIT_S = 5.0
CRIU_BUDGETS = 2.0
"""So many times the freeze budget CRIU may take before it counts as hanging."""
ASK_S = 2.0
"""Between two questions for the verdict."""


class PauseGuard:
    """Watches one frozen task.

    Args:
        file: The record, shared with the worker.
        client: containerd, in the task's namespace.
        lets_run: Asks for the verdict on a job: whether its source may run again.
        now_s: The clock; one that is never set.
    """

    def __init__(
        self,
        file: GuardFile,
        client: ContainerdClient,
        lets_run: Callable[[str], bool],
        now_s: Callable[[], float] = time.monotonic,
    ):
        self._file = file
        self._client = client
        self._lets_run = lets_run
        self._asked_at_s = 0.0
        self._now_s = now_s
        self._armed_at_s = now_s()
        self._worker_gone_at_s: float | None = None

    def watch(self) -> None:
        """Look until the guard is released or has resumed the task."""
        while self.look():
            time.sleep(LOOK_S)

    def look(self) -> bool:
        """Look once; False when there is nothing left to watch."""
        verdict = self._ask()
        with self._file.locked() as record:
            if record is None or record.state in (GuardState.RELEASED, GuardState.RESUMED):
                return False
            reason = self._reason_to_resume(record) if record.state is GuardState.ARMED else verdict
            if reason is None:
                return True
            if not self._resume(record):
                return True
            self._file.write(replace(record, state=GuardState.RESUMED, reason=reason))
            return False

    def _ask(self) -> str | None:
        """Ask for the verdict if nobody else brings it. The lock is not held: the store may be slow."""
        record, now_s = self._file.read(), self._now_s()
        if record is None or record.state is not GuardState.PROMISED or now_s - self._asked_at_s < ASK_S:
            return None
        if self._started(record.worker_pid) == record.worker_started:
            return None
        self._asked_at_s = now_s
        try:
            verdict = self._lets_run(record.job_id)
        except MigratorError as error:
            _say(f"cannot ask for the verdict: {error}")
            return None
        return "its guard resumed it on the controller's word" if verdict else None

    def _reason_to_resume(self, record: GuardRecord) -> str | None:
        now_s = self._now_s()
        if now_s - self._armed_at_s > record.budget_s:
            return f"its guard resumed it when the freeze budget of {record.budget_s:g} s was spent"
        if self._started(record.worker_pid) == record.worker_started:
            self._worker_gone_at_s = None
            return None
        if self._worker_gone_at_s is None:
            self._worker_gone_at_s = now_s
        waited_s = now_s - self._worker_gone_at_s
        return "its guard resumed it after its worker died" if waited_s >= record.patience_s else None

    def _started(self, pid: int) -> int | None:
        return started_ticks(pid)

    def _resume(self, record: GuardRecord) -> bool:
        """Let the task run; True when it was seen running or is gone. While a dump holds it, nobody can tell."""
        if self._criu_holds(record):
            _say("cannot resume yet: CRIU is at work")
            return False
        try:
            task = self._client.task(record.container)
            failure = try_to_thaw(task)
            if failure is None and record.network is not None:
                join_again(record.network, task.pid)
        except NotFound:
            return True
        except MigratorError as error:
            failure = error
        if failure is not None:
            _say(f"cannot resume yet: {failure}")
        return failure is None

    def _criu_holds(self, record: GuardRecord) -> bool:
        """Whether CRIU may still be at work: it leaves the task as it found it, frozen, when it ends. One that hangs is
        ended, but late: a task that it is in the middle of is harmed by that.
        """
        work = criu_directory(self._file.path.parent.parent, record.job_id)
        if not works_in(work):
            return False
        if self._now_s() - self._armed_at_s > CRIU_BUDGETS * record.budget_s:
            end_criu(work)
        return True


def main(path: Path) -> None:
    """Announce ourselves in the record and watch."""
    file = GuardFile(path)
    with file.locked() as record:
        if record is None:
            return
        file.write(replace(record, guard_pid=os.getpid()))
    client = ContainerdClient(record.containerd_socket, record.namespace, timeout_s=CALL_LIMIT_S)
    print("watching", flush=True)
    sys.stdout.close()
    PauseGuard(file, client, ask_store).watch()


def join_again(network: dict[str, Any], pid: int) -> None:
    """Connect a task that its freeze cut off. Most are not, and this program must start fast: loaded when needed."""
    importlib.import_module("migrator.service.network.rejoining").rejoin(network, pid)


def ask_store(job_id: str) -> bool:
    """Ask the object store. Settings and store are a third of this program's start, and a freeze waits for that."""
    asking = importlib.import_module("migrator.service.verdict_question")
    return bool(asking.ask_store(job_id))


def _say(words: str) -> None:
    with suppress(OSError):  # the worker that read this may be dead
        print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
