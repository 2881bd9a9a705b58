"""Is there room in containerd's content store for what a job brings?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from migrator.containerd import ContainerdClient
from migrator.errors import ResourceExhausted

CONTENT_PLUGIN = "io.containerd.content.v1"
LAYERS = 2.0
"""Changed files lie in the content store as a layer, and in its compressed form or in a snapshot beside it."""
SPARE_BYTES = 64 << 20
"""A disk filled to its last byte harms more than the job."""


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


def _content_roots(runtime: ContainerdClient) -> Iterator[Path]:
    """Where the daemon keeps content; none when it does not tell, or not on a path of this machine."""
    for plugin in runtime.introspection.plugins(f"type=={CONTENT_PLUGIN}"):
        root = Path(plugin.exports.get("root", ""))
        if root.is_absolute() and root.is_dir():
            yield root
