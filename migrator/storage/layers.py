"""What an OCI layer changes over what lies below it, listed without unpacking it."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import BinaryIO

from migrator.errors import IntegrityError
from migrator.models.contents import ChangedFile, FileChange
from migrator.storage.tars import gunzipped, headers

FILES_LIMIT = 1_000_000
TIME_LIMIT_S = 1 << 62
WHAT, CODE = "the part with the changed files", "bad_layer"
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
"""OCI image-spec, layer.md: a removed path, and a directory that hides what lies below."""
_KINDS = {
    tarfile.DIRTYPE: "directory", tarfile.LNKTYPE: "link", tarfile.SYMTYPE: "symlink", tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device", tarfile.FIFOTYPE: "fifo",
}  # fmt: skip


def list_layer(file: BinaryIO, media_type: str, check: Callable[[], None]) -> tuple[ChangedFile, ...]:
    """List what a layer changes, by path. Directories that only lead to something listed are left out.

    Args:
        file: The layer.
        media_type: Says how it is compressed.
        check: Asked again and again; raises when nobody wants the answer any more.

    Raises:
        IntegrityError: `bad_layer`.
    """
    found: dict[str, ChangedFile] = {}
    for member in headers(_opened(file, media_type), WHAT, code=CODE, limit=FILES_LIMIT):
        check()
        changed = _changed(member)
        if changed is not None and found.get(changed.path, changed).change is not FileChange.EMPTIED:
            found[changed.path] = changed
    above = {str(parent) for path in found for parent in PurePosixPath(path).parents}
    kept = (item for item in found.values() if item.kind != "directory" or item.path not in above or _emptied(item))
    return tuple(sorted(kept, key=lambda item: item.path))


def _opened(file: BinaryIO, media_type: str) -> BinaryIO:
    if media_type.endswith(("+gzip", ".gzip")):
        return gunzipped(file, WHAT, CODE)
    if media_type.endswith(".tar"):
        return file
    raise IntegrityError(f"{WHAT} is compressed in a way that is not known: {media_type[:100]!r}", code=CODE)


def _emptied(item: ChangedFile) -> bool:
    return item.change is FileChange.EMPTIED


def _changed(member: tarfile.TarInfo) -> ChangedFile | None:
    path = PurePosixPath("/") / _text(member.name).strip("/").removeprefix("./")
    if path.name in ("", "."):
        return None
    if path.name == _OPAQUE:
        return ChangedFile(str(path.parent), FileChange.EMPTIED, "directory")
    if path.name.startswith(_WHITEOUT):
        return ChangedFile(str(path.with_name(path.name.removeprefix(_WHITEOUT) or "?")), FileChange.REMOVED)
    return ChangedFile(
        path=str(path),
        change=FileChange.WRITTEN,
        kind=_KINDS.get(member.type, "file"),
        size_bytes=member.size if member.isreg() else 0,
        mode=stat.S_IMODE(member.mode),
        modified_s=_seconds(member.mtime),
        target=_text(member.linkname),
    )


def _text(name: str) -> str:
    """A name whose bytes need not be UTF-8, which `tarfile` keeps as surrogates."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _seconds(time_s: float) -> int:
    return int(time_s) if abs(time_s) < TIME_LIMIT_S else 0  # false for what is no number, too
