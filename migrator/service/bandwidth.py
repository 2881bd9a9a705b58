"""How fast a job may move bytes: what it was told, and what is left of its host's share."""

from __future__ import annotations

import threading
from dataclasses import replace

from migrator.models.phase import JobKind
from migrator.models.values import StepCommand
from migrator.rates import parse_rate
from migrator.service.host import Act, Host
from migrator.settings import Settings
from migrator.storage.pacing import Limits, Pace, PacedStore

IN_FREEZE = {
    JobKind.MIGRATION: ("upload", "fetch"),
    JobKind.REWIND: ("upload", "read-back"),
}
"""Steps for which a program stands still. All others move their bytes while it runs, or before it is there."""
MOST_JOBS = 64


class Bandwidth:
    """The limits of a host. May be used by several threads.

    Args:
        settings: Of the host.

    Raises:
        InvalidRequest: `bad_bandwidth`, the host's own limit is none.
    """

    def __init__(self, settings: Settings):
        rate = parse_rate(settings.bandwidth) if settings.bandwidth else None
        self._sending = [Pace(rate)] if rate else []
        self._fetching = [Pace(rate)] if rate else []
        self._lock = threading.Lock()
        self._of_jobs: dict[str, tuple[Pace, Pace]] = {}

    def limited(self, host: Host, act: Act) -> Host:
        """Return the host as a step is to see it: its store is as fast as the job may use it."""
        if stands_still(act.command) and not act.request.bandwidth_in_freeze:
            return host
        sending, fetching = list(self._sending), list(self._fetching)
        if act.request.bandwidth_bytes_s:
            own = self._of(act.command.job_id, act.request.bandwidth_bytes_s)
            sending.append(own[0])
            fetching.append(own[1])
        if not sending:
            return host
        limits = Limits(act.command.job_id, sending, fetching, act.check_aborted)
        return replace(host, checkpoints=host.checkpoints.over(PacedStore(host.checkpoints.objects, limits)))

    def _of(self, job_id: str, bytes_s: int) -> tuple[Pace, Pace]:
        with self._lock:
            found = self._of_jobs.get(job_id)
            if found is None or found[0].bytes_s != bytes_s:
                found = self._of_jobs[job_id] = Pace(bytes_s), Pace(bytes_s)
                while len(self._of_jobs) > MOST_JOBS:
                    del self._of_jobs[next(iter(self._of_jobs))]
            return found


def stands_still(command: StepCommand) -> bool:
    """Whether a program waits for this step."""
    return command.step in IN_FREEZE.get(command.request.kind, ())
