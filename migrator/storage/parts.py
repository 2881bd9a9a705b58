"""The parts of checkpoints: blobs, or put together from chunks by a recipe. A reader need not know which."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from migrator.errors import Unavailable
from migrator.models.descriptors import Descriptor
from migrator.storage import layout
from migrator.storage.chunks import ChunkStore, ChunkWriter, Recipe, is_chunked, part_of
from migrator.storage.chunks.marks import mark_own
from migrator.storage.chunks.pools import OneByOne
from migrator.storage.chunks.reading import Chunks
from migrator.storage.chunks.recipes import check_is_of, describe_chunked, parse_recipe
from migrator.storage.chunks.writing import OfferedChunk
from migrator.storage.store import ObjectStore, Progress
from migrator.storage.verify import checked, counted


@dataclass(frozen=True, slots=True)
class ChunkedPart:
    """A part that was written as chunks."""

    whole: Descriptor
    recipe: Recipe


class PartStore:
    """Blobs and chunks over any object store.

    Args:
        objects: The store.
        chunk_cache: A file for what is known of chunks; None for a temporary one.
        one_by_one: No threads are used for chunks.
    """

    def __init__(self, objects: ObjectStore, chunk_cache: Path | None = None, *, one_by_one: bool = False):
        self.objects = objects
        self.chunks = ChunkStore(objects, chunk_cache, pools=OneByOne if one_by_one else ThreadPoolExecutor)

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
            Unavailable: `blob_cut_short`, the store lost bytes.
        """
        if skip_existing and self.has_blob(digest, size_bytes):
            self._rely_on(digest)
            if on_progress:
                on_progress(size_bytes)
            return 0
        key = layout.blob_key(digest)
        self.objects.upload(key, chunks, size_bytes=size_bytes, digest=digest, on_progress=on_progress)
        self._see(digest, size_bytes)
        return size_bytes

    def _see(self, digest: str, size_bytes: int) -> None:
        """See that a blob is in the store as it was sent: then a seal need not look before it writes the index."""
        if not self.has_blob(digest, size_bytes):
            raise Unavailable(
                f"blob {digest} was not kept as it was sent",
                code="blob_cut_short",
                remedy="the store lost bytes; it is tried again",
            )

    def get_blob(self, digest: str, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """Read a blob; the last piece comes only if all of it hashes to its digest.

        Raises:
            NotFound: `object_not_found`.
            IntegrityError: `digest_mismatch` or `size_mismatch`.
        """
        key = layout.blob_key(digest)
        chunks = self.objects.download(key, size_bytes=size_bytes, on_progress=on_progress)
        return checked(chunks, size_bytes=size_bytes, digest=digest, what=f"blob {digest}")

    def _rely_on(self, digest: str) -> None:
        """Take away the mark of a prune that found nobody who needs this blob: its grace time would begin anew."""
        mark = layout.blob_mark_key(digest.removeprefix("sha256:"))
        if self.objects.head(mark) is not None:
            self.objects.delete(mark)

    # ---- parts: a blob, or put together from chunks

    def put_chunked(self, writer: ChunkWriter, part: Descriptor, cut: Iterable[bytes]) -> ChunkedPart:
        """Write a part as chunks.

        Args:
            writer: Of `chunks.writing()`; what was written can be read when that block has ended.
            part: Media type and role, and the digest if it is known; the length is found on the way.
            cut: Its bytes, as they were cut into chunks.

        Raises:
            IntegrityError: `digest_mismatch`, the bytes are not those of the digest.
        """
        recipe = writer.add_part(part, cut)
        whole = replace(part, digest=recipe.digest, size_bytes=recipe.size_bytes)
        return ChunkedPart(whole, recipe)

    def put_named(self, writer: ChunkWriter, part: Descriptor, chunks: Iterable[OfferedChunk]) -> ChunkedPart:
        """Write a part whose chunks are named already; see `ChunkWriter.add_named`."""
        recipe = writer.add_named(part, chunks)
        return ChunkedPart(replace(part, digest=recipe.digest, size_bytes=recipe.size_bytes), recipe)

    def put_recipe(self, part: ChunkedPart, job_id: str = "") -> tuple[Descriptor, int]:
        """Write the recipe of a part whose chunks are in the store.

        Args:
            part: The part.
            job_id: A job that takes the recipe out again; it finds it by its mark, wherever it was stopped.

        Returns:
            What stands in the index, and the bytes really sent.
        """
        data = part.recipe.to_bytes()
        found = describe_chunked(part.whole, data)
        if job_id:
            mark_own(self.objects, layout.blob_mark_key(found.digest.removeprefix("sha256:")), job_id)
            self.objects.put_hashed(layout.blob_key(found.digest), data, found.digest)
            self._see(found.digest, len(data))
            return found, len(data)
        return found, self.put_blob(found.digest, found.size_bytes, [data])

    def read_recipe(self, descriptor: Descriptor) -> Recipe:
        """Read and check the recipe that stands for a part.

        Raises:
            IntegrityError: `bad_recipe` and the like.
        """
        recipe = parse_recipe(b"".join(self.get_blob(descriptor.digest, descriptor.size_bytes)))
        check_is_of(recipe, part_of(descriptor))
        return recipe

    def read_part(self, descriptor: Descriptor, on_progress: Progress | None = None) -> Iterator[bytes]:
        """Read a part of a checkpoint, be it a blob or put together from chunks.

        The last piece comes only if all of it hashes to the part's digest, or, where only the recipe vouches for it, if
        it has the right length: each chunk is what its name says in any case.

        Args:
            descriptor: As it stands in the index.
            on_progress: Called with the bytes of the part that came.

        Raises:
            NotFound: `object_not_found`.
            IntegrityError: `digest_mismatch`, `size_mismatch`, `chunk_missing`, `chunk_damaged` or `bad_recipe`.
        """
        if not is_chunked(descriptor):
            return self.get_blob(descriptor.digest, descriptor.size_bytes, on_progress)
        part = part_of(descriptor)
        pieces = counted(self.chunks.read(self.read_recipe(descriptor)), on_progress)
        digest, what = part.digest or None, f"the part of recipe {descriptor.digest}"
        return checked(pieces, size_bytes=part.size_bytes, digest=digest, what=what)

    def read_unless_known(
        self,
        recipe: Recipe,
        known: Container[bytes],
        known_lists: Container[bytes] = frozenset(),
        on_progress: Progress | None = None,
    ) -> Iterator[Chunks]:
        """Give the chunks of a part in order, some at a time, without the bytes of those that the caller knows.

        Each chunk is what its name says, and recipe and lists vouch for the names.

        Args:
            recipe: Of the part.
            known: The names of chunks that the caller has.
            known_lists: The names of lists of which the caller has all chunks.
            on_progress: Called with the bytes of the part that were dealt with.

        Raises:
            IntegrityError: `chunk_missing`, `chunk_damaged` or `bad_recipe`.
        """
        for chunks in self.chunks.read_unless_known(recipe, known, known_lists):
            if on_progress:
                on_progress(sum(chunks.sizes))
            yield chunks

    def open_part(self, descriptor: Descriptor) -> BinaryIO:
        """Open a part as a file that can be read from anywhere, for who wants little of it.

        Of a chunked part only what is touched is fetched, and verified; any other is read and verified as a whole, into
        a temporary file.
        """
        if is_chunked(descriptor):
            return self.chunks.open(self.read_recipe(descriptor))
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        for piece in self.read_part(descriptor):
            file.write(piece)
        file.seek(0)
        return file

    def abort_uploads(self, digest: str) -> None:
        """Remove what is left of unfinished uploads of a blob; nobody else must be uploading it."""
        self.objects.abort_uploads(layout.blob_key(digest), older_than_s=0)
