"""A small checkpoint over a small base image, as the upload step would leave it in a store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import Role
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.oci import INDEX_TYPES, MANIFEST_TYPES, with_role

LAYER = "application/vnd.oci.image.layer.v1.tar"


def blob(data: bytes, media_type: str = LAYER) -> Descriptor:
    return Descriptor(media_type, digest_bytes(data), len(data))


@dataclass
class Sample:
    """A checkpoint: its blobs by digest, and its index."""

    memory: bytes = b"memory of the program"
    diff: bytes = b"changed files"
    layers: tuple[bytes, ...] = (b"layer one", b"layer two")
    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: list[Descriptor] = field(default_factory=list)
    job: str | None = None

    def __post_init__(self) -> None:
        config = self._keep(b'{"architecture":"amd64"}', "application/vnd.oci.image.config.v1+json")
        layers = [self._keep(data).to_oci() for data in self.layers]
        manifest = self._keep(
            json.dumps({"schemaVersion": 2, "config": config.to_oci(), "layers": layers}).encode(), MANIFEST_TYPES[0]
        )
        image = self._keep(json.dumps({"schemaVersion": 2, "manifests": [manifest.to_oci()]}).encode(), INDEX_TYPES[0])
        self.image_digests = set(self.blobs)
        self.parts = [
            with_role(self._keep(self.memory, "application/x-memory"), Role.MEMORY),
            with_role(self._keep(self.diff), Role.RW_DIFF),
            with_role(image, Role.IMAGE),
        ]

    def _keep(self, data: bytes, media_type: str = LAYER) -> Descriptor:
        found = blob(data, media_type)
        self.blobs[found.digest] = data
        return found

    @property
    def index(self) -> bytes:
        document = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPES[0],
            "manifests": [part.to_oci() for part in self.parts],
            "annotations": {"io.migrator.container": "demo"} | ({"io.migrator.job": self.job} if self.job else {}),
        }
        return json.dumps(document, sort_keys=True).encode()

    def upload(self, store: CheckpointStore) -> int:
        return sum(store.put_blob(digest, len(data), [data]) for digest, data in self.blobs.items())

    def seal(self, store: CheckpointStore, workload_id: str = "w", checkpoint_id: str = "c") -> str:
        self.upload(store)
        return store.seal(workload_id, checkpoint_id, self.index)
