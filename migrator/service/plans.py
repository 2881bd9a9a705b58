"""The plans. Read them from top to bottom: that is what happens.

Every line is one idempotent act on one host. `rollback` says what its undo is for:

* OWNERSHIP: the undo decides who runs. These go first, newest first, so that a frozen source waits for nothing else.
* LEFTOVERS: the undo removes what lies about. These follow, newest first.
* NOTHING: the act leaves nothing behind.

From a plan's `forward_only` lines on there is no way back: a failure there is repeated until it succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from migrator.models.hooks import LONGEST_TIMEOUT_S
from migrator.models.phase import JobKind, Phase
from migrator.models.values import JobRequest, Mode, Step


class Where(Enum):
    """Which machine performs a step."""

    SOURCE = "source"
    TARGET = "target"
    CONTROL = "control"


class Rollback(Enum):
    """What the undo of a step is for."""

    OWNERSHIP = "ownership"
    LEFTOVERS = "leftovers"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a plan."""

    step: str
    where: Where
    phase: Phase
    rollback: Rollback
    limit_s: float
    """A host that has not answered for this long has failed; see `time_limit_s` for the part that grows."""
    forward_only: bool = False
    observe_first: bool = False
    """No answer is not a failure: ask the host what is true before deciding anything."""
    queues: bool = False
    """Waits here until its hosts have room for one more job that dumps, moves or restores memory."""
    patient: bool = False
    """Tried again after a failure that may pass: nobody waits for it."""
    polled: bool = False
    """The controller asks again and again whether it is done: it waits for other jobs, as long as they take."""
    follows: bool = False
    """Goes to its host in one message with the line before it: a frozen program waits for every message."""


SOURCE, TARGET, CONTROL = Where.SOURCE, Where.TARGET, Where.CONTROL
OWNERSHIP, LEFTOVERS, NOTHING = Rollback.OWNERSHIP, Rollback.LEFTOVERS, Rollback.NOTHING

HOOK_S = LONGEST_TIMEOUT_S + 20
"""A hook is ended by its own time limit; beyond that its host hangs."""

MIGRATION = (
    Line("inspect-source", SOURCE, Phase.PREFLIGHT, NOTHING, 15),
    Line("inspect-target", TARGET, Phase.PREFLIGHT, NOTHING, 15),
    Line("claim", CONTROL, Phase.PREFLIGHT, NOTHING, 5),
    Line("publish-image", SOURCE, Phase.PREPARING, NOTHING, 600),
    Line("prepare", TARGET, Phase.PREPARING, LEFTOVERS, 600),
    Line("precopy", SOURCE, Phase.COPYING, LEFTOVERS, 600, queues=True),
    Line("prefetch", TARGET, Phase.COPYING, LEFTOVERS, 600),
    Line("precopy-again", SOURCE, Phase.COPYING, NOTHING, 600),
    Line("prefetch-again", TARGET, Phase.COPYING, NOTHING, 600),
    Line("predict", CONTROL, Phase.COPYING, NOTHING, 5, patient=True),
    Line("before-hook", SOURCE, Phase.FREEZING, OWNERSHIP, HOOK_S),
    Line("freeze", SOURCE, Phase.FREEZING, OWNERSHIP, 20, follows=True),
    Line("dump", SOURCE, Phase.DUMPING, LEFTOVERS, 30, follows=True),
    Line("upload", SOURCE, Phase.UPLOADING, LEFTOVERS, 60, follows=True),
    Line("fetch", TARGET, Phase.FETCHING, LEFTOVERS, 60),
    Line("promise", SOURCE, Phase.PROMISED, NOTHING, 10),
    Line("commit", CONTROL, Phase.COMMITTED, OWNERSHIP, 5),
    Line("restore", TARGET, Phase.RESTORING, OWNERSHIP, 60, observe_first=True),
    Line("prove", TARGET, Phase.RESTORING, NOTHING, 15, forward_only=True),
    Line("after-hook", TARGET, Phase.REMOVING, NOTHING, HOOK_S, forward_only=True, follows=True),
    Line("fill", TARGET, Phase.REMOVING, NOTHING, 600, forward_only=True, follows=True),
    Line("remove", SOURCE, Phase.REMOVING, NOTHING, 60, forward_only=True),
    Line("release-target", TARGET, Phase.FINISHING, NOTHING, 60, forward_only=True),
    Line("settle", CONTROL, Phase.FINISHING, NOTHING, 30, forward_only=True),
)

CHECKPOINT = (
    Line("inspect-source", SOURCE, Phase.PREFLIGHT, NOTHING, 15),
    Line("claim", CONTROL, Phase.PREFLIGHT, NOTHING, 5),
    Line("publish-image", SOURCE, Phase.PREPARING, NOTHING, 600),
    Line("before-hook", SOURCE, Phase.FREEZING, OWNERSHIP, HOOK_S, queues=True),
    Line("freeze", SOURCE, Phase.FREEZING, OWNERSHIP, 20, follows=True),
    Line("dump", SOURCE, Phase.DUMPING, LEFTOVERS, 30, follows=True),
    Line("thaw", SOURCE, Phase.DUMPING, NOTHING, 20, follows=True),
    Line("after-hook", SOURCE, Phase.DUMPING, NOTHING, HOOK_S, follows=True),
    Line("upload", SOURCE, Phase.UPLOADING, LEFTOVERS, 600),
    Line("settle", CONTROL, Phase.FINISHING, NOTHING, 30, forward_only=True),
    Line("release-source", SOURCE, Phase.FINISHING, NOTHING, 60, forward_only=True),
)

BACKUP = (
    Line("inspect-source", SOURCE, Phase.PREFLIGHT, NOTHING, 15),
    Line("claim", CONTROL, Phase.PREFLIGHT, NOTHING, 5),
    Line("publish-image", SOURCE, Phase.PREPARING, NOTHING, 600),
    Line("precopy", SOURCE, Phase.COPYING, LEFTOVERS, 600, queues=True),
    Line("before-hook", SOURCE, Phase.FREEZING, OWNERSHIP, HOOK_S),
    Line("freeze", SOURCE, Phase.FREEZING, OWNERSHIP, 20, follows=True),
    Line("dump", SOURCE, Phase.DUMPING, LEFTOVERS, 30, follows=True),
    Line("thaw", SOURCE, Phase.DUMPING, NOTHING, 20, follows=True),
    Line("after-hook", SOURCE, Phase.DUMPING, NOTHING, HOOK_S, follows=True),
    Line("upload", SOURCE, Phase.UPLOADING, LEFTOVERS, 600),
    Line("settle", CONTROL, Phase.FINISHING, NOTHING, 30, forward_only=True),
    Line("release-source", SOURCE, Phase.FINISHING, NOTHING, 60, forward_only=True),
)
"""Memory is copied on the host before the freeze; the upload cuts the parts and sends what the store lacks."""

RESTORE = (
    Line("read-checkpoint", CONTROL, Phase.PREFLIGHT, NOTHING, 30),
    Line("inspect-target", TARGET, Phase.PREFLIGHT, NOTHING, 15),
    Line("prepare", TARGET, Phase.PREPARING, LEFTOVERS, 600),
    Line("fetch", TARGET, Phase.FETCHING, LEFTOVERS, 600, queues=True),
    Line("adopt", CONTROL, Phase.COMMITTED, OWNERSHIP, 5),
    Line("restore", TARGET, Phase.RESTORING, OWNERSHIP, 60, observe_first=True),
    Line("prove", TARGET, Phase.RESTORING, NOTHING, 15, forward_only=True),
    Line("after-hook", TARGET, Phase.FINISHING, NOTHING, HOOK_S, forward_only=True, follows=True),
    Line("fill", TARGET, Phase.FINISHING, NOTHING, 600, forward_only=True, follows=True),
    Line("release-target", TARGET, Phase.FINISHING, NOTHING, 60, forward_only=True),
)

REWIND = (
    Line("read-checkpoint", CONTROL, Phase.PREFLIGHT, NOTHING, 30),
    Line("inspect-source", SOURCE, Phase.PREFLIGHT, NOTHING, 15),
    Line("inspect-target", TARGET, Phase.PREFLIGHT, NOTHING, 15),
    Line("claim", CONTROL, Phase.PREFLIGHT, NOTHING, 5),
    Line("publish-image", SOURCE, Phase.PREPARING, NOTHING, 600),
    Line("prepare", TARGET, Phase.PREPARING, LEFTOVERS, 600),
    Line("fetch", TARGET, Phase.PREPARING, LEFTOVERS, 600),
    Line("before-hook", SOURCE, Phase.FREEZING, OWNERSHIP, HOOK_S, queues=True),
    Line("freeze", SOURCE, Phase.FREEZING, OWNERSHIP, 20, follows=True),
    Line("dump", SOURCE, Phase.DUMPING, LEFTOVERS, 30, follows=True),
    Line("upload", SOURCE, Phase.UPLOADING, LEFTOVERS, 60, follows=True),
    Line("read-back", SOURCE, Phase.FETCHING, NOTHING, 60, follows=True),
    Line("promise", SOURCE, Phase.PROMISED, NOTHING, 10, follows=True),
    Line("commit", CONTROL, Phase.COMMITTED, OWNERSHIP, 5),
    Line("displace", SOURCE, Phase.RESTORING, OWNERSHIP, 60),
    Line("restore", TARGET, Phase.RESTORING, OWNERSHIP, 60, observe_first=True),
    Line("prove", TARGET, Phase.RESTORING, NOTHING, 15, forward_only=True),
    Line("after-hook", TARGET, Phase.REMOVING, NOTHING, HOOK_S, forward_only=True, follows=True),
    Line("settle", CONTROL, Phase.REMOVING, NOTHING, 30, forward_only=True),
    Line("remove-displaced", SOURCE, Phase.REMOVING, NOTHING, 60, forward_only=True),
    Line("release-target", TARGET, Phase.FINISHING, NOTHING, 60, forward_only=True),
)
"""One host is both: its source is what runs, its target what an old checkpoint holds (`rewinding.py`)."""

DRILL = (
    Line("read-checkpoint", CONTROL, Phase.PREFLIGHT, NOTHING, 30),
    Line("inspect-target", TARGET, Phase.PREFLIGHT, NOTHING, 15),
    Line("prepare", TARGET, Phase.PREPARING, LEFTOVERS, 600),
    Line("fetch", TARGET, Phase.FETCHING, LEFTOVERS, 600, queues=True),
    Line("restore", TARGET, Phase.RESTORING, LEFTOVERS, 60),
    Line("prove", TARGET, Phase.RESTORING, NOTHING, 15),
    Line("after-hook", TARGET, Phase.RESTORING, NOTHING, HOOK_S),
    Line("probe", TARGET, Phase.RESTORING, NOTHING, HOOK_S),
    Line("attest", CONTROL, Phase.RESTORING, NOTHING, 5),
    Line("discard", TARGET, Phase.FINISHING, NOTHING, 60, forward_only=True),
)

PREFLIGHT = (
    Line("inspect-source", SOURCE, Phase.PREFLIGHT, NOTHING, 30),
    Line("inspect-target", TARGET, Phase.PREFLIGHT, NOTHING, 30),
    Line("predict", CONTROL, Phase.PREFLIGHT, NOTHING, 5),
)

FORGET = (
    Line("choose-checkpoints", CONTROL, Phase.PREFLIGHT, NOTHING, 60),
    Line("forget-checkpoints", CONTROL, Phase.REMOVING, NOTHING, 120, patient=True),
    Line("prune", CONTROL, Phase.FINISHING, NOTHING, 120, patient=True),
)

VERIFICATION = (
    Line("verify", CONTROL, Phase.PREFLIGHT, NOTHING, 120, patient=True),
    Line("judge-verification", CONTROL, Phase.FINISHING, NOTHING, 5),
)

PRUNE = (Line("prune", CONTROL, Phase.REMOVING, NOTHING, 120, patient=True),)

DRAIN = (
    Line("select", CONTROL, Phase.PREFLIGHT, NOTHING, 5, polled=True),
    Line("place", CONTROL, Phase.PREFLIGHT, LEFTOVERS, 5, polled=True),
    Line("cordon", CONTROL, Phase.PREPARING, NOTHING, 5),
    Line("move", CONTROL, Phase.MOVING, LEFTOVERS, 5, polled=True),
    Line("report", CONTROL, Phase.MOVING, NOTHING, 5),
)

RETURN = (
    Line("recall", CONTROL, Phase.PREFLIGHT, NOTHING, 5),
    Line("place", CONTROL, Phase.PREFLIGHT, LEFTOVERS, 5, polled=True),
    Line("uncordon", CONTROL, Phase.PREPARING, NOTHING, 5),
    Line("move", CONTROL, Phase.MOVING, LEFTOVERS, 5, polled=True),
    Line("report", CONTROL, Phase.MOVING, NOTHING, 5),
)

PLANS = {
    JobKind.MIGRATION: MIGRATION,
    JobKind.CHECKPOINT: CHECKPOINT,
    JobKind.RESTORE: RESTORE,
    JobKind.PREFLIGHT: PREFLIGHT,
    JobKind.REWIND: REWIND,
    JobKind.DRILL: DRILL,
    JobKind.BACKUP: BACKUP,
    JobKind.FORGET: FORGET,
    JobKind.PRUNE: PRUNE,
    JobKind.VERIFICATION: VERIFICATION,
    JobKind.DRAIN: DRAIN,
    JobKind.RETURN: RETURN,
}

SECONDS_PER_GIB = 60.0
"""What one GiB of memory may add to a time limit: a slow store (20 MiB/s) still finishes."""


def steps_for(request: JobRequest) -> tuple[Step, ...]:
    """Lay out the rows of a new job; a dry run ends before anything is changed."""
    hosts = {SOURCE: request.source_host, TARGET: request.target_host, CONTROL: None}
    return tuple(
        Step(position=position, name=line.step, host=hosts[line.where], phase=line.phase)
        for position, line in enumerate(_lines_for(request))
    )


def _lines_for(request: JobRequest) -> list[Line]:
    """The lines that a job needs."""
    dry = (request.drain is not None and request.drain.dry_run) or (
        request.forget is not None and request.forget.dry_run
    )
    unwanted = {"prune"} if request.forget is not None and not request.forget.prune else set()
    unwanted |= {"fill"} if request.mode is Mode.EAGER else set()
    lines = [line for line in PLANS[request.kind] if line.step not in unwanted]
    return [line for line in lines if not dry or line.phase is Phase.PREFLIGHT]


def line_named(kind: JobKind, name: str) -> Line:
    """Return the line of a step: by its name, for a job may have begun when the plan had another order."""
    return next(line for line in PLANS[kind] if line.step == name)


def line_for(kind: JobKind, step: Step) -> Line:
    """Return the line of the plan that a row came from."""
    return line_named(kind, step.name)


def time_limit_s(line: Line, size_bytes: int) -> float:
    """How long to wait for a host's answer when the job moves `size_bytes` of memory and files."""
    return line.limit_s + SECONDS_PER_GIB * size_bytes / 2**30
