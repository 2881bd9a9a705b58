"""CRIU's images as a tar: the same bytes every time, and nothing but plain files comes out of a foreign one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from migrator.criu.images import pack_images, unpack_images
from migrator.errors import IntegrityError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    for name, data in (
        ("pages-1.img", b"p" * 3_000_001),
        ("inventory.img", b"i"),
        ("empty.img", b""),
        ("a.img", b"a" * 512),
    ):
        (directory / name).write_bytes(data)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def tar_of(*members: tarfile.TarInfo) -> list[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return [buffer.getvalue()]


def test_what_is_packed_comes_out_again(images: Path, tmp_path: Path) -> None:
    unpack_images(pack_images(images), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(images)


def test_the_same_files_give_the_same_bytes(images: Path) -> None:
    first = b"".join(pack_images(images))
    (images / "inventory.img").touch()
    (images / "a.img").chmod(0o644)
    assert b"".join(pack_images(images)) == first


def test_other_tools_read_the_tar(images: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack_images(images)))) as archive:
        assert archive.getnames() == ["a.img", "empty.img", "inventory.img", "pages-1.img"]


@pytest.mark.parametrize("cut", [1, 512, 700, 2_000_000])
def test_a_tar_that_was_cut_is_refused_or_gives_whole_files_only(images: Path, tmp_path: Path, cut: int) -> None:
    data = b"".join(pack_images(images))[:-cut]
    if cut < 3 * 512:  # padding and end marks alone
        unpack_images([data], tmp_path / "out")
        assert contents(tmp_path / "out") == contents(images)
        return
    with pytest.raises(IntegrityError, match="not a tar"):
        unpack_images([data], tmp_path / "out")


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "sub/file", "..", "."])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = 4
    with pytest.raises(IntegrityError):
        unpack_images(tar_of(member), tmp_path / "out")
    assert not (tmp_path / "escape").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("odd")
    member.type = kind
    member.linkname = "/etc/passwd"
    with pytest.raises(IntegrityError):
        unpack_images(tar_of(member), tmp_path / "out")


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        unpack_images(tar_of(tarfile.TarInfo("a"), tarfile.TarInfo("a")), tmp_path / "out")
