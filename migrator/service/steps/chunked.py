"""The parts of a backup on their way into the store, as chunks: what it has already is not sent again."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.containerd import with_role
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY
from migrator.criu.extents import cut_images
from migrator.criu.images import size_packed
from migrator.models.descriptors import Descriptor
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.service.host import Act, Host
from migrator.service.steps.sources import Progress, is_packed, read_source
from migrator.service.steps.work import image_directory, store_of
from migrator.storage.chunks import cut_by_content


def send_chunked(host: Host, act: Act) -> tuple[list[Descriptor], int]:
    """Send the parts; return what stands in the index for each, and the bytes that were added to the store.

    Memory, changed files, volumes and logs become chunks. The small records stay blobs, which everybody can read.
    """
    store = store_of(host, act)
    parts = [Descriptor.from_oci(part) for part in act.facts["parts"]]
    memory_bytes = size_packed(image_directory(host, act))
    parts.append(with_role(Descriptor(CHECKPOINT_MEMORY, "", memory_bytes), Role.MEMORY))
    progress = Progress(act, sum(part.size_bytes for part in parts))
    with store.chunks.writing() as writer:
        written = [
            store.put_chunked(writer, part, _counting(_cut(host, act, part), progress))
            for part in parts
            if is_chunked_in_backups(part)
        ]
    plain = [part for part in parts if not is_chunked_in_backups(part)]
    added_bytes = writer.written.stored_bytes
    for part in plain:
        chunks = read_source(host, act, part)
        added_bytes += store.put_blob(part.digest, part.size_bytes, chunks, on_progress=progress.add)
    recipes = [store.put_recipe(part) for part in written]
    return [*(found for found, _ in recipes), *plain], added_bytes + sum(sent_bytes for _, sent_bytes in recipes)


def is_chunked_in_backups(part: Descriptor) -> bool:
    """Whether a part may be large and change little."""
    role = part.annotations.get(ROLE_ANNOTATION, "")
    return role in (Role.MEMORY, Role.RW_DIFF) or is_packed(role)


def _cut(host: Host, act: Act, part: Descriptor) -> Iterator[bytes]:
    if part.annotations.get(ROLE_ANNOTATION) == Role.MEMORY:
        return cut_images(image_directory(host, act), cut_by_content)
    return cut_by_content(read_source(host, act, part))


def _counting(chunks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.add(len(chunk))
        yield chunk
