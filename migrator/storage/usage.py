"""What each part of a checkpoint occupies, and what it shares with others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from migrator.models.descriptors import Descriptor
from migrator.models.usage import PartUsage
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import is_chunked
from migrator.storage.oci import CheckpointIndex

Sizes = Mapping[str, int]
"""The bytes of each thing that is stored once, by its name."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a checkpoint needs of the store, role by role."""

    parts: Mapping[str, Sizes]

    def all(self) -> dict[str, int]:
        """Everything, each thing once."""
        return {name: size_bytes for sizes in self.parts.values() for name, size_bytes in sizes.items()}


def needs_of(store: CheckpointStore, index: CheckpointIndex) -> Needs:
    """Find out what a checkpoint needs.

    Raises:
        NotFound: `object_not_found`, a manifest is missing.
        IntegrityError: A manifest or recipe is malformed, or a chunk is missing.
    """
    return Needs({index.role_of(part): _below(store, index, part) for part in index.parts})


def count_users(all_needs: list[Needs]) -> Counter[str]:
    """Count how many checkpoints need each thing."""
    return Counter(name for needs in all_needs for name in needs.all())


def part_usages(needs: Needs, users: Mapping[str, int]) -> tuple[PartUsage, ...]:
    """Say what each part occupies, and how much of that nobody else needs."""
    return tuple(
        PartUsage(role, sum(sizes.values()), sum(size for name, size in sizes.items() if users.get(name, 0) <= 1))
        for role, sizes in needs.parts.items()
    )


def _below(store: CheckpointStore, index: CheckpointIndex, part: Descriptor) -> Sizes:
    alone = CheckpointIndex(index.digest, (part,), {})
    blobs = {blob.digest: blob.size_bytes for blob in store.reachable(alone)}
    if not is_chunked(part):
        return blobs
    chunks = store.chunks.stored_sizes(store.read_recipe(part))
    return blobs | {name.hex(): stored_bytes for name, stored_bytes in chunks.items()}
