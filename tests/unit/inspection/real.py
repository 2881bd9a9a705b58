"""Two real checkpoints of one small program, taken a few seconds apart in a lab; without their pages of memory.

The program (it stands in the spec) listens on TCP, UDP and a unix socket, has a connection to itself, two threads, a
child and a grandchild, writes a file that it keeps open, and changes its memory all the time.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from migrator.criu.memory_map import read_pages
from migrator.errors import IntegrityError
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.roles import Role
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.oci import CheckpointIndex, with_role

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass
class HeldImages:
    """CRIU's images in memory."""

    held: dict[str, bytes]

    def names(self) -> Collection[str]:
        return self.held.keys()

    def size_of(self, name: str) -> int:
        return len(self._get(name))

    def read(self, name: str, limit_bytes: int) -> bytes:
        if self.size_of(name) > limit_bytes:
            raise IntegrityError(f"{name} is too long", code="bad_images")
        return self._get(name)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        data = self._get(name)[offset : offset + length]
        if len(data) != length:
            raise IntegrityError(f"{name} ends before", code="bad_images")
        return data

    def _get(self, name: str) -> bytes:
        if name not in self.held:
            raise IntegrityError(f"{name} is not there", code="bad_images")
        return self.held[name]


PAGES = {"pages-1.img": bytes(10752000), "pages-2.img": bytes(9134080), "pages-3.img": bytes(9134080)}
"""Full of nothing, as many as there were."""


@cache
def _files(name: str) -> dict[str, bytes]:
    with tarfile.open(Path(__file__).with_name(f"{name}.tar.xz")) as archive:
        members = [member for member in archive if member.isfile()]
        return {member.name.removeprefix("./"): archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


@dataclass
class RealCheckpoint:
    """A checkpoint that can be changed before it is looked into."""

    name: str = "first"
    images: dict[str, bytes] = field(default_factory=dict)
    layer: bytes = b""
    spec: bytes = b""

    def __post_init__(self) -> None:
        files = _files(self.name)
        self.images = {path.removeprefix("images/"): data for path, data in files.items() if path.startswith("images/")}
        self.layer, self.spec = files["layer.tar.gz"], files["spec"]
        self.images |= PAGES

    def touch(self, pid: int, page: int, data: bytes) -> None:
        """Write into a process's memory."""
        image = read_pages(HeldImages(self.images), f"pagemap-{pid}.img").image
        pages = bytearray(self.images[image])
        pages[page * 4096 : page * 4096 + len(data)] = data
        self.images[image] = bytes(pages)

    @property
    def memory(self) -> bytes:
        """The part with CRIU's images, as `pack_images` makes it."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, data in sorted(self.images.items()):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return out.getvalue()

    def upload(self, store: CheckpointStore) -> CheckpointIndex:
        """Write the parts into a store and return an index over them."""
        parts = [
            self._upload(store, self.memory, "application/x-tar", Role.MEMORY),
            self._upload(store, self.layer, LAYER, Role.RW_DIFF),
            self._upload(store, self.spec, "application/x-spec", Role.SPEC),
        ]
        return CheckpointIndex("sha256:" + "0" * 64, tuple(parts), {})

    @staticmethod
    def _upload(store: CheckpointStore, data: bytes, media_type: str, role: Role) -> Descriptor:
        part = Descriptor(media_type, digest_bytes(data), len(data))
        store.put_blob(part.digest, part.size_bytes, [data])
        return with_role(part, role)
