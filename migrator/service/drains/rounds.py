"""One round of a drain: take the answers of the jobs under way, send further containers on their way.

Each round happens in the transaction that also saves the drain, so a child job exists exactly when the drain knows of
it. Its idempotency key names drain, container and attempt: whoever has lost sight of it finds it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from migrator.models.drains import ENDED, OUT, Displacement, DrainOptions, Passage, PassageStatus
from migrator.models.phase import JobKind
from migrator.models.session import Transaction
from migrator.models.values import ContainerView, Facts, Job, JobRequest
from migrator.service.control.engine import may_cancel
from migrator.service.drains.fleet import Fleet
from migrator.service.drains.judging import judge, refuse, skip, turn_away
from migrator.service.drains.rooms import choose, explain
from migrator.service.job_making import new_job
from migrator.service.selectors import select

PASSAGES = "passages"
"""Among the facts of a drain's steps: each container's way so far."""
RUNS = ("running", "paused", "pausing")


def passages_of(job: Job) -> list[Passage]:
    """Read each container's way, as the last step that knows tells it."""
    return [Passage.from_facts(told) for told in job.facts.get(PASSAGES, [])]


def told(passages: list[Passage]) -> Facts:
    """What a step tells of them."""
    return {PASSAGES: [passage.to_facts() for passage in passages]}


def options_of(job: Job) -> DrainOptions:
    """How the drain is to be done."""
    return job.request.drain or DrainOptions()


def passage_for(view: ContainerView) -> Passage:
    """The way of a container that its host sees; one without a running program has none."""
    passage = Passage(view.namespace, view.name, view.host, memory_bytes=view.memory_bytes)
    if view.status in RUNS:
        return passage
    idle = {"kind": "PreconditionFailed", "code": "task_not_running", "host": view.host}
    state = "it has no running program" if view.status == "none" else f"its program is {view.status}"
    return skip(passage, idle | {"message": f"{state}; its files stay", "remedy": None})


def meant(views: Iterable[ContainerView], options: DrainOptions) -> list[ContainerView]:
    """Pick the containers that are to go."""
    return select(views, options.selector, options.namespaces or None)


def in_order(passages: list[Passage]) -> list[Passage]:
    """The largest first: what is left over is easier to find room for."""
    return sorted(passages, key=lambda passage: (-passage.memory_bytes, passage.namespace, passage.container))


@dataclass(slots=True)
class Round:
    """One round over all containers of a drain."""

    tx: Transaction
    job: Job
    fleet: Fleet
    passages: list[Passage]

    def take_answers(self) -> None:
        """See how far the jobs under way are, and put on record what has moved."""
        for number, passage in enumerate(self.passages):
            if passage.status in OUT and passage.job_id is not None:
                self.passages[number] = self._answered(passage, self.tx.jobs.get(passage.job_id))

    def ask_on(self) -> None:
        """Let preflight look whether the best target can take a container, for as many as may be asked at once."""
        for number, passage in enumerate(self.passages):
            if passage.status is PassageStatus.WAITING and self._count(PassageStatus.ASKED) < self._parallel:
                self.passages[number] = self._asked(passage)

    def set_out(self) -> None:
        """Start migrations, for as many as may be under way at once."""
        for number, passage in enumerate(self.passages):
            if passage.status is PassageStatus.PLACED and self._count(PassageStatus.MOVING) < self._parallel:
                self.passages[number] = self._sent(passage)

    def take_back(self) -> None:
        """Cancel the jobs under way that may be cancelled; what was handed over already goes on."""
        for passage in self.passages:
            if passage.status in OUT and passage.job_id is not None:
                child = self.tx.jobs.get(passage.job_id)
                if may_cancel(child) and not child.cancel_requested:
                    self.tx.jobs.request_cancel(child.id, self.job.updated_at)

    def note_newcomers(self) -> None:
        """What came to the host after the plan was made has to go, too."""
        known = {(passage.namespace, passage.container) for passage in self.passages}
        options = options_of(self.job)
        for view in meant(self.tx.hosts.containers(str(self.job.request.source_host)), options):
            if (view.namespace, view.name) not in known and view.status in RUNS:
                self.passages.append(passage_for(view))

    @property
    def is_over(self) -> bool:
        """Whether nothing is on its way any more."""
        return all(passage.status in ENDED for passage in self.passages)

    @property
    def is_placed(self) -> bool:
        """Whether every container has a target or a reason to stay."""
        return all(passage.status in ENDED or passage.status is PassageStatus.PLACED for passage in self.passages)

    @property
    def is_quiet(self) -> bool:
        """Whether no job of this drain is under way."""
        return not any(passage.status in OUT for passage in self.passages)

    @property
    def _parallel(self) -> int:
        return options_of(self.job).parallel

    def _count(self, status: PassageStatus) -> int:
        return sum(passage.status is status for passage in self.passages)

    def _answered(self, passage: Passage, child: Job) -> Passage:
        if not child.phase.terminal:
            return replace(passage, phase=child.phase.value)
        judged = judge(passage, child)
        if judged.status is PassageStatus.MOVED:
            self._put_on_record(judged)
        if judged.status is PassageStatus.PLACED:  # it may be larger than it seemed
            return self._fitted(judged)
        return judged

    def _put_on_record(self, passage: Passage) -> None:
        workload_id = str(passage.workload_id)
        if self.job.request.kind is JobKind.RETURN:
            self.tx.displacements.remove(str(passage.target), workload_id)
            return
        self.tx.displacements.put(
            Displacement(
                home=passage.source,
                workload_id=workload_id,
                namespace=passage.namespace,
                container=passage.container,
                host=str(passage.target),
                drain_id=self.job.id,
                moved_at=self.job.updated_at,
            )
        )

    def _fitted(self, passage: Passage) -> Passage:
        """Keep the target if it still has room beside all others, and is still there."""
        others = [other for other in self.passages if other.name != passage.name]
        rooms = {room.host: room for room in self.fleet.rooms(self.job, others)}
        room = rooms.get(str(passage.target))
        if room is not None and room.holds(passage):
            return passage
        away = replace(passage, status=PassageStatus.WAITING, target=None)
        if room is None:
            return away
        return turn_away(passage, room.host, explain(away, [room]).to_dict())

    def _asked(self, passage: Passage) -> Passage:
        rooms = self.fleet.rooms(self.job, self.passages)
        room = choose(passage, rooms)
        if room is None:
            return refuse(passage, explain(passage, rooms))
        return self._with_child(replace(passage, status=PassageStatus.ASKED, target=room.host), JobKind.PREFLIGHT)

    def _sent(self, passage: Passage) -> Passage:
        if passage.target not in self.fleet.targets(self.job):
            return replace(passage, status=PassageStatus.WAITING, target=None)
        holder = self._holder(passage)
        if holder is not None:
            return replace(passage, phase=f"waits for job {holder.id}")
        return self._with_child(replace(passage, status=PassageStatus.MOVING), JobKind.MIGRATION)

    def _holder(self, passage: Passage) -> Job | None:
        """The job that works on a container right now; one that waits for an operator is left to its refusal."""
        workload = self.tx.workloads.find(passage.source, passage.namespace, passage.container)
        holder = self.tx.jobs.active_for_workload(workload.id) if workload else None
        return holder if holder is not None and not holder.phase.terminal else None

    def _with_child(self, passage: Passage, kind: JobKind) -> Passage:
        request = self.job.request
        wanted = JobRequest(
            kind,
            namespace=passage.namespace,
            source_host=passage.source,
            container=passage.container,
            target_host=passage.target,
            external_unix_sockets=request.external_unix_sockets,
            tcp=request.tcp,
        )
        attempt = passage.attempts + 1
        key = f"{self.job.id}/{passage.name}/{attempt}"
        child = self.tx.jobs.add(new_job(wanted, self.job.updated_at, key))
        return replace(passage, job_id=child.id, phase=child.phase.value, attempts=attempt)
