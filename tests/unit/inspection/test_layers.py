"""What a layer changes, listed without unpacking it."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from migrator.errors import IntegrityError
from migrator.models.contents import ChangedFile, FileChange
from migrator.storage.layers import list_layer

TAR, GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"


def nothing() -> None:
    """Somebody waits."""


def layer(*members: tuple[str, bytes, bytes, str]) -> bytes:
    """A tar of (name, type, content, link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, data, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(data), link
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


EXAMPLE = layer(
    ("etc/", tarfile.DIRTYPE, b"", ""),
    ("etc/motd", tarfile.REGTYPE, b"hello", ""),
    ("etc/.wh.hosts", tarfile.REGTYPE, b"", ""),
    ("cache/", tarfile.DIRTYPE, b"", ""),
    ("cache/.wh..wh..opq", tarfile.REGTYPE, b"", ""),
    ("cache/new", tarfile.REGTYPE, b"x" * 5000, ""),
    ("empty/", tarfile.DIRTYPE, b"", ""),
    ("link", tarfile.SYMTYPE, b"", "/etc/motd"),
    ("n\udcff", tarfile.REGTYPE, b"", ""),
)


@pytest.mark.parametrize(("data", "media_type"), [(EXAMPLE, TAR), (gzip.compress(EXAMPLE), GZIP)], ids=["tar", "gzip"])
def test_what_a_layer_changes(data: bytes, media_type: str) -> None:
    found = {item.path: item for item in list_layer(io.BytesIO(data), media_type, nothing)}
    changes = {path: (item.change, item.kind, item.size_bytes) for path, item in found.items()}
    assert changes == {
        "/etc/motd": (FileChange.WRITTEN, "file", 5),
        "/etc/hosts": (FileChange.REMOVED, "", 0),
        "/cache": (FileChange.EMPTIED, "directory", 0),
        "/cache/new": (FileChange.WRITTEN, "file", 5000),
        "/empty": (FileChange.WRITTEN, "directory", 0),
        "/link": (FileChange.WRITTEN, "symlink", 0),
        "/n\\xff": (FileChange.WRITTEN, "file", 0),
    }
    assert found["/link"].target == "/etc/motd"


def test_an_empty_layer_changes_nothing() -> None:
    assert list_layer(io.BytesIO(layer()), TAR, nothing) == ()


@pytest.mark.parametrize(
    ("data", "media_type", "why"),
    [
        (b"no tar at all" * 100, TAR, "is no tar"),
        (b"no gzip", GZIP, "not compressed as it says"),
        (gzip.compress(EXAMPLE)[:100], GZIP, "cut off"),
        (EXAMPLE, "application/vnd.oci.image.layer.v1.tar+zstd", "not known"),
    ],
    ids=["no tar", "no gzip", "cut", "zstd"],
)
def test_what_is_no_layer_is_refused(data: bytes, media_type: str, why: str) -> None:
    with pytest.raises(IntegrityError, match=why) as caught:
        list_layer(io.BytesIO(data), media_type, nothing)
    assert caught.value.code == "bad_layer"


def test_headers_that_do_not_end_are_refused() -> None:
    """A long name that claims to be as long as the archive would be read into memory."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with pytest.raises(IntegrityError, match="headers that do not end"):
        list_layer(io.BytesIO(member.tobuf(tarfile.GNU_FORMAT) + bytes(4096)), TAR, nothing)


def test_a_compressed_archive_of_nothing_is_read_in_bounded_memory() -> None:
    import tracemalloc

    big = layer(("zeros", tarfile.REGTYPE, bytes(50 << 20), ""))
    packed = gzip.compress(big, compresslevel=1)
    tracemalloc.start()
    (found,) = list_layer(io.BytesIO(packed), GZIP, nothing)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == ChangedFile("/zeros", FileChange.WRITTEN, "file", 50 << 20, 0o644)
    assert peak_bytes < 8 << 20
