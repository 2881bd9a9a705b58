"""The parts of a checkpoint on their way into the store, as chunks: what it has already is not sent again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from migrator.containerd import ContainerdClient, compress_layer, with_role
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY
from migrator.criu.extents import Offer, cut_images
from migrator.models.descriptors import Descriptor
from migrator.models.phase import OWN_CHUNKS, JobKind
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.models.values import StorePath
from migrator.service.host import Act, Host
from migrator.service.steps.memory_dump import is_pageless, offer_memory
from migrator.service.steps.sources import Progress, is_packed, read_source
from migrator.service.steps.work import image_directory, store_of
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import cut_by_content
from migrator.storage.chunks.writing import ChunkWriter
from migrator.storage.parts import ChunkedPart

PARALLEL_BLOBS = 3
WORTH_WAITING_BYTES = 1 << 20
"""Up to here a frozen container may wait for the compression of its changed files: some milliseconds."""
PACK_INDEXES = "pack_indexes"
"""Fact: the pack indexes that this job has written."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What an upload did."""

    parts: list[Descriptor]
    """What stands in the index for each part."""
    added_bytes: int
    """What was added to the store."""
    packs: frozenset[str]
    """All packs that hold chunks of them."""
    pack_indexes: tuple[str, ...]
    """Those that this job has written."""


def send_chunked(host: Host, act: Act) -> Sent:
    """Send the parts: what is large as chunks, the small records as blobs, which everybody can read."""
    store, runs_on = store_of(host, act), act.request.kind is JobKind.BACKUP
    parts = [Descriptor.from_oci(part) for part in act.facts["parts"]]
    if not runs_on:
        parts = [portable(host.runtime(act.request.namespace).with_lease(act.lease_id), part) for part in parts]
    memory = with_role(Descriptor(CHECKPOINT_MEMORY, "", 0), Role.MEMORY)
    progress = Progress(act, sum(part.size_bytes for part in parts) + int(act.facts.get("memory_bytes", 0)))
    chunked = [part for part in parts if runs_on and is_chunked_in_backups(part)]
    plain = [part for part in parts if part not in chunked]
    with ThreadPoolExecutor(PARALLEL_BLOBS) as beside:
        sending = [beside.submit(_send_blob, host, act, store, part, progress) for part in plain]
        with store.chunks.writing(owner_of(act), written_before(act)) as writer:
            written = [_send_memory(host, act, store, writer, memory, progress)]
            written += [store.put_chunked(writer, part, _counting(_cut(host, act, part), progress)) for part in chunked]
            noting = [beside.submit(store.put_recipe, part, owner_of(act)) for part in written]
        recipes = [noted.result() for noted in noting]
        sent_bytes = sum(sent.result() for sent in sending) + sum(sent_bytes for _, sent_bytes in recipes)
    done = writer.written
    indexes = (*written_before(act), *filter(None, [done.index]))
    packs = done.relied_on | {pack.name for pack in done.packs}
    return Sent([*(found for found, _ in recipes), *plain], done.stored_bytes + sent_bytes, frozenset(packs), indexes)


def travels_chunked(act: Act) -> bool:
    """Whether memory is cut into chunks. A checkpoint by hand is kept whole, and so is one that somebody wants so."""
    return act.request.kind is not JobKind.CHECKPOINT and act.request.path is StorePath.CHUNKS


def owner_of(act: Act) -> str:
    """Whose chunks they are: while a container stands still they are its job's own, and go with it or are kept."""
    return act.command.job_id if act.request.kind in OWN_CHUNKS else ""


def written_before(act: Act) -> tuple[str, ...]:
    """The pack indexes that earlier steps of this job have written."""
    return tuple(act.facts.get(PACK_INDEXES, ()))


def is_chunked_in_backups(part: Descriptor) -> bool:
    """Whether a part may be large and change little."""
    role = part.annotations.get(ROLE_ANNOTATION, "")
    return role in (Role.MEMORY, Role.RW_DIFF) or is_packed(role)


def portable(runtime: ContainerdClient, part: Descriptor) -> Descriptor:
    """Compress changed files if they are few; `ctr container restore --rw` knows them by gzip alone."""
    few = part.size_bytes <= WORTH_WAITING_BYTES
    return compress_layer(runtime, part) if few and part.annotations.get(ROLE_ANNOTATION) == Role.RW_DIFF else part


def _send_memory(
    host: Host, act: Act, store: CheckpointStore, writer: ChunkWriter, part: Descriptor, progress: Progress
) -> ChunkedPart:
    """Send CRIU's images and the pages, wherever they are."""
    images = image_directory(host, act)
    if not is_pageless(act):
        return store.put_chunked(writer, part, _counting(cut_images(images, cut_by_content), progress))
    with ExitStack() as opened:
        offers = offer_memory(host, act, images, writer.knows, opened)
        return store.put_named(writer, part, _counting_offers(offers, progress))


def _send_blob(host: Host, act: Act, store: CheckpointStore, part: Descriptor, progress: Progress) -> int:
    return store.put_blob(part.digest, part.size_bytes, read_source(host, act, part), on_progress=progress.add)


def _cut(host: Host, act: Act, part: Descriptor) -> Iterator[bytes]:
    return cut_by_content(read_source(host, act, part))


def _counting(chunks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.add(len(chunk))
        yield chunk


def _counting_offers(chunks: Iterator[Offer], progress: Progress) -> Iterator[Offer]:
    for chunk in chunks:
        progress.add(chunk[1])
        yield chunk
