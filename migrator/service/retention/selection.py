"""Which checkpoints a request means, and which of them jobs work with."""

from __future__ import annotations

from collections.abc import Mapping

from migrator.errors import InvalidRequest, NotFound, PreconditionFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import GRACE_LIMIT_S, ForgetRequest, check_policy, parse_share
from migrator.models.session import Transaction
from migrator.models.values import Checkpoint, JobRequest

BUSY = frozenset(phase for phase in Phase if not phase.terminal) | {Phase.NEEDS_OPERATOR}
"""A job in one of these may work with a checkpoint, or come back to it."""
JOBS_LIMIT = 10_000
IDS_LIMIT = 1000


WORK: Mapping[JobKind, str] = {JobKind.FORGET: "forget", JobKind.PRUNE: "prune", JobKind.VERIFICATION: "verify"}
"""Jobs that are about the store as a whole, and the part of the request that says what they are to do."""


def check_work(request: JobRequest) -> None:
    """Refuse a part of a request that its kind has nothing to do with, or that makes no sense by itself.

    Raises:
        InvalidRequest: `contradictory_request`; or what `check_forget` says.
        PreconditionFailed: See `check_forget`.
    """
    for kind, part in WORK.items():
        if getattr(request, part) is not None and request.kind is not kind:
            raise InvalidRequest(
                f"a {request.kind} cannot {part} anything", code="contradictory_request", remedy="leave it out"
            )
    if request.kind is JobKind.FORGET:
        check_forget(request)
    if request.verify is not None:
        parse_share(request.verify.read_data)
    if request.prune is not None and not 0 <= request.prune.grace_s <= GRACE_LIMIT_S:
        raise InvalidRequest(
            f"{request.prune.grace_s:g} s is no grace time", code="bad_duration", remedy="give 0 to 366 days"
        )


def check_forget(request: JobRequest) -> None:
    """Refuse a request to forget that makes no sense by itself.

    Raises:
        InvalidRequest: `incomplete_request`, `contradictory_request`, or what `check_policy` says.
        PreconditionFailed: `removes_everything`, it has no rule that keeps anything.
    """
    asked = request.forget
    if asked is None:
        raise InvalidRequest("nothing says what to forget", code="incomplete_request", remedy=_HOW)
    ways = [bool(asked.workload_id), bool(asked.host or asked.container), asked.everything, bool(asked.checkpoint_ids)]
    if sum(ways) != 1 or bool(asked.host) is not bool(asked.container):
        code = "contradictory_request" if sum(ways) > 1 else "incomplete_request"
        raise InvalidRequest("a request to forget selects in one way", code=code, remedy=_HOW)
    if len(asked.checkpoint_ids) > IDS_LIMIT:
        raise InvalidRequest(
            f"{len(asked.checkpoint_ids)} checkpoints are too many", code="bad_limit", remedy=f"name up to {IDS_LIMIT}"
        )
    if asked.checkpoint_ids and asked.policy is not None:
        raise InvalidRequest(
            "checkpoints that are named are removed whatever a policy says",
            code="contradictory_request",
            remedy="leave the policy out, or select a workload",
        )
    if not asked.checkpoint_ids:
        _check_rules(asked)


_HOW = "name a workload, HOST/CONTAINER, --all, or the ids of checkpoints"


def _check_rules(asked: ForgetRequest) -> None:
    if asked.policy is not None:
        check_policy(asked.policy)
    if (asked.policy is None or not asked.policy.keeps_something()) and not asked.force:
        raise PreconditionFailed(
            "the policy has no rule that keeps anything, so it would remove every checkpoint",
            code="removes_everything",
            remedy="add a rule such as --keep-last 3, or say --force",
        )


def select(tx: Transaction, request: JobRequest) -> list[Checkpoint]:
    """Find what a request to forget is about.

    Raises:
        NotFound: `nothing_selected`, or `checkpoint_not_found` for one that is named.
    """
    asked = request.forget or ForgetRequest()
    if asked.checkpoint_ids:
        return [tx.checkpoints.get(checkpoint_id) for checkpoint_id in dict.fromkeys(asked.checkpoint_ids)]
    known = tx.checkpoints.list()
    if asked.everything:
        return known
    wanted = {asked.workload_id} if asked.workload_id else _workloads(tx, request, known)
    found = [checkpoint for checkpoint in known if checkpoint.workload_id in wanted]
    if not found:
        what = asked.workload_id or f"{asked.host}/{asked.container}"
        raise NotFound(
            f"no checkpoint belongs to '{what[:200]}' in namespace '{request.namespace}'",
            code="nothing_selected",
            remedy="see `migrator checkpoints list`",
        )
    return found


def _workloads(tx: Transaction, request: JobRequest, known: list[Checkpoint]) -> set[str | None]:
    """The workloads that are, or once were, under this name on this host: a workload keeps its id when it moves."""
    asked = request.forget or ForgetRequest()
    name = (str(asked.host), request.namespace, str(asked.container))
    here = tx.workloads.find(*name)
    once: set[str | None] = {c.workload_id for c in known if (c.host, c.namespace, c.container) == name}
    return once | ({here.id} if here else set())


def jobs_by_checkpoint(tx: Transaction) -> dict[str, str]:
    """The checkpoints that unfinished jobs make or restore, and the ids of these jobs."""
    jobs = tx.jobs.list(phases=BUSY, limit=JOBS_LIMIT)
    made = {job.checkpoint_id: job.id for job in jobs if job.checkpoint_id}
    return made | {job.request.checkpoint_id: job.id for job in jobs if job.request.checkpoint_id}
