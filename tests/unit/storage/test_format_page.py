"""A reader of chunked parts that knows docs/format.md and nothing else: no line of it comes from the project.

If it stops working, what was stored under this version of the format can no longer be read by those who only have the
page. Mend the code, or give the format a new version.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import zstandard
from blake3 import blake3

from migrator.models.roles import Role
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.directory import DirectoryStore
from tests.unit.storage.chunked import index_of, some_bytes, write


class PlainReader:
    """Reads a directory store by the page."""

    def __init__(self, root: Path):
        self.root = root
        self.places: dict[bytes, tuple[Path, int, int, int, int]] = {}
        for file in (root / "chunks/pack-indexes").iterdir():
            self._take_in(self._named(file))

    def part(self, workload: str, checkpoint: str, role: str) -> bytes:
        index = json.loads((self.root / f"checkpoints/{workload}/{checkpoint}/index.json").read_text())
        (found,) = (item for item in index["manifests"] if item["annotations"]["io.migrator.role"] == role)
        assert found["mediaType"] == "application/vnd.migrator.recipe.v1+json"
        recipe = json.loads(self._named(self.root / "blobs/sha256" / found["digest"].removeprefix("sha256:")))
        whole = b"".join(self._stretch(item) for item in recipe["lists"])
        told = {1: f"sha256:{hashlib.sha256(whole).hexdigest()}", 2: None}[recipe["schemaVersion"]]
        assert (len(whole), told) == (recipe["size"], recipe.get("digest"))
        assert found["annotations"].get("io.migrator.part.digest") == told
        return whole

    def _stretch(self, item: dict[str, object]) -> bytes:
        chunks = struct.iter_unpack("<32sI", self._chunk(bytes.fromhex(str(item["chunk"]))))
        found = [(self._chunk(name), size) for name, size in chunks]
        assert all(len(chunk) == size for chunk, size in found)
        stretch = b"".join(chunk for chunk, _ in found)
        assert len(stretch) == item["size"]
        return stretch

    def _chunk(self, name: bytes) -> bytes:
        pack, offset, codec, stored_size, size = self.places[name]
        stored = pack.read_bytes()[offset : offset + stored_size]
        chunk = {0: bytes, 1: lambda data: zstandard.decompress(data, size)}[codec](stored)
        assert (blake3(chunk).digest(), len(chunk)) == (name, size)
        return chunk

    def _take_in(self, data: bytes) -> None:
        assert data[:8] == b"mgpidx01"
        place = 8
        while place < len(data):
            pack, size, count = struct.unpack_from("<32sQI", data, place)
            place, offset = place + 44, 24
            file = self.root / "chunks/packs" / pack.hex()
            assert file.stat().st_size == size
            for _ in range(count):
                name, codec, stored_size, chunk_size = struct.unpack_from("<32sBII", data, place)
                self.places[name] = (file, offset, codec, stored_size, chunk_size)
                place, offset = place + 41, offset + stored_size

    def _named(self, file: Path) -> bytes:
        data = file.read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.name
        return data


@pytest.mark.parametrize("with_digest", [False, True])
def test_a_reader_by_the_page_reads_what_we_wrote(tmp_path: Path, with_digest: bool) -> None:
    store = CheckpointStore(DirectoryStore(tmp_path))
    texts = {Role.MEMORY: some_bytes(3 << 20) + bytes(1 << 20), Role.RW_DIFF: b"changed files"}
    parts, _ = write(store, texts, with_digest=with_digest)
    store.seal("web-1", "ck-1", index_of(parts))
    reader = PlainReader(tmp_path)
    for role, text in texts.items():
        assert reader.part("web-1", "ck-1", role) == text
