"""The highest epoch this host has seen of each workload, kept on its disk.

A command that carries a lower epoch comes from a time when somebody else decided: it is refused.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from migrator.errors import PreconditionFailed, ResourceExhausted
from migrator.models.values import StepAction, StepCommand
from migrator.service.plans import line_named
from migrator.storage.durable import write_durably


class Fence:
    """Refuses commands from the past.

    Args:
        directory: Where the epochs are kept; it survives a reboot.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._lock = threading.Lock()
        self._unwritten: dict[str, int] = {}
        """What the disk had no room for."""

    def check(self, command: StepCommand) -> None:
        """Let a command through unless it comes from the past.

        What gives a container back, or makes room, does not wait for room on the disk.

        Raises:
            PreconditionFailed: `stale_epoch`.
            ResourceExhausted: `epoch_not_kept`.
        """
        if not command.workload_id:
            return
        try:
            self.admit(command.workload_id, command.epoch)
        except ResourceExhausted:
            if command.action is StepAction.RUN and not line_named(command.request.kind, command.step).forward_only:
                raise

    def admit(self, workload_id: str, epoch: int) -> None:
        """Let a command through and remember its epoch.

        Raises:
            PreconditionFailed: `stale_epoch`, this host has seen a higher epoch of that workload.
            ResourceExhausted: `epoch_not_kept`, the disk is full; as long as this process lives it is remembered.
        """
        with self._lock:
            kept = self.highest(workload_id)
            highest = max(kept, self._unwritten.get(workload_id, 0))
            if epoch < highest:
                raise PreconditionFailed(
                    f"command for workload {workload_id} carries epoch {epoch}, this host has seen {highest}",
                    code="stale_epoch",
                    remedy="nothing: a newer job decides about this workload",
                )
            if epoch > kept:
                self._keep(workload_id, epoch)

    def highest(self, workload_id: str) -> int:
        """Return the highest epoch seen; 0 for a workload never seen."""
        try:
            return int((self._directory / workload_id).read_text())
        except FileNotFoundError:
            return 0

    def seen(self) -> list[tuple[str, datetime]]:
        """List the workloads of which an epoch is kept, each with the time of its last rise."""
        found: list[tuple[str, datetime]] = []
        for file in sorted(self._directory.glob("[!.]*")):
            with suppress(FileNotFoundError):
                found.append((file.name, datetime.fromtimestamp(file.stat().st_mtime, UTC)))
        return found

    def forget(self, workload_id: str) -> None:
        """Drop the epoch of a workload that no longer exists: no command will ever name it again."""
        with self._lock:
            (self._directory / f".{workload_id}").unlink(missing_ok=True)
            (self._directory / workload_id).unlink(missing_ok=True)

    def _keep(self, workload_id: str, epoch: int) -> None:
        try:
            self._write(workload_id, epoch)
        except OSError as error:
            self._unwritten[workload_id] = epoch
            raise ResourceExhausted(
                f"the epoch of workload {workload_id} cannot be written: {error.strerror}",
                code="epoch_not_kept",
                remedy=f"make room in {self._directory}",
            ) from error
        self._unwritten.pop(workload_id, None)

    def _write(self, workload_id: str, epoch: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        write_durably(self._directory / workload_id, str(epoch), self._directory / f".{workload_id}")
