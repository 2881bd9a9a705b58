"""Checkpoints in an object store: blobs first, index last; deleting goes the other way.

An index is visible only when every blob it names is there and whole. That is the only rule a reader needs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from migrator.errors import AlreadyExists, IntegrityError, NotFound, ResourceBusy
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.storage import layout
from migrator.storage.chunks import Recipe, is_chunked
from migrator.storage.oci import (
    DOCUMENT_LIMIT_BYTES,
    CheckpointIndex,
    children,
    has_children,
    parse_index,
)
from migrator.storage.parts import PartStore
from migrator.storage.prune.notes import doom, doomed_blobs
from migrator.storage.store import ObjectStore

if TYPE_CHECKING:
    from migrator.storage.encryption.signatures import Signatures

DEPTH_LIMIT = 3
"""Checkpoint index → image index → manifest."""
BLOBS_LIMIT = 5000
PARALLEL_LOOKS = 8
MANIFESTS_KNOWN = 256
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SealedCheckpoint:
    """A checkpoint as found in the store."""

    workload_id: str
    checkpoint_id: str
    sealed_at: datetime


class CheckpointStore(PartStore):
    """Indexes over any object store, and the parts that they name.

    Args:
        objects: The store.
        parallel_looks: How many blobs are looked at together; with 1 no threads are used.
        chunk_cache: A file for what is known of chunks; None for a temporary one.
        signatures: Signs what is sealed and checks what is read; None in a deployment without keys.
    """

    def __init__(
        self,
        objects: ObjectStore,
        parallel_looks: int = PARALLEL_LOOKS,
        *,
        chunk_cache: Path | None = None,
        signatures: Signatures | None = None,
    ):
        super().__init__(objects, chunk_cache, one_by_one=parallel_looks == 1)
        self._signatures = signatures
        self._parallel_looks = parallel_looks
        self._layout_known = False
        self._manifests: dict[str, list[Descriptor]] = {}
        """What some manifests name; they never change, but may go."""

    def writing(self, checkpoint_id: str) -> CheckpointStore:
        """Return the same store for the writes of one checkpoint: encrypted, they have a data key of their own."""
        return self.over(self.objects.session(checkpoint_id))

    def over(self, objects: ObjectStore) -> CheckpointStore:
        """Return the same checkpoints, seen through another face of the same store."""
        other = copy(self)
        other.objects = objects
        other.chunks = self.chunks.over(objects)
        return other

    def seal(
        self,
        workload_id: str,
        checkpoint_id: str,
        index: bytes,
        *,
        packs: Collection[str] | None = None,
        own: Collection[str] = (),
        sent_just_now: bool = False,
    ) -> str:
        """Make a checkpoint visible. Sealing the same index again changes nothing.

        Every blob is looked at before the index is written and once more after: a concurrent `remove` may have taken
        one that both checkpoints share. If it did, the index goes again. So with the packs of chunked parts: a prune
        marks a pack before it reads the indexes for the last time, so a pack without a mark after the index is written
        stays. Who has just sent, or seen, all of it may leave out the first look: only the second one is proof.

        Args:
            workload_id: Its workload.
            checkpoint_id: Its id.
            index: The bytes of its index.
            packs: The packs that hold its chunks, as whoever wrote them knows; found from its recipes if left out.
            own: Pack indexes of the job that seals; see `ChunkStore.own_packs`.
            sent_just_now: All that the index names was sent, or seen, by whoever seals.

        Returns:
            The digest of the index.

        Raises:
            ResourceBusy: `blob_missing`, a blob it names is absent or has another size: upload again, then seal again.
            IntegrityError: `bad_index` and the like, it is no index; `index_changed`, it was not read back as written.
            AlreadyExists: `checkpoint_sealed`, another index is there under this id.
        """
        key = layout.index_key(workload_id, checkpoint_id)
        parsed = parse_index(index)
        blobs = self._reachable_or_missing(parsed, known=self._manifests if sent_just_now else {})
        needed = self._packs_or_missing(parsed, own) if packs is None else set(packs)
        with self.chunks.pools(self._parallel_looks) as pool:
            if not sent_just_now:
                self._check_all(blobs, needed, own, pool)
            self._ensure_layout()
            self._sign(workload_id, checkpoint_id, parsed.digest)
            ours = self._write_index(key, checkpoint_id, index)
            written = pool.submit(self.objects.get, key, DOCUMENT_LIMIT_BYTES)
            try:
                self._check_all(blobs, needed, own, pool)
            except ResourceBusy:
                if ours:
                    self.objects.delete(key)
                raise
            if written.result() != index:
                raise IntegrityError(
                    f"the index of checkpoint {checkpoint_id} was not kept as written", code="index_changed"
                )
        return parsed.digest

    def _write_index(self, key: str, checkpoint_id: str, index: bytes) -> bool:
        """Write an index unless it is there already; tell whether it was written now."""
        try:
            self.objects.put(key, index, if_absent=True)
        except AlreadyExists as error:
            if self.objects.get(key, DOCUMENT_LIMIT_BYTES) == index:
                return False
            raise AlreadyExists(
                f"checkpoint {checkpoint_id} is sealed with another index",
                code="checkpoint_sealed",
                remedy="take a new checkpoint",
            ) from error
        return True

    def _sign(self, workload_id: str, checkpoint_id: str, digest: str) -> None:
        """Write the signature before its index; its name tells the index, so it stands in no other's way."""
        if self._signatures is not None:
            document = self._signatures.sign(workload_id, checkpoint_id, digest)
            self.objects.put(layout.signature_key(workload_id, checkpoint_id, digest), document)

    def read_index(self, workload_id: str, checkpoint_id: str) -> CheckpointIndex:
        """Read and check the index of a checkpoint.

        Raises:
            NotFound: `checkpoint_not_found`.
            IntegrityError: `bad_index`, `bad_descriptor` or `bad_digest`; see `read_index_bytes`.
        """
        return parse_index(self.read_index_bytes(workload_id, checkpoint_id))

    def read_index_bytes(self, workload_id: str, checkpoint_id: str) -> bytes:
        """Read the index of a checkpoint as it was written, once its signature was found good.

        Raises:
            NotFound: `checkpoint_not_found`.
            IntegrityError: `signature_missing`, `signature_invalid` or `signature_key_unknown`, if there are keys.
        """
        data = self.read_unchecked_index(workload_id, checkpoint_id)
        if self._signatures is not None:
            digest = digest_bytes(data)
            document = self.read_signature(workload_id, checkpoint_id, digest)
            self._signatures.check(document, workload_id, checkpoint_id, digest)
        return data

    def read_signature(self, workload_id: str, checkpoint_id: str, index_digest: str) -> bytes | None:
        """Return the signature document of an index; None if there is none."""
        try:
            return self.objects.get(layout.signature_key(workload_id, checkpoint_id, index_digest))
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            return None

    def read_unchecked_index(self, workload_id: str, checkpoint_id: str) -> bytes:
        """Read an index whoever wrote it: to see what it may name, never to restore it."""
        try:
            return self.objects.get(layout.index_key(workload_id, checkpoint_id), DOCUMENT_LIMIT_BYTES)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            raise self._not_found(checkpoint_id) from error

    def recipes(self, index: CheckpointIndex) -> list[Recipe]:
        """Read the recipes of all chunked parts of a checkpoint."""
        return [self.read_recipe(part) for part in index.parts if is_chunked(part)]

    def orphaned_signatures(self, older_than: datetime) -> list[str]:
        """List the keys of signatures without an index, written before a moment: of seals and removals that died."""
        signed: dict[tuple[str, str], list[str]] = {}
        sealed = set()
        for info in self.objects.scan(layout.CHECKPOINTS):
            if found := layout.parse_index_key(info.key):
                sealed.add(found)
            elif (found := layout.parse_signature_key(info.key)) and info.modified_at < older_than:
                signed.setdefault(found, []).append(info.key)
        return [key for found, keys in signed.items() if found not in sealed for key in keys]

    def sealed(self) -> Iterator[SealedCheckpoint]:
        """List what is sealed, from the store alone."""
        for info in self.objects.scan(layout.CHECKPOINTS):
            found = layout.parse_index_key(info.key)
            if found:
                yield SealedCheckpoint(*found, info.modified_at)

    def find(self, checkpoint_id: str) -> SealedCheckpoint:
        """Find a checkpoint by its id alone.

        Raises:
            NotFound: `checkpoint_not_found`.
        """
        for sealed in self.sealed():
            if sealed.checkpoint_id == checkpoint_id:
                return sealed
        raise self._not_found(checkpoint_id)

    def remove(
        self,
        workload_id: str,
        checkpoint_id: str,
        *,
        candidates: Iterable[Descriptor] = (),
        keep_image: bool = True,
    ) -> int:
        """Take a checkpoint and what it alone needs out of the store at once, as its own job does.

        Its blobs are noted as doomed before the last reading of the other indexes, so that a `seal` at the same moment
        fails and says so, or is seen; see `prune.pruner`. What another index names is found by reading all of them and
        the manifests they name; the cost grows with the number of checkpoints. A damaged document counts for every
        digest that can still be seen in it. Chunks are left to a prune.

        Args:
            workload_id: Its workload.
            checkpoint_id: Its id.
            candidates: Blobs of an upload that may not have come to an index; those of the index are known from it.
            keep_image: Whether the base image stays; it makes the next checkpoint short.

        Returns:
            The bytes freed.
        """
        parts = self._parts_left(workload_id, checkpoint_id)
        seen: dict[str, set[str]] = {}
        image = self._named_below([part for part in parts if part.annotations.get(ROLE_ANNOTATION) == Role.IMAGE], seen)
        wanted = {part.digest for part in (*candidates, *parts)}
        wanted = wanted - image if keep_image else wanted | image
        if wanted:
            doom(self.objects, checkpoint_id, wanted)
        self.unseal(workload_id, checkpoint_id)
        return self._delete_doomed(checkpoint_id, wanted, seen)

    def _delete_doomed(self, name: str, wanted: set[str], seen: dict[str, set[str]]) -> int:
        """Read once more who needs what is noted as doomed, and delete the rest.

        The note has the same name at each try: one that a crash left is taken up by the next one.
        """
        needed = self._needed_or_unclear(wanted, seen) if wanted else set()
        freed_bytes = sum(self._delete_blob(digest) for digest in sorted(wanted - needed))
        self.objects.delete(layout.doomed_key(name))
        return freed_bytes

    def unseal(self, workload_id: str, checkpoint_id: str) -> None:
        """Delete a checkpoint's index and leave its blobs to a prune; one that is not there is fine."""
        self.objects.delete(layout.index_key(workload_id, checkpoint_id))
        self._remove_signatures(workload_id, checkpoint_id)

    def blobs_named(self, index: bytes, seen: dict[str, set[str]]) -> set[str]:
        """All blobs that an index names, directly or through manifests. Damage hides as little as possible.

        Args:
            index: As it was written.
            seen: Parents that were read before, so that an image of many checkpoints is read once.
        """
        named = _digests_in(index)
        with suppress(IntegrityError):
            named |= self._named_below(parse_index(index).parts, seen)
        return named

    def withdraw(self, workload_id: str, checkpoint_id: str, parts: Sequence[Descriptor]) -> None:
        """Take an upload back, sealed or half-way, with what is left of unfinished uploads of its parts."""
        self.remove(workload_id, checkpoint_id, candidates=parts)
        for part in parts:
            self.abort_uploads(part.digest)

    def remove_blob(self, digest: str) -> int:
        """Delete a blob, whoever names it, and return the bytes freed."""
        return self._delete_blob(digest)

    def _parts_left(self, workload_id: str, checkpoint_id: str) -> tuple[Descriptor, ...]:
        """The parts of a checkpoint that is to go; none if its index is not there or cannot be read."""
        try:
            return self.read_index(workload_id, checkpoint_id).parts
        except NotFound as error:
            if error.code not in ("checkpoint_not_found", "object_not_encrypted"):
                raise
        except IntegrityError:
            return ()
        return ()

    def _remove_signatures(self, workload_id: str, checkpoint_id: str) -> None:
        if self._signatures is not None:
            for info in self.objects.scan(layout.checkpoint_directory(workload_id, checkpoint_id)):
                if layout.parse_signature_key(info.key):
                    self.objects.delete(info.key)

    def _delete_blob(self, digest: str) -> int:
        found = self.objects.head(layout.blob_key(digest))
        freed = self.objects.delete(layout.blob_key(digest))
        return found.size_bytes if found and freed else 0

    def get_ready(self, image: Descriptor) -> None:
        """Do what a seal would do otherwise while a container stands still.

        Args:
            image: The manifest of the base image.

        Raises:
            NotFound: `object_not_found`, it is not in the store.
            IntegrityError: It is malformed.
        """
        self._ensure_layout()
        if len(self._manifests) >= MANIFESTS_KNOWN:
            self._manifests.clear()
        self._manifests[image.digest] = self._children(image)

    def reachable(
        self, index: CheckpointIndex, known: Mapping[str, list[Descriptor]] = MappingProxyType({})
    ) -> list[Descriptor]:
        """List every blob that an index names, directly or through manifests, each once.

        Args:
            index: The index.
            known: What some manifests name, by their digests; these are not read.

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
            parents = [part for part in fresh if has_children(part)]
            level = [child for part in parents for child in known.get(part.digest) or self._children(part)]
            if not level:
                return list(found.values())
        raise IntegrityError("the index is nested too deeply", code="bad_index")

    def _children(self, part: Descriptor) -> list[Descriptor]:
        data = self.objects.get(layout.blob_key(part.digest), DOCUMENT_LIMIT_BYTES)
        if digest_bytes(data) != part.digest:
            raise IntegrityError(f"blob {part.digest} is not what its digest says", code="digest_mismatch")
        return children(part, data)

    def _check_all(self, blobs: list[Descriptor], packs: set[str], own: Collection[str], pool: Executor) -> None:
        """Look at all blobs and packs, some at a time: a frozen source waits for this.

        First at what is being deleted: a deletion without a note by then is over, and its blobs are missed below, or it
        begins later and sees the index.
        """
        doomed = pool.submit(doomed_blobs, self.objects)
        lost = pool.submit(self.chunks.lost_packs, packs, own)
        known = doomed.result()
        there = pool.map(lambda blob: self.has_blob(blob.digest, blob.size_bytes), blobs)
        missing = [blob.digest for blob, found in zip(blobs, there, strict=True) if not found]
        missing += sorted(known & {blob.digest for blob in blobs})
        missing += [f"pack {name}" for name in sorted(lost.result())]
        if missing:
            raise _missing(", ".join(missing[:3]))

    def _packs_or_missing(self, index: CheckpointIndex, own: Collection[str]) -> set[str]:
        recipes = self.recipes(index)
        if not recipes:
            return set()
        try:
            return self.chunks.packs_of(recipes, without=self.chunks.foreign_marks(own))
        except IntegrityError as error:
            if error.code != "chunk_missing":
                raise
            raise _missing(str(error)) from error

    def _reachable_or_missing(self, index: CheckpointIndex, known: Mapping[str, list[Descriptor]]) -> list[Descriptor]:
        try:
            return self.reachable(index, known)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            raise _missing(str(error)) from error

    def _needed_or_unclear(self, wanted: set[str], seen: dict[str, set[str]]) -> set[str]:
        """What others name; all that was asked about if an index of theirs cannot be read at all: a prune may tell."""
        try:
            return self._named_blobs(seen)
        except IntegrityError:
            return wanted

    def _named_blobs(self, seen: dict[str, set[str]]) -> set[str]:
        """All blobs that any index names, directly or through manifests."""
        named: set[str] = set()
        for sealed in self.sealed():
            try:
                data = self.read_unchecked_index(sealed.workload_id, sealed.checkpoint_id)
            except NotFound:
                continue  # removed since it was listed
            named |= self.blobs_named(data, seen)
        return named

    def _named_below(
        self, parts: Iterable[Descriptor], seen: dict[str, set[str]], depth: int = DEPTH_LIMIT
    ) -> set[str]:
        """The parts themselves and all blobs below them. Damage hides as little as possible.

        Args:
            parts: Where to begin.
            seen: Parents that were read before, so that an image of many checkpoints is read once.
            depth: Levels to go down.
        """
        named: set[str] = set()
        for part in parts:
            if has_children(part) and depth and part.digest not in seen:
                seen[part.digest] = set()
                with suppress(NotFound, IntegrityError):
                    data = self.objects.get(layout.blob_key(part.digest), DOCUMENT_LIMIT_BYTES)
                    seen[part.digest] = _digests_in(data)
                    seen[part.digest] |= self._named_below(children(part, data), seen, depth - 1)
            named |= {part.digest} | seen.get(part.digest, set())
        return named

    def _ensure_layout(self) -> None:
        if self._layout_known:
            return
        with suppress(AlreadyExists):
            self.objects.put(layout.OCI_LAYOUT, layout.OCI_LAYOUT_CONTENT, if_absent=True)
        self._layout_known = True

    def _not_found(self, checkpoint_id: str) -> NotFound:
        return NotFound(
            f"checkpoint '{checkpoint_id[:200]}' is not in {self.objects.location}",
            code="checkpoint_not_found",
            remedy="see `migrator checkpoints list`",
        )


def _missing(what: str) -> ResourceBusy:
    return ResourceBusy(
        f"the checkpoint is not complete in the object store: {what} is missing or cut short",
        code="blob_missing",
        remedy="upload its parts again; a checkpoint that shared them was perhaps removed at this moment",
    )


def _digests_in(data: bytes) -> set[str]:
    return {digest.decode() for digest in _DIGEST.findall(data)}
