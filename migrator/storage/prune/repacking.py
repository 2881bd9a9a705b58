"""Write what is needed of mostly unused packs into new ones. The old ones, marked already, go a grace time later."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.format import Pack, StoredChunk, pack_head, pack_tail
from migrator.storage.prune.survey import PackUse, Pulse

PACK_BYTES = 12 << 20


def repack(checkpoints: CheckpointStore, use: PackUse, names: Iterable[str], pulse: Pulse) -> int:
    """Copy the needed chunks as they are stored; return the bytes written. Packs first, then their index."""
    packs: list[Pack] = []
    chunks: list[StoredChunk] = []
    bodies: list[bytes] = []
    for name in names:
        pulse()
        for offset, chunk in use.listed[name].placed():
            if chunk.name in use.used[name]:
                bodies.append(checkpoints.objects.get_range(layout.pack_key(name), offset, chunk.stored_bytes))
                chunks.append(chunk)
        if sum(map(len, bodies)) >= PACK_BYTES:
            packs.append(_write_pack(checkpoints, chunks, bodies))
            chunks, bodies = [], []
    if chunks:
        packs.append(_write_pack(checkpoints, chunks, bodies))
    if packs:
        checkpoints.chunks.put_pack_index(packs)
    return sum(pack.size_bytes for pack in packs)


def _write_pack(checkpoints: CheckpointStore, chunks: list[StoredChunk], bodies: list[bytes]) -> Pack:
    data = b"".join([pack_head(), *bodies, pack_tail(chunks)])
    name = hashlib.sha256(data).hexdigest()
    checkpoints.objects.upload(layout.pack_key(name), [data], size_bytes=len(data), digest=f"sha256:{name}")
    return Pack(name, len(data), tuple(chunks))
