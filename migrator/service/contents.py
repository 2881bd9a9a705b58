"""What is inside a checkpoint: its parts are opened, and only what is shown is read from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from migrator.containerd.specs import SPEC_LIMIT_BYTES, read_limits
from migrator.criu.entries import Images
from migrator.criu.images import FILES_LIMIT
from migrator.criu.memory_map import shared_pages
from migrator.criu.mount_points import read_mounts
from migrator.criu.processes import read_processes
from migrator.errors import IntegrityError
from migrator.models.contents import ChangedFile, Contents
from migrator.models.descriptors import Descriptor
from migrator.models.roles import Role
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks import part_of
from migrator.storage.layers import list_layer
from migrator.storage.oci import CheckpointIndex
from migrator.storage.reading import open_part
from migrator.storage.tars import TarFiles


class Opened:
    """A checkpoint that is looked into.

    Args:
        store: Where it is.
        index: Its index.
        check: Asked again and again; raises when nobody wants the answer any more.
    """

    def __init__(self, store: CheckpointStore, index: CheckpointIndex, check: Callable[[], None]):
        self._store = store
        self._index = index
        self._check = check
        self._images: Images | None = None

    @property
    def images(self) -> Images:
        """CRIU's images.

        Raises:
            IntegrityError: `bad_images`, they are no tar of plain files.
        """
        if self._images is None:
            file = open_part(self._store, self._index.part(Role.MEMORY))
            found = TarFiles(file, "the part with CRIU's images", code="bad_images", limit=FILES_LIMIT)
            self._images = cast("Images", found)
        return self._images

    def contents(self, *, with_memory: bool = True) -> Contents:
        """Read what is shown of it.

        Args:
            with_memory: Whether to list each range of each process's memory.

        Raises:
            IntegrityError: `bad_images`, `bad_layer` or `bad_spec`: a part is malformed; the message names it.
        """
        processes = read_processes(self.images, with_memory=with_memory)
        shared_bytes = sum(pages.size_bytes for pages in shared_pages(self.images).values())
        return Contents(
            processes=processes,
            mounts=read_mounts(self.images),
            files=self._files(),
            limits=self._limits(),
            memory_bytes=sum(process.stored_bytes for process in processes) + shared_bytes,
            shared_bytes=shared_bytes,
        )

    def _files(self) -> tuple[ChangedFile, ...]:
        if not self._index.has(Role.RW_DIFF):
            return ()
        part = self._index.part(Role.RW_DIFF)
        return list_layer(open_part(self._store, part), part_of(part).media_type, self._check)

    def _limits(self) -> dict[str, str]:
        return read_limits(self._read(self._index.part(Role.SPEC)))

    def _read(self, part: Descriptor) -> bytes:
        if part.size_bytes > SPEC_LIMIT_BYTES:
            raise IntegrityError(f"the spec of the checkpoint has {part.size_bytes} bytes", code="bad_spec")
        return b"".join(self._store.get_blob(part.digest, part.size_bytes))
