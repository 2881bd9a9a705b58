"""Checkpoints in an object store: blobs first, index last; deleting goes the other way.

An index is visible only when every blob it names is there and whole. That is the only rule a reader needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from migrator.errors import AlreadyExists, IntegrityError, NotFound
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.storage import layout
from migrator.storage.oci import (
    DOCUMENT_LIMIT_BYTES,
    CheckpointIndex,
    Role,
    children,
    has_children,
    parse_index,
)
from migrator.storage.store import ObjectStore, Progress
from migrator.storage.verify import checked

DEPTH_LIMIT = 3
"""Checkpoint index → image index → manifest."""
BLOBS_LIMIT = 5000


@dataclass(frozen=True, slots=True)
class SealedCheckpoint:
    """A checkpoint as found in the store."""

    workload_id: str
    checkpoint_id: str
    sealed_at: datetime


class CheckpointStore:
    """Blobs and indexes over any object store.

    Args:
        objects: The store.
    """

    def __init__(self, objects: ObjectStore):
        self.objects = objects

    # ---- blobs

    def has_blob(self, digest: str, size_bytes: int) -> bool:
        """Whether a blob is there with the right size."""
        found = self.objects.head(layout.blob_key(digest))
        return found is not None and found.size_bytes == size_bytes

    def put_blob(
        self,
        digest: str,
        size_bytes: int,
        chunks: Iterable[bytes],
        on_progress: Progress | None = None,
        *,
        skip_existing: bool = True,
    ) -> int:
        """Write a blob; nothing is visible if its bytes do not hash to its digest.

        Returns:
            The bytes really sent: 0 if it was there.

        Raises:
            IntegrityError: `digest_mismatch` or `size_mismatch`.
        """
        if skip_existing and self.has_blob(digest, size_bytes):
            if on_progress:
                on_progress(size_bytes)
            return 0
        key = layout.blob_key(digest)
        self.objects.upload(key, chunks, size_bytes=size_bytes, digest=digest, on_progress=on_progress)
        return size_bytes

    def get_blob(self, digest: str, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """Read a blob; the last piece comes only if all of it hashes to its digest.

        Raises:
            NotFound: `object_not_found`.
            IntegrityError: `digest_mismatch` or `size_mismatch`.
        """
        key = layout.blob_key(digest)
        chunks = self.objects.download(key, size_bytes=size_bytes, on_progress=on_progress)
        return checked(chunks, size_bytes=size_bytes, digest=digest, what=f"blob {digest}")

    # ---- checkpoints

    def seal(self, workload_id: str, checkpoint_id: str, index: bytes) -> str:
        """Make a checkpoint visible. Sealing the same index again changes nothing.

        Every blob is looked at before the index is written and once more after: a concurrent `remove` may have taken
        one that both checkpoints share.

        Returns:
            The digest of the index.

        Raises:
            IntegrityError: `blob_missing`, a blob it names is absent or has another size; `index_changed`, it was not
                read back as it was written.
            AlreadyExists: `checkpoint_sealed`, another index is there under this id.
        """
        parsed = parse_index(index)
        self._check_blobs(parsed)
        self._ensure_layout()
        key = layout.index_key(workload_id, checkpoint_id)
        try:
            self.objects.put(key, index, if_absent=True)
        except AlreadyExists as error:
            if self.objects.get(key, DOCUMENT_LIMIT_BYTES) != index:
                raise AlreadyExists(
                    f"checkpoint {checkpoint_id} is sealed with another index",
                    code="checkpoint_sealed",
                    remedy="take a new checkpoint",
                ) from error
        if self.objects.get(key, DOCUMENT_LIMIT_BYTES) != index:
            raise IntegrityError(
                f"the index of checkpoint {checkpoint_id} was not kept as written", code="index_changed"
            )
        self._check_blobs(parsed)
        return parsed.digest

    def read_index(self, workload_id: str, checkpoint_id: str) -> CheckpointIndex:
        """Read and check the index of a checkpoint.

        Raises:
            NotFound: `checkpoint_not_found`.
            IntegrityError: `bad_index`, `bad_descriptor` or `bad_digest`.
        """
        return parse_index(self.read_index_bytes(workload_id, checkpoint_id))

    def read_index_bytes(self, workload_id: str, checkpoint_id: str) -> bytes:
        """Read the index of a checkpoint as it was written."""
        try:
            return self.objects.get(layout.index_key(workload_id, checkpoint_id), DOCUMENT_LIMIT_BYTES)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            raise NotFound(
                f"checkpoint '{checkpoint_id}' is not in {self.objects.location}",
                code="checkpoint_not_found",
                remedy="see `migrator checkpoints list`",
            ) from error

    def sealed(self) -> Iterator[SealedCheckpoint]:
        """List what is sealed, from the store alone."""
        for info in self.objects.scan(layout.CHECKPOINTS):
            found = layout.parse_index_key(info.key)
            if found:
                yield SealedCheckpoint(*found, info.modified_at)

    def remove(self, workload_id: str, checkpoint_id: str, *, candidates: Iterable[Descriptor] = ()) -> int:
        """Take a checkpoint out of the store: its index first, then its blobs that no other index names.

        The base image stays. A concurrent `seal` that counts on a shared blob in the moment between the reading of the
        other indexes and the deletion is why `seal` looks twice.

        Args:
            workload_id: Its workload.
            checkpoint_id: Its id.
            candidates: Blobs of an upload that may not have come to an index; those of the index are known from it.

        Returns:
            The bytes freed.
        """
        blobs = {part.digest: part.size_bytes for part in candidates}
        try:
            index = self.read_index(workload_id, checkpoint_id)
            image = {part.digest for part in index.parts if index.role_of(part) == Role.IMAGE}
            blobs |= {part.digest: part.size_bytes for part in index.parts if part.digest not in image}
        except NotFound as error:
            if error.code != "checkpoint_not_found":
                raise
        self.objects.delete(layout.index_key(workload_id, checkpoint_id))
        doomed = blobs.keys() - self._named_blobs()
        for digest in doomed:
            self.objects.delete(layout.blob_key(digest))
        return sum(blobs[digest] for digest in doomed)

    def reachable(self, index: CheckpointIndex) -> list[Descriptor]:
        """List every blob that an index names, directly or through manifests, each once.

        Raises:
            NotFound: `object_not_found`, a manifest is missing.
            IntegrityError: A manifest is malformed, or there are more levels or blobs than allowed.
        """
        found: dict[str, Descriptor] = {}
        level = list(index.parts)
        for _ in range(DEPTH_LIMIT):
            fresh = [part for part in level if part.digest not in found]
            found |= {part.digest: part for part in fresh}
            if len(found) > BLOBS_LIMIT:
                raise IntegrityError(f"the index names more than {BLOBS_LIMIT} blobs", code="bad_index")
            level = [child for part in fresh if has_children(part) for child in self._children(part)]
            if not level:
                return list(found.values())
        raise IntegrityError("the index is nested too deeply", code="bad_index")

    def _children(self, part: Descriptor) -> list[Descriptor]:
        data = self.objects.get(layout.blob_key(part.digest), DOCUMENT_LIMIT_BYTES)
        if digest_bytes(data) != part.digest:
            raise IntegrityError(f"blob {part.digest} is not what its digest says", code="digest_mismatch")
        return children(part, data)

    def _check_blobs(self, index: CheckpointIndex) -> None:
        for part in self._reachable_or_missing(index):
            if not self.has_blob(part.digest, part.size_bytes):
                raise _missing(part.digest)

    def _reachable_or_missing(self, index: CheckpointIndex) -> list[Descriptor]:
        try:
            return self.reachable(index)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            raise _missing(str(error)) from error

    def _named_blobs(self) -> set[str]:
        """All blobs that any index names itself; what hangs below manifests is base images, which stay."""
        named: set[str] = set()
        for sealed in self.sealed():
            try:
                index = self.read_index(sealed.workload_id, sealed.checkpoint_id)
            except NotFound:
                continue  # removed since it was listed
            named |= {part.digest for part in index.parts}
        return named

    def _ensure_layout(self) -> None:
        try:
            if self.objects.head(layout.OCI_LAYOUT) is None:
                self.objects.put(layout.OCI_LAYOUT, layout.OCI_LAYOUT_CONTENT, if_absent=True)
        except AlreadyExists:
            return


def _missing(what: str) -> IntegrityError:
    return IntegrityError(
        f"the checkpoint is not complete in the object store: {what} is missing or cut short",
        code="blob_missing",
        remedy="take a new checkpoint",
    )
