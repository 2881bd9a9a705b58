"""The names under which an import makes an export known."""

from __future__ import annotations

import io
import json
import tarfile

from migrator.models.roles import Role
from migrator.storage.archive import export_archive
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.storage.samples import Sample


def test_the_base_image_has_its_name_too() -> None:
    """`ctr containers restore` refuses on a host that does not know the base image by name."""
    store, sample = CheckpointStore(MemoryStore()), Sample()
    index = json.loads(sample.index)
    index["annotations"]["image.name"] = "local/web:1"
    sample.upload(store)
    store.seal("w", "c", json.dumps(index).encode())
    with tarfile.open(fileobj=io.BytesIO(b"".join(export_archive(store, "w", "c")))) as archive:
        named = json.load(archive.extractfile("index.json"))["manifests"]  # type: ignore[arg-type]
    image = next(part for part in sample.parts if part.annotations["io.migrator.role"] == Role.IMAGE)
    assert [item["annotations"]["io.containerd.image.name"] for item in named] == [
        "migrator/checkpoint/demo:c",
        "local/web:1",
    ]
    assert (named[1]["digest"], named[1]["mediaType"], named[1]["size"]) == (
        image.digest,
        image.media_type,
        image.size_bytes,
    )
