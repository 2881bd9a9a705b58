"""A job that forgets: choose by the policy, then remove what it does not keep. A dry run only chooses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from migrator.errors import MigratorError, NotFound, PermanentError, PreconditionFailed, ResourceBusy
from migrator.models.retention import ForgetRequest, RetentionPolicy
from migrator.models.session import Database
from migrator.models.values import Facts, Job
from migrator.service.control.control_steps import ControlStep, LongStep
from migrator.service.retention.policy import Judgement, judge
from migrator.service.retention.removal import Remover
from migrator.service.retention.selection import jobs_by_checkpoint, select
from migrator.storage.checkpoints import CheckpointStore

NAMED = "named"
"""The reason for the removal of a checkpoint that somebody named."""
TOLD = 3
"""So many refusals are told in the error; the others are like them."""


class ChooseCheckpoints(ControlStep):
    """Say of every selected checkpoint whether it is kept, with all reasons."""

    name = "choose-checkpoints"

    def __init__(self, database: Database):
        self._database = database

    def run(self, job: Job) -> Facts:
        """Choose.

        Raises:
            NotFound: `nothing_selected`.
            PreconditionFailed: `removes_everything`.
        """
        asked = job.request.forget or ForgetRequest()
        with self._database.transaction(write=False) as tx:
            selected, in_use = select(tx, job.request), jobs_by_checkpoint(tx)
        if asked.checkpoint_ids:
            judged = [Judgement(checkpoint, False, (NAMED,)) for checkpoint in selected]
        else:
            judged = judge(selected, asked.policy or RetentionPolicy(), in_use)
            _check_rest(judged, asked)
        return {"judged": [_told(found) for found in judged]}


class ForgetCheckpoints(LongStep):
    """Remove what was chosen."""

    name = "forget-checkpoints"

    def __init__(self, checkpoints: CheckpointStore, remover: Remover):
        self._objects = checkpoints.objects
        self._remover = remover

    def work(self, job: Job, pulse: Callable[[], None]) -> Facts:
        """Remove one after the other. One that the store refuses to give up does not keep the others.

        Raises:
            MigratorError: Of the first refusal, when all others are done.
        """
        doomed = [str(found["id"]) for found in job.facts["judged"] if not found["keep"]]
        if doomed:
            self._objects.probe()  # a store that lets nothing be written is known before anything is changed
        refusals: list[tuple[str, MigratorError]] = []
        for checkpoint_id in doomed:
            pulse()
            try:
                with suppress(NotFound):  # an earlier attempt of this step removed it
                    self._remover.remove(checkpoint_id)
            except (PermanentError, ResourceBusy) as error:
                refusals.append((checkpoint_id, error))
        if refusals:
            raise _tell(refusals, len(doomed))
        return {"forgotten": len(doomed)}


def _check_rest(judged: list[Judgement], asked: ForgetRequest) -> None:
    """A policy that leaves nothing of a workload is, as a rule, a mistake."""
    kept = {found.checkpoint.workload_id for found in judged if found.keep}
    lost = sorted({found.checkpoint.workload_id for found in judged} - kept)
    if lost and not asked.force:
        raise PreconditionFailed(
            f"the policy would remove every checkpoint of workload {', '.join(lost[:TOLD])}",
            code="removes_everything",
            remedy="keep more (--keep-min 1), or say --force",
        )


def _told(found: Judgement) -> Facts:
    checkpoint = found.checkpoint
    return {
        "id": checkpoint.id,
        "workload_id": checkpoint.workload_id,
        "host": checkpoint.host,
        "container": checkpoint.container,
        "created_at": checkpoint.created_at.isoformat(),
        "size_bytes": checkpoint.size_bytes,
        "keep": found.keep,
        "reasons": list(found.reasons),
    }


def _tell(refusals: list[tuple[str, MigratorError]], wanted: int) -> MigratorError:
    first = refusals[0][1]
    words = "; ".join(error.message for _, error in refusals[:TOLD])
    more = f" and {len(refusals) - TOLD} more" if len(refusals) > TOLD else ""
    return type(first)(
        f"{len(refusals)} of {wanted} checkpoints could not be removed: {words}{more}",
        code=first.code,
        remedy=first.remedy,
    )


def forget_steps(database: Database, checkpoints: CheckpointStore, now: Callable[[], datetime]) -> list[ControlStep]:
    """The steps of a job that forgets."""
    return [ChooseCheckpoints(database), ForgetCheckpoints(checkpoints, Remover(database, checkpoints, now))]
