"""Which kinds of job can be scheduled: one line each."""

from __future__ import annotations

from enum import Enum

from migrator.errors import InvalidRequest
from migrator.models.phase import JobKind


class Scope(Enum):
    """What a firing makes jobs for."""

    CONTAINERS = "containers"
    """One for each container of the target."""
    CHECKPOINTS = "checkpoints"
    """One for the newest checkpoint of each container of the target."""
    HOST = "host"
    """One for the host."""
    ONE = "one"
    """One, and what it is about its own options say."""


KINDS = {
    JobKind.BACKUP: Scope.CONTAINERS,
    JobKind.CHECKPOINT: Scope.CONTAINERS,
    JobKind.MIGRATION: Scope.CONTAINERS,
    JobKind.DRILL: Scope.CHECKPOINTS,
    JobKind.DRAIN: Scope.HOST,
    JobKind.RETURN: Scope.ONE,
    JobKind.FORGET: Scope.ONE,
    JobKind.PRUNE: Scope.ONE,
    JobKind.VERIFICATION: Scope.ONE,
}


BACKUPS = frozenset({JobKind.BACKUP, JobKind.CHECKPOINT})
"""Kinds that make checkpoints which a policy may thin out afterwards."""


def scope_of(kind: JobKind) -> Scope:
    """Return what a firing of this kind makes jobs for.

    Raises:
        InvalidRequest: `kind_not_scheduled`.
    """
    scope = KINDS.get(kind)
    if scope is None:
        raise InvalidRequest(
            f"a {kind} cannot be scheduled", code="kind_not_scheduled", remedy=f"one of {', '.join(sorted(KINDS))}"
        )
    return scope
