"""The phases of a job and the one table of transitions between them."""

from __future__ import annotations

from enum import StrEnum


class JobKind(StrEnum):
    """What a job does."""

    MIGRATION = "migration"
    CHECKPOINT = "checkpoint"
    RESTORE = "restore"
    PREFLIGHT = "preflight"
    """The question whether a migration would go well: it looks, and touches nothing."""
    REWIND = "rewind"
    """A restore in the place of the container that runs, which is kept as a checkpoint of its own."""
    DRILL = "drill"
    """A restore on a sandbox that only proves that a checkpoint can be restored; it is thrown away in every case."""
    BACKUP = "backup"
    """A checkpoint of which only what the store lacks is kept."""
    PRUNE = "prune"
    """What no checkpoint needs is freed."""
    VERIFICATION = "verification"
    """Everything is looked at that checkpoints need, and perhaps mended."""
    FORGET = "forget"
    """Checkpoints that a policy does not keep leave the catalogue."""
    DRAIN = "drain"
    """Every container of a host goes to another one; each by a migration of its own."""
    RETURN = "return"
    """What a drain has moved off a host comes back."""


class JobState(StrEnum):
    """The short answer to "how is it going?"; derived from the phase, never stored."""

    QUEUED = "queued"
    RUNNING = "running"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_OPERATOR = "needs_operator"


class Phase(StrEnum):
    """The coarse, persisted position of a job."""

    ACCEPTED = "accepted"
    PREFLIGHT = "preflight"
    PREPARING = "preparing"
    MOVING = "moving"
    """The migrations of a drain are on their way."""
    FREEZING = "freezing"
    DUMPING = "dumping"
    UPLOADING = "uploading"
    FETCHING = "fetching"
    PROMISED = "promised"
    COMMITTED = "committed"
    RESTORING = "restoring"
    REMOVING = "removing"
    FINISHING = "finishing"
    ROLLING_BACK = "rolling_back"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NEEDS_OPERATOR = "needs_operator"

    @property
    def terminal(self) -> bool:
        """Whether nothing happens any more without an operator."""
        return self in TERMINAL

    @property
    def state(self) -> JobState:
        """The state a person sees for this phase."""
        if self.terminal or self is Phase.ROLLING_BACK:
            return JobState(self.value)
        return JobState.QUEUED if self is Phase.ACCEPTED else JobState.RUNNING


TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.NEEDS_OPERATOR})

_FORWARD = (
    Phase.ACCEPTED,
    Phase.PREFLIGHT,
    Phase.PREPARING,
    Phase.MOVING,
    Phase.FREEZING,
    Phase.DUMPING,
    Phase.UPLOADING,
    Phase.FETCHING,
    Phase.PROMISED,
    Phase.COMMITTED,
    Phase.RESTORING,
    Phase.REMOVING,
    Phase.FINISHING,
)


def may_follow(before: Phase, after: Phase) -> bool:
    """Tell whether a job in `before` may be moved to `after`.

    Forward phases only grow (a plan may leave some out). Any of them may turn to rolling back, or end: at once in
    failed or cancelled where nothing has to be undone. Rolling back ends in failed or cancelled. Every running phase
    may stop for an operator, who may send it either way.
    """
    if before == after:
        return not before.terminal
    if before is Phase.NEEDS_OPERATOR:
        return after in (Phase.ROLLING_BACK, Phase.REMOVING, Phase.FINISHING)
    if before.terminal:
        return False
    if before is Phase.ROLLING_BACK:
        return after in (Phase.FAILED, Phase.CANCELLED, Phase.NEEDS_OPERATOR)
    if after in _FORWARD:
        return _FORWARD.index(after) > _FORWARD.index(before)
    return after in TERMINAL or after is Phase.ROLLING_BACK
