"""Is there room on this host for what a job brings: memory images, and changed files in containerd's content store?"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from migrator.containerd import ContainerdClient
from migrator.errors import MigratorError, ResourceExhausted
from migrator.models.values import Facts
from migrator.service.host import Host

ROOM = 1.25
"""Images take the memory of the task and a little more; so much must be free for them to lie in memory."""
CONTENT_PLUGIN = "io.containerd.content.v1"
PIECE_BYTES = 1 << 20
LAYERS = 2.0
"""Changed files lie in the content store as a layer, and in its compressed form or in a snapshot beside it."""
MEMORY_FREE, DISK_FREE = "memory_free_bytes", "disk_free_bytes"
"""Among the facts of a heartbeat."""
SPARE_BYTES = 64 << 20
"""A disk filled to its last byte harms more than the job."""


def check_image_room(host: Host, size_bytes: int) -> None:
    """Make sure that images of a task of that size find room on this host, in memory or on disk.

    Raises:
        ResourceExhausted: `no_room`.
    """
    if fits_in_memory(host, size_bytes):
        return
    place = host.settings.state_dir
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    free_bytes, needed_bytes = shutil.disk_usage(place).free, int(size_bytes * ROOM)
    if needed_bytes > free_bytes:
        raise ResourceExhausted(
            f"the images of {size_bytes / 1e6:.0f} MB of memory need {needed_bytes / 1e6:.0f} MB, "
            f"and {place} has {free_bytes / 1e6:.0f} MB",
            code="no_room",
            remedy=f"make room in {place}, or set MIGRATOR_STATE_DIR to a larger disk",
        )


def check_content_room(runtime: ContainerdClient, size_bytes: int) -> None:
    """Make sure that changed files of that size find room where containerd keeps content.

    Raises:
        ResourceExhausted: `no_room`; the message tells the estimate.
    """
    needed_bytes = int(size_bytes * LAYERS) + SPARE_BYTES
    for root in _content_roots(runtime):
        free_bytes = shutil.disk_usage(root).free
        if needed_bytes > free_bytes:
            raise ResourceExhausted(
                f"{size_bytes / 1e6:.0f} MB of changed files need {needed_bytes / 1e6:.0f} MB in containerd's content "
                f"store, and {root} has {free_bytes / 1e6:.0f} MB",
                code="no_room",
                remedy=f"make room in {root}",
            )


def disk_places(host: Host) -> list[Path]:
    """Where on the disks of a host images and content would lie, as far as containerd tells now."""
    try:
        return [host.settings.state_dir, *_content_roots(host.containerd)]
    except MigratorError:
        return [host.settings.state_dir]


def free_room(places: Iterable[Path]) -> Facts:
    """What a worker tells with every heartbeat of the room on its host. It asks nobody who could be silent."""
    free = [shutil.disk_usage(place).free for place in places if place.is_dir()]
    disk = {DISK_FREE: min(free)} if free else {}
    return {MEMORY_FREE: free_memory_bytes(), **disk}


def fits_in_memory(host: Host, size_bytes: int) -> bool:
    """Whether images of a task of that size find room in RUN_DIR, which is memory."""
    place = host.settings.run_dir
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return size_bytes * ROOM <= min(shutil.disk_usage(place).free, free_memory_bytes())


def touch_memory(host: Host, size_bytes: int) -> None:
    """Have the kernel get so much memory ready that a frozen program will wait for: the first touch may be slow.

    On a virtual machine a page that nothing has used for a while belongs to nobody until it is touched, which takes
    several times as long as the copy that follows. What was just freed is given out first.
    """
    if not fits_in_memory(host, 2 * size_bytes):
        return
    zeros, left_bytes = bytes(PIECE_BYTES), size_bytes
    with suppress(OSError), tempfile.TemporaryFile(dir=host.settings.run_dir, buffering=0) as file:
        while left_bytes > 0:
            left_bytes -= file.write(zeros)


def free_memory_bytes() -> int:
    """Read what can be had without swapping (proc(5), MemAvailable)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _content_roots(runtime: ContainerdClient) -> Iterator[Path]:
    """Where the daemon keeps content; none when it does not tell, or not on a path of this machine."""
    for plugin in runtime.introspection.plugins(f"type=={CONTENT_PLUGIN}"):
        root = Path(plugin.exports.get("root", ""))
        if root.is_absolute() and root.is_dir():
            yield root
