"""What a migration writes for its own checkpoint alone: packs, their indexes, recipes.

It carries marks from before it is there (`chunks.marks`), so that the job finds all of it wherever it was stopped, and
nobody else has come to rely on it. When the checkpoint goes, so does all of it; when it stays, the marks go.
"""

from __future__ import annotations

from collections.abc import Iterable

from migrator.models.descriptors import Descriptor
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.marks import names_marked


class OwnContent:
    """What one job has written for itself.

    Args:
        checkpoints: The store.
        job_id: The job.
    """

    def __init__(self, checkpoints: CheckpointStore, job_id: str):
        self._checkpoints = checkpoints
        self._job_id = job_id

    def withdraw(self, workload_id: str, checkpoint_id: str, parts: Iterable[Descriptor]) -> None:
        """Take the job's checkpoint out, sealed or half-way, with all that was written for it.

        Args:
            workload_id: Its workload.
            checkpoint_id: Its id.
            parts: Blobs of an upload that may not have come to an index.
        """
        recipes = self._recipes()
        blobs = [*parts, *(Descriptor("", digest, 0) for digest in sorted(recipes))]
        self._checkpoints.withdraw(workload_id, checkpoint_id, blobs)
        self._forget(recipes)
        self.discard()

    def discard(self) -> None:
        """Delete its packs; no checkpoint has come to need them, or it is gone."""
        self._checkpoints.chunks.discard_own(self._job_id)

    def keep(self) -> None:
        """Leave all of it to everybody: its checkpoint stays. What went ahead and was guessed wrong is a prune's."""
        self._checkpoints.chunks.give_own(self._job_id)
        self._forget(self._recipes())

    def _recipes(self) -> set[str]:
        names = names_marked(self._checkpoints.objects, layout.BLOB_MARKS, self._job_id, self._checkpoints.chunks.pools)
        return {f"sha256:{name}" for name in names}

    def _forget(self, recipes: Iterable[str]) -> None:
        for digest in recipes:
            self._checkpoints.objects.delete(layout.blob_mark_key(digest.removeprefix("sha256:")))
