"""The controller's side: keep every job moving, one compare-and-set at a time.

Messages are hints: a command that got lost is sent again by `tick`, an answer that comes twice is dropped by
`engine.conclude`. `rounds` changes jobs, `chase` looks after those that wait for a host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from migrator.errors import MigratorError, NotFound
from migrator.models.drains import Cordon
from migrator.models.session import Database
from migrator.models.values import Facts, Host, Outcome, Sight
from migrator.service.control import engine
from migrator.service.control.chase import Chase
from migrator.service.control.control_steps import ControlStep
from migrator.service.control.decisions import catch_up
from migrator.service.control.hearing import Hearing
from migrator.service.control.queueing import Room
from migrator.service.control.rounds import Rounds, Sender, utc_now
from migrator.service.drains.cordons import start_return
from migrator.service.drains.decisions import drain_decisions

log = structlog.get_logger()


class Conductor:
    """Moves jobs through their plans.

    Args:
        database: Where jobs live.
        sender: The way to the hosts.
        control_steps: The acts that the controller performs itself with the object store, by step name.
        stand_ins: What it answers for hosts that were removed, by step name.
        host_silent_s: A host without a heartbeat for this long counts as without a live worker.
        let_run: Says to the guard of a dead worker that the source of a job may run again; may raise `MigratorError`.
        freezes_per_host: How many jobs may dump, move or restore memory on one host at once; the others queue.
        heard_until: Up to when everybody who spoke was heard (`Echo`); up to now when not given.
        now: The clock.
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        control_steps: Mapping[str, ControlStep],
        stand_ins: Mapping[str, ControlStep],
        *,
        host_silent_s: float,
        let_run: Callable[[str], None],
        freezes_per_host: int = 2,
        heard_until: Callable[[], datetime] | None = None,
        now: Callable[[], datetime] = utc_now,
    ):
        self._database = database
        self._now = now
        self._freezes_per_host = freezes_per_host
        self._silence = timedelta(seconds=host_silent_s)
        self._heard_until = heard_until or now
        self._rounds = Rounds(
            database,
            sender,
            control_steps,
            stand_ins,
            drain_decisions(host_silent_s),
            freezes_per_host=freezes_per_host,
            now=now,
        )
        self._chase = Chase(
            self._rounds, host_silent_s=host_silent_s, heard_until=self._heard_until, let_run=let_run, now=now
        )

    def advance(self, job_id: str) -> None:
        """Do what is next for a job, until it waits for a host."""
        self._rounds.move(job_id, lambda job: job)

    def receive(self, outcome: Outcome) -> None:
        """Take a host's answer and go on."""
        self._rounds.move(outcome.job_id, lambda job: engine.conclude(job, outcome, self._now()))

    def record_progress(self, job_id: str, position: int, attempt: int, done_bytes: int, total_bytes: int) -> None:
        """Note how far a step is."""
        with self._database.transaction() as tx:
            tx.jobs.record_progress(job_id, position, attempt, done_bytes, total_bytes)

    def record_heartbeat(self, name: str, facts: Facts, up_s: float) -> None:
        """Note that a worker lives; a new `boot_id` means that it has started anew.

        Args:
            name: The host.
            facts: What the worker tells of it.
            up_s: How long the worker has been listening.
        """
        now = self._now()
        with self._database.transaction() as tx:
            known = None
            with suppress(NotFound):
                known = tx.hosts.get(name)
            same = known is not None and known.facts.get("boot_id") == facts.get("boot_id")
            started_at = known.started_at if known and same else now - timedelta(seconds=up_s)
            tx.hosts.record(Host(name=name, seen_at=now, started_at=started_at, facts=facts))

    def record_hearing(self, heard_until: datetime) -> None:
        """Note for everybody else up to when hosts were heard."""
        with self._database.transaction() as tx:
            tx.hosts.note_hearing(heard_until)

    def record_sight(self, host: str, sight: Sight) -> None:
        """Note what a host has just seen; of a host that was removed it is of no use."""
        with suppress(NotFound), self._database.transaction() as tx:
            tx.hosts.replace_containers(host, sight.containers, self._now())
            for raised in catch_up(tx, sight.epochs):
                log.warning("a host has seen a higher epoch", host=host, workload=raised.id, epoch=raised.epoch)

    def tick(self) -> None:
        """Look after every unfinished job: lost commands, dead workers, pauses that are over."""
        with self._database.transaction(write=False) as tx:
            jobs, hosts = tx.jobs.unfinished(), {host.name: host for host in tx.hosts.list()}
            due = [cordon for cordon in tx.cordons.list() if cordon.return_at and cordon.return_at <= self._now()]
        for cordon in due:
            self._bring_back(cordon, hosts.get(cordon.host))
        room = Room(jobs, self._freezes_per_host)
        for job in jobs:
            try:
                self._chase.look_after(job, hosts, room)
            except MigratorError as error:
                log.warning("cannot move job now", job=job.id, error=str(error))
            except Exception:  # one bad row must not keep the others waiting
                log.exception("looking after a job crashed", job=job.id)

    def _bring_back(self, cordon: Cordon, host: Host | None) -> None:
        """The maintenance of a host is over: what was moved off it comes back, as soon as its worker lives."""
        now = self._now()
        if host is None or not Hearing(self._heard_until(), self._silence).hears(host):
            return
        try:
            with self._database.transaction() as tx:
                job_id = start_return(tx, cordon, host, now)
        except MigratorError as error:
            log.warning("cannot bring back now", host=host.name, error=str(error))
        else:
            log.info("bringing back", host=host.name, job=job_id)
