"""Marks on what one job has written for itself alone: nobody else relies on it, and the job may delete it again.

A mark of prune's on a pack or a blob is empty; one of a job's holds the job's id. It is written before what it marks.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from migrator.errors import NotFound
from migrator.storage.chunks.pools import Pools
from migrator.storage.store import ObjectStore

PARALLEL = 8


def mark_own(objects: ObjectStore, key: str, job_id: str) -> None:
    """Say that something is a job's own."""
    objects.put(key, job_id.encode())


def names_marked(objects: ObjectStore, prefix: str, job_id: str, pools: Pools = ThreadPoolExecutor) -> set[str]:
    """The names of all that is marked as a job's own.

    Args:
        objects: The store.
        prefix: The directory of the marks.
        job_id: The job.
        pools: Makes the threads that read.
    """
    keys = [info.key for info in objects.scan(prefix) if info.size_bytes]

    def owner_of(key: str) -> bytes:
        try:
            return objects.get(key)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            return b""  # taken away since it was listed

    with pools(PARALLEL) as pool:
        owners = list(pool.map(owner_of, keys))
    return {key.removeprefix(prefix) for key, owner in zip(keys, owners, strict=True) if owner == job_id.encode()}
