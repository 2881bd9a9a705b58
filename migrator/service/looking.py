"""Look into sealed checkpoints for somebody who asks. Nothing is changed, in the database or in the store."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from migrator.errors import IntegrityError, InvalidRequest, NotFound
from migrator.models.checkpoints import unknown_checkpoint
from migrator.models.comparison import Comparison
from migrator.models.contents import Contents
from migrator.models.generations import family_of
from migrator.models.session import Database
from migrator.models.usage import CheckpointUsage, Usage
from migrator.models.values import Checkpoint
from migrator.service.comparing import compare
from migrator.service.contents import Opened
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.usage import Needs, count_users, needs_of, part_usages

Check = Callable[[], None]
"""Raises when nobody wants the answer any more."""
log = structlog.get_logger()


class Looker:
    """Answers questions about what is inside checkpoints.

    Args:
        database: The catalogue.
        checkpoints: The object store.
    """

    def __init__(self, database: Database, checkpoints: CheckpointStore):
        self._database = database
        self._store = checkpoints

    def inspect(self, checkpoint_id: str, *, with_memory: bool, check: Check) -> Contents:
        """Return what a checkpoint holds.

        Raises:
            NotFound: `checkpoint_not_found`.
            IntegrityError: A part is malformed.
        """
        return self._open(self._get(checkpoint_id), check).contents(with_memory=with_memory)

    def compare(self, before: str, after: str, *, with_pages: bool, check: Check) -> Comparison:
        """Return how one checkpoint differs from another.

        Raises:
            InvalidRequest: `same_checkpoint`.
            NotFound: `checkpoint_not_found`.
            IntegrityError: A part is malformed.
        """
        if before == after:
            raise InvalidRequest(
                f"checkpoint '{before}' cannot differ from itself",
                code="same_checkpoint",
                remedy="name two; see `migrator checkpoints list`",
            )
        old, new = self._get(before), self._get(after)
        return compare(
            self._open(old, check),
            self._open(new, check),
            same_workload=old.workload_id == new.workload_id,
            with_pages=with_pages,
            check=check,
        )

    def measure(self, name: str, check: Check) -> Usage:
        """Return what a checkpoint, the checkpoints of a workload, or all of them occupy.

        Args:
            name: A checkpoint, a workload, HOST/CONTAINER, or a container's name; empty for all.
            check: See above.

        Raises:
            NotFound: `checkpoint_not_found`, nothing is called so.
        """
        catalogue = self._list()
        wanted = [item for item in catalogue if not name or name in _names(item)]
        if name and not wanted:
            raise unknown_checkpoint(name)
        needs = self._needs(catalogue, check)
        users = count_users(list(needs.values()))
        return Usage(
            tuple(
                CheckpointUsage(
                    item.id, item.workload_id, item.container, item.created_at, part_usages(needs[item.id], users)
                )
                for item in wanted
                if item.id in needs
            ),
            sum(_together([needs[item.id] for item in wanted if item.id in needs]).values()),
        )

    def _needs(self, catalogue: list[Checkpoint], check: Check) -> dict[str, Needs]:
        """What each checkpoint needs; a damaged one tells nothing, and `checkpoints show` says why."""
        found = {}
        for item in catalogue:
            check()
            try:
                found[item.id] = needs_of(self._store, self._store.read_index(item.workload_id, item.id))
            except (NotFound, IntegrityError) as error:
                log.warning("a checkpoint cannot be measured", checkpoint=item.id, error=str(error))
        return found

    def _open(self, checkpoint: Checkpoint, check: Check) -> Opened:
        return Opened(self._store, self._store.read_index(checkpoint.workload_id, checkpoint.id), check)

    def _get(self, checkpoint_id: str) -> Checkpoint:
        with self._database.transaction(write=False) as tx:
            return tx.checkpoints.get(checkpoint_id)

    def _list(self) -> list[Checkpoint]:
        with self._database.transaction(write=False) as tx:
            return tx.checkpoints.list()


def _names(item: Checkpoint) -> tuple[str, ...]:
    return item.id, item.workload_id, family_of(item.workload_id), item.container, f"{item.host}/{item.container}"


def _together(all_needs: list[Needs]) -> dict[str, int]:
    return {name: size_bytes for needs in all_needs for name, size_bytes in needs.all().items()}
