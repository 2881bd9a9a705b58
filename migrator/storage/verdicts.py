"""The controller's word to the pause guard of a host whose worker is dead, by way of the object store.

After its promise a source waits for the verdict, which its worker brings. A worker that does not come back would keep
it frozen; its guard asks here. Only one word is ever needed: a source that was replaced may stay frozen until its
worker removes it.
"""

from __future__ import annotations

from migrator.storage.layout import verdict_key
from migrator.storage.store import ObjectStore


class Verdicts:
    """Verdicts over any object store.

    Args:
        objects: The store.
    """

    def __init__(self, objects: ObjectStore):
        self._objects = objects

    def let_run(self, job_id: str) -> None:
        """Say that the source of a job may run again; saying it twice changes nothing."""
        self._objects.put(verdict_key(job_id), b"run\n")

    def lets_run(self, job_id: str) -> bool:
        """Whether it was said."""
        return self._objects.head(verdict_key(job_id)) is not None

    def forget(self, job_id: str) -> None:
        """Take the word back once it was heard; one that was never said is fine."""
        self._objects.delete(verdict_key(job_id))
