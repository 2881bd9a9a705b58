"""Which checkpoint somebody means who names a workload and a time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from migrator.errors import InvalidRequest, NotFound
from migrator.models.generations import family_of
from migrator.models.session import Transaction
from migrator.models.values import Checkpoint


@dataclass(frozen=True, slots=True)
class Choice:
    """A workload, and perhaps a moment of its past."""

    workload: str
    """HOST/CONTAINER, or the id of a workload."""
    namespace: str = "default"
    at: datetime | None = None
    """The newest checkpoint of then or before; the newest of all if nothing is said."""


def choose(tx: Transaction, choice: Choice, now: datetime) -> Checkpoint:
    """Find the checkpoint.

    Raises:
        InvalidRequest: `time_in_future`.
        NotFound: `no_checkpoints`, there are none of it; `no_checkpoint_then`, the first is younger.
    """
    if choice.at is not None and choice.at > now:
        raise InvalidRequest(
            f"{_told(choice.at)} is in the future (it is {_told(now)})",
            code="time_in_future",
            remedy="name a moment of the past, with its zone (--zone), or leave --at out for the newest",
        )
    known = checkpoints_of(tx, choice.workload, choice.namespace)
    if not known and "/" not in choice.workload and choice.at is None:
        with suppress(NotFound):
            return tx.checkpoints.get(choice.workload)
    if not known:
        raise NotFound(
            f"there are no checkpoints of '{choice.workload}' in namespace '{choice.namespace}'",
            code="no_checkpoints",
            remedy="see `migrator checkpoints list`",
        )
    found = newest(known, choice.at)
    if found is None:
        first = min(known, key=lambda item: item.created_at)
        raise NotFound(
            f"'{choice.workload}' has no checkpoint of {_told(choice.at)} or before",
            code="no_checkpoint_then",
            remedy=f"the oldest is {first.id}, of {_told(first.created_at)}",
        )
    return found


def newest(known: Iterable[Checkpoint], at: datetime | None) -> Checkpoint | None:
    """The newest, or the newest of a moment or before."""
    early = [item for item in known if at is None or item.created_at <= at]
    return max(early, key=lambda item: (item.created_at, item.id), default=None)


def checkpoints_of(tx: Transaction, workload: str, namespace: str) -> list[Checkpoint]:
    """All checkpoints of a workload, on whichever hosts they were taken, newest first.

    HOST/CONTAINER is whatever runs there now, and what was taken there under that name before. A container that was
    lost and restored under its name is another workload of one family, and its past is still its own.
    """
    host, slash, container = workload.partition("/")
    owned = tx.workloads.find(host, namespace, container) if slash else None
    families = {family_of(owned.id)} if owned else set() if slash else {family_of(workload)}

    def is_meant(item: Checkpoint) -> bool:
        there = slash and (item.host, item.namespace, item.container) == (host, namespace, container)
        return family_of(item.workload_id) in families or bool(there)

    return [item for item in tx.checkpoints.list() if is_meant(item)]


def _told(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "any time"
