"""A volume's content survives its tar; a hostile tar does not get out of its directory."""

from __future__ import annotations

import io
import os
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from migrator.errors import Cancelled, IntegrityError, PreconditionFailed
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy
from migrator.service.volumes.archive import measure, only_file, pack_volume, unpack_volume


def volume(source: Path, kind: VolumeKind = VolumeKind.DIRECTORY) -> Volume:
    return Volume("/data", str(source), VolumePolicy.COPY, kind)


def pieces(data: bytes) -> list[bytes]:
    return [data[start : start + 1000] for start in range(0, len(data), 1000)]


def hostile(*members: tarfile.TarInfo) -> list[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"evil") if member.isreg() else None)
    return [out.getvalue()]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    info.uid, info.gid = os.getuid(), os.getgid()
    return info


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "stage").mkdir()
    return tmp_path / "stage"


def test_links_holes_and_modes_come_through(tmp_path: Path, stage: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out.tar"
    source.mkdir(mode=0o751)
    (source / "file").write_text("text")
    (source / "file").chmod(0o4640)
    (source / "hard").hardlink_to(source / "file")
    (source / "soft").symlink_to("/etc/passwd")
    with (source / "sparse").open("wb") as sparse:
        sparse.truncate(64 << 20)
    pack_volume(volume(source), out, lambda: None)
    assert out.stat().st_size < 1 << 20
    unpack_volume(pieces(out.read_bytes()), stage)
    assert stage.stat().st_mode == source.stat().st_mode
    assert (stage / "file").read_text() == "text"
    assert (stage / "file").stat().st_mode & 0o7777 == 0o4640
    assert (stage / "file").stat().st_ino == (stage / "hard").stat().st_ino
    assert (stage / "soft").readlink() == Path("/etc/passwd")
    assert (stage / "sparse").stat().st_size == 64 << 20
    assert (stage / "sparse").stat().st_blocks == 0


def test_a_single_file_behind_a_link(tmp_path: Path, stage: Path) -> None:
    (tmp_path / "real").write_text("resolv")
    (tmp_path / "named").symlink_to("real")
    pack_volume(volume(tmp_path / "named", VolumeKind.FILE), tmp_path / "out.tar", lambda: None)
    unpack_volume([(tmp_path / "out.tar").read_bytes()], stage)
    assert only_file(stage).read_text() == "resolv"


@pytest.mark.parametrize(
    "members",
    [
        [member("way", tarfile.SYMTYPE, "VICTIM"), member("way/file")],
        [member("way", tarfile.SYMTYPE, "../victim"), member("way/file")],
        [member("../victim/file")],
        [member("VICTIM/file")],
        [member("file", tarfile.SYMTYPE, "VICTIM/file"), member("file")],
        [member("hard", tarfile.LNKTYPE, "VICTIM/file"), member("hard")],
    ],
    ids=["through-link", "through-upward-link", "upward", "absolute", "over-link", "over-hard-link"],
)
def test_nothing_gets_out_of_the_directory(tmp_path: Path, stage: Path, members: list[tarfile.TarInfo]) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("good")
    for item in members:
        item.name = item.name.replace("VICTIM", str(victim))
        item.linkname = item.linkname.replace("VICTIM", str(victim))
    with suppress(IntegrityError):
        unpack_volume(hostile(*members), stage)
    assert (victim / "file").read_text() == "good"
    assert [path.name for path in victim.iterdir()] == ["file"]


def test_what_is_no_tar_is_refused(stage: Path) -> None:
    with pytest.raises(IntegrityError, match="could not be made"):
        unpack_volume([b"x" * 100_000], stage)


def test_a_failure_of_the_stream_ends_tar(stage: Path) -> None:
    def broken() -> object:
        yield b"x" * 10
        raise IntegrityError("not what its digest says")

    with pytest.raises(IntegrityError, match="digest"):
        unpack_volume(broken(), stage)  # type: ignore[arg-type]


def test_packing_stops_when_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()

    def check() -> None:
        raise Cancelled("told to stop")

    with pytest.raises(Cancelled):
        pack_volume(volume(tmp_path / "source"), tmp_path / "out.tar", check)


def test_a_volume_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        pack_volume(volume(tmp_path / "nothing"), tmp_path / "out.tar", lambda: None)
    assert caught.value.code == "volume_unreadable"


def test_holes_do_not_count(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
        sparse.write(b"x")
    assert measure(tmp_path) < 1 << 20
