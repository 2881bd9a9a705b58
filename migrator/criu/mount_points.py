"""What is mounted in the container, read from CRIU's images."""

from __future__ import annotations

import re

from migrator.criu.entries import Images, read_entries, text_of
from migrator.gen.criu.images_pb2 import MountEntry
from migrator.models.contents import MountPoint

MOUNTS_MARK = 0x55563928
_IMAGE = re.compile(r"mountpoints-\d{1,10}\.img")
_READ_ONLY = 1
_TYPES = {
    1: "proc", 2: "sysfs", 3: "devtmpfs", 4: "binfmt_misc", 5: "tmpfs", 6: "devpts", 8: "pstore", 9: "securityfs",
    10: "fusectl", 11: "debugfs", 12: "cgroup", 13: "aufs", 14: "mqueue", 15: "fuse", 17: "overlay", 18: "autofs",
    19: "tracefs", 23: "cgroup2",
}  # fmt: skip


def read_mounts(images: Images) -> tuple[MountPoint, ...]:
    """Read what is mounted, by destination.

    Raises:
        IntegrityError: `bad_images`.
    """
    names = sorted(name for name in images.names() if _IMAGE.fullmatch(name))
    found = {_mount(entry) for name in names for entry in read_entries(images, name, MOUNTS_MARK, MountEntry)}
    return tuple(sorted(found, key=lambda mount: (mount.destination, mount.source)))


def _mount(entry: MountEntry) -> MountPoint:
    named = text_of(entry.fsname)
    return MountPoint(
        destination=text_of(entry.mountpoint),
        filesystem=named or _TYPES.get(entry.fstype, "other"),
        source=text_of(entry.root) if entry.ext_mount else text_of(entry.source),
        read_only=bool(entry.flags & _READ_ONLY),
        from_outside=bool(entry.ext_mount),
    )
