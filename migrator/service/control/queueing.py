"""Hosts work on so many jobs at once; the others queue before the step at which they would begin to need a host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from migrator.models.phase import Phase
from migrator.models.values import Job, StepAction
from migrator.service.control import engine

MOVING = frozenset(
    {
        Phase.COPYING,
        Phase.FREEZING,
        Phase.DUMPING,
        Phase.UPLOADING,
        Phase.FETCHING,
        Phase.PROMISED,
        Phase.COMMITTED,
        Phase.RESTORING,
    }
)
"""Phases in which a job works on a host's memory, disk and network, most of them while a program stands still."""


def hosts_of(job: Job) -> set[str]:
    """The hosts that a job works on."""
    return {host for host in (job.request.source_host, job.request.target_host) if host}


class Room:
    """Where there is room, by one look at all unfinished jobs: to ask the database for each that waits costs more.

    It only saves work. Whoever begins a step asks again, in the transaction that begins it.

    Args:
        jobs: All that are unfinished.
        freezes_per_host: How many may be on the move on one host at once.
    """

    def __init__(self, jobs: Iterable[Job], freezes_per_host: int):
        self._busy = Counter(host for job in jobs if job.phase in MOVING for host in hosts_of(job))
        self._freezes_per_host = freezes_per_host

    def take(self, job: Job, now: datetime) -> bool:
        """Take up the room that a job needs; False if it waits for some and there is none."""
        decision = engine.decide(job, now)
        begins = decision.step is not None and decision.action is StepAction.RUN and engine.queues(job, decision.step)
        if not begins or job.phase in MOVING:
            return True
        hosts = hosts_of(job)
        if any(self._busy[host] >= self._freezes_per_host for host in hosts):
            return False
        self._busy.update(hosts)
        return True
