"""Where the bytes of a checkpoint's parts lie on the source between dump and upload, and how many were dealt with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from migrator.criu.images import pack_images
from migrator.models.descriptors import Descriptor
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.models.streams import OUTPUTS
from migrator.models.volumes import VOLUME_ROLE
from migrator.service.host import Act, Host
from migrator.service.steps.volumes import volume_file
from migrator.service.steps.work import image_directory

PIECE_BYTES = 1 << 20


class Progress:
    """Adds up what several uploads say."""

    def __init__(self, act: Act, total_bytes: int):
        self._act = act
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        """So many more bytes are dealt with."""
        with self._lock:
            self._done_bytes += size_bytes
            done_bytes = self._done_bytes
        self._act.progress(done_bytes, self._total_bytes)


def read_source(host: Host, act: Act, part: Descriptor) -> Iterator[bytes]:
    """Give the bytes of a part: of CRIU's images, of a packed volume or log, or from the content store."""
    role = part.annotations.get(ROLE_ANNOTATION, "")
    if role == Role.MEMORY:
        return pack_images(image_directory(host, act))
    if is_packed(role):
        return _file_pieces(volume_file(host, act, role))
    return host.runtime(act.request.namespace).with_lease(act.lease_id).content.read(part.digest)


def is_packed(role: str) -> bool:
    """Whether the part with a role was packed into a file: a volume or a log."""
    return role.startswith(VOLUME_ROLE) or role in OUTPUTS


def _file_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")
