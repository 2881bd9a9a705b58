"""The hosts as a drain sees them, inside its transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from migrator.models.drains import Passage
from migrator.models.phase import JobKind
from migrator.models.session import Transaction
from migrator.models.values import Host, Job
from migrator.service.control.hearing import Hearing
from migrator.service.drains.rooms import Room, left_over, room_of

BRINGS = (JobKind.MIGRATION, JobKind.RESTORE)
"""Kinds of jobs that bring a container to a host."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Hosts, cordons and unfinished jobs, read once for one round."""

    hosts: dict[str, Host]
    cordoned: frozenset[str]
    jobs: tuple[Job, ...]
    """All that are unfinished."""
    hearing: Hearing

    @staticmethod
    def read(tx: Transaction, now: datetime, silence: timedelta) -> Fleet:
        """Read what there is."""
        hosts = {host.name: host for host in tx.hosts.list()}
        cordoned = frozenset(cordon.host for cordon in tx.cordons.list())
        return Fleet(hosts, cordoned, tuple(tx.jobs.unfinished()), Hearing.read(tx, now, silence))

    def is_alive(self, host: str) -> bool:
        """Whether a host's worker lives."""
        known = self.hosts.get(host)
        return known is not None and self.hearing.hears(known)

    def rooms(self, job: Job, passages: list[Passage]) -> list[Room]:
        """What the hosts that may take containers have left, after all that is on its way to them."""
        own = {passage.job_id for passage in passages}
        others = [other for other in self.jobs if other.request.kind in BRINGS and other.id not in own]
        return left_over([room_of(self.hosts[name]) for name in self.targets(job)], passages, others)

    def targets(self, job: Job) -> list[str]:
        """The hosts that may take containers of this job."""
        if job.request.kind is JobKind.RETURN:
            return [name for name in (str(job.request.target_host),) if self.is_alive(name)]
        wanted = job.request.drain.targets if job.request.drain else ()
        source = job.request.source_host
        taking = [name for name in self.hosts if name not in self.cordoned and name != source and self.is_alive(name)]
        return [name for name in taking if not wanted or name in wanted]

    def arrivals(self, host: str, but: set[str | None]) -> list[Job]:
        """Jobs under way that bring something to a host."""
        return [
            job
            for job in self.jobs
            if job.request.kind in BRINGS and job.request.target_host == host and job.id not in but
        ]
