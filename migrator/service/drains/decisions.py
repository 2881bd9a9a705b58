"""The steps of a drain and of a return: SQL alone, asked again and again while other jobs work for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from migrator.errors import MigratorError, NotFound, PreconditionFailed, Unavailable
from migrator.models.drains import STAYS, Cordon, Displacement, DrainOptions, Passage, PassageStatus
from migrator.models.phase import JobKind
from migrator.models.session import Transaction
from migrator.models.values import ContainerView, Facts, Job
from migrator.service.control.decisions import Decision, NotYet
from migrator.service.drains.cordons import begin_maintenance
from migrator.service.drains.fleet import Fleet
from migrator.service.drains.judging import skip
from migrator.service.drains.rounds import (
    Round,
    in_order,
    meant,
    options_of,
    passage_for,
    passages_of,
    told,
)

LOOK_S = 15.0
"""How long a host may take to say what runs on it."""
NAMED = 5
"""So many containers that stay are named in the failure; `jobs show` lists all."""


class DrainStep(Decision):
    """A step that sees the fleet.

    Args:
        silence: A host without a heartbeat for this long counts as without a live worker.
    """

    def __init__(self, silence: timedelta):
        self._silence = silence

    def _round(self, tx: Transaction, job: Job) -> Round:
        return Round(tx, job, self._fleet(tx, job), passages_of(job))

    def _fleet(self, tx: Transaction, job: Job) -> Fleet:
        return Fleet.read(tx, job.updated_at, self._silence)


class Select(DrainStep):
    """List the containers that are to go, by a look that the host takes now."""

    name = "select"

    def run(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """List them.

        Raises:
            NotFound: `nothing_selected`, the selector matches no container.
            Unavailable: `host_silent`, the host does not say what runs on it.
        """
        source, options = str(job.request.source_host), options_of(job)
        began_at = next(step.started_at for step in job.steps if step.name == self.name) or job.updated_at
        seen_at = tx.hosts.containers_seen_at(source)
        if seen_at is None or seen_at < began_at:
            return _wait_for_look(source, job.updated_at - began_at)
        views = meant(tx.hosts.containers(source), options)
        if not views and (options.selector or options.namespaces):
            raise NotFound(
                f"no container on host '{source}' is meant by what was selected",
                code="nothing_selected",
                host=source,
                remedy=f"see what there is: migrator containers list {source} --json",
            )
        return told(in_order(_as_planned(tx, [passage_for(view) for view in views], options)))


class Recall(DrainStep):
    """List what drains have moved off the host, and where it lives now."""

    name = "recall"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """List it.

        Raises:
            PreconditionFailed: `nothing_to_return`.
        """
        home, options = str(job.request.target_host), options_of(job)
        displaced = tx.displacements.list(home)
        if not displaced and tx.cordons.find(home) is None:
            raise PreconditionFailed(
                f"no drain has moved anything off host '{home}' that is still away",
                code="nothing_to_return",
                host=home,
                remedy="see `migrator containers list` for what runs where",
            )
        views = {(view.host, view.namespace, view.name): view for view in tx.hosts.containers(None)}
        back = [(item, views.get((item.host, item.namespace, item.container)) or _unseen(item)) for item in displaced]
        ways = [_way_back(tx, item, view) for item, view in back if meant([view], options)]
        return told(in_order(_as_planned(tx, ways, options)))


class Place(DrainStep):
    """Find a target for every container: the one with the most room first, if preflight has nothing against it."""

    name = "place"

    def run(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """Ask preflights, until every container has a target or a reason to stay."""
        round_ = self._round(tx, job)
        round_.take_answers()
        round_.ask_on()
        facts = told(round_.passages)
        return facts if round_.is_placed else NotYet(facts)

    def undo(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """Stop asking."""
        return _stop(self._round(tx, job))


class CordonHost(DrainStep):
    """Let the host take no new containers."""

    name = "cordon"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """Note it. It stays so, however the drain ends: an operator, or the return, lifts it."""
        host = str(job.request.source_host)
        begin_maintenance(tx, Cordon(host, job.updated_at, reason=f"drained by job {job.id}", drain_id=job.id))
        return {}


class UncordonHost(DrainStep):
    """Let the host take containers again."""

    name = "uncordon"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """Note it."""
        tx.cordons.lift(str(job.request.target_host))
        return {}


class Move(DrainStep):
    """Let the containers migrate, some at a time."""

    name = "move"

    def run(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """Start migrations and wait for their ends, until nothing is left to move."""
        round_ = self._round(tx, job)
        round_.take_answers()
        drains = job.request.kind is JobKind.DRAIN
        if drains:
            round_.note_newcomers()
        round_.ask_on()
        round_.set_out()
        facts = told(round_.passages)
        own: set[str | None] = {passage.job_id for passage in round_.passages}
        coming = round_.fleet.arrivals(str(job.request.source_host), own) if drains else []
        if coming or not round_.is_over:
            return NotYet(facts)
        if drains:
            _plan_return(tx, job)
        return facts

    def undo(self, tx: Transaction, job: Job) -> Facts | NotYet:
        """Start nothing any more, and cancel what may be cancelled."""
        return _stop(self._round(tx, job))


class Report(DrainStep):
    """Say what stays."""

    name = "report"

    def run(self, tx: Transaction, job: Job) -> Facts:
        """Nothing to say when everything has moved.

        Raises:
            PreconditionFailed: `drain_incomplete` or `return_incomplete`.
        """
        del tx
        forgiven = {PassageStatus.REFUSED} if options_of(job).skip_refused else set()
        passages = passages_of(job)
        staying = [passage for passage in passages if passage.status in STAYS - forgiven]
        if staying:
            raise _incomplete(job, staying, len(passages))
        return {}


def drain_decisions(host_silent_s: float) -> dict[str, Decision]:
    """All of them by name."""
    silence = timedelta(seconds=host_silent_s)
    kinds = (Select, Recall, Place, CordonHost, UncordonHost, Move, Report)
    return {kind.name: kind(silence) for kind in kinds}


def _wait_for_look(host: str, waited: timedelta) -> NotYet:
    if waited > timedelta(seconds=LOOK_S):
        raise Unavailable(
            f"host '{host}' did not say within {LOOK_S:.0f} s what runs there",
            code="host_silent",
            host=host,
            remedy=f"see that `migrator worker --host {host}` runs there, then try again",
        )
    return NotYet({})


def _as_planned(tx: Transaction, passages: list[Passage], options: DrainOptions) -> list[Passage]:
    """The containers with the targets that a dry run found for them; what it did not know has none yet."""
    if options.plan_id is None:
        return passages
    planned = {passage.name: passage for passage in passages_of(tx.jobs.get(options.plan_id))}
    return [_followed(passage, planned.get(passage.name)) for passage in passages]


def _followed(passage: Passage, plan: Passage | None) -> Passage:
    if plan is None or plan.source != passage.source or passage.status is not PassageStatus.WAITING:
        return passage
    return replace(plan, job_id=None, phase="", attempts=0, failures=0)


def _unseen(item: Displacement) -> ContainerView:
    return ContainerView(item.host, item.namespace, item.container, "unknown")


def _way_back(tx: Transaction, item: Displacement, view: ContainerView) -> Passage:
    """The way home of a workload, if it still lives where the drain put it."""
    passage = Passage(
        item.namespace, item.container, item.host, workload_id=item.workload_id, memory_bytes=view.memory_bytes
    )
    try:
        owner = tx.workloads.get(item.workload_id).owner_host
    except NotFound:
        owner = ""
    if owner == item.host:
        return passage
    where = f"it lives on host '{owner}' by now" if owner else "it is gone"
    return skip(passage, {"kind": "NotFound", "code": "moved_on", "message": where, "host": item.host, "remedy": None})


def _stop(round_: Round) -> Facts | NotYet:
    round_.take_answers()
    round_.take_back()
    facts = told(round_.passages)
    return facts if round_.is_quiet else NotYet(facts)


def _plan_return(tx: Transaction, job: Job) -> None:
    after_s, host = options_of(job).return_after_s, str(job.request.source_host)
    cordon = tx.cordons.find(host)
    if after_s is not None and cordon is not None:
        tx.cordons.put(replace(cordon, return_at=_later(job.updated_at, after_s)))


def _later(moment: datetime, seconds: float) -> datetime:
    return moment + timedelta(seconds=seconds)


def _incomplete(job: Job, staying: list[Passage], count: int) -> MigratorError:
    back = job.request.kind is JobKind.RETURN
    host = str(job.request.target_host if back else job.request.source_host)
    named = [f"{passage.name} ({(passage.reason or {}).get('message')})" for passage in staying[:NAMED]]
    named += [f"and {len(staying) - NAMED} more"] if len(staying) > NAMED else []
    where = f"do not come back to host '{host}'" if back else f"stay on host '{host}'"
    again = f"migrator drain {host}" + (" --return" if back else "")
    return PreconditionFailed(
        f"{len(staying)} of {count} containers {where}: {'; '.join(named)}",
        code="return_incomplete" if back else "drain_incomplete",
        host=host,
        remedy=f"mend what is said there, then go on: {again}"
        + ("" if back else f"; or take it back: migrator drain {host} --return"),
    )
