"""The content of a volume as a tar, made and unpacked by GNU tar: owners, modes, marks, links and holes are kept.

What comes in is unpacked into a fresh directory of its own. GNU tar takes no member out of it: it strips `/` and `..`
from names, and makes links that point elsewhere only when everything else is there.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from migrator.errors import IntegrityError, PreconditionFailed, ResourceExhausted
from migrator.models.volumes import Volume, VolumeKind

KEEP = ("--format=pax", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")
PACK = ("--create", "--sparse", "--one-file-system", "--warning=no-file-ignored", *KEEP)
UNPACK = ("--extract", "--same-owner", "--same-permissions", "--delay-directory-restore", "--warning=no-timestamp")
CHANGED = 1
"""tar(1), RETURN VALUE: some files changed while they were read."""
SAID_BYTES = 2000
MEASURE_S = 600.0
LOOK_S = 0.2


def pack_volume(volume: Volume, out: Path, check: Callable[[], None]) -> None:
    """Write a volume's content into a file. Sockets are left out: whoever listens makes them anew.

    Args:
        volume: Which.
        out: The file; it must not exist.
        check: Asked every now and then; raises when nobody waits for the content any more.

    Raises:
        PreconditionFailed: `volume_changing`, somebody outside of the frozen container writes to it; `volume_gone`.
        ResourceExhausted: `no_room`.
    """
    source = Path(volume.source).resolve()
    place, name = (source, ".") if volume.kind is VolumeKind.DIRECTORY else (source.parent, f"./{source.name}")
    with out.open("xb") as file, tempfile.TemporaryFile() as said:
        command = ["tar", *PACK, "--file=-", f"--directory={place}", name]
        tar = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=said)
        if status := _await(tar, check):
            raise _not_packed(volume, status, _read(said))


def unpack_volume(chunks: Iterable[bytes], directory: Path) -> None:
    """Unpack a volume's content into an empty directory, whose own owner and mode become the volume's.

    Args:
        chunks: The tar; whoever checks it on the way speaks at its end.
        directory: Where to.

    Raises:
        IntegrityError: `volume_incomplete`, tar could not make everything as it was.
        ResourceExhausted: `no_room`.
    """
    with tempfile.TemporaryFile() as said:
        command = ["tar", *UNPACK, *KEEP[1:], "--file=-", f"--directory={directory}"]
        tar = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        try:
            _feed(tar, chunks)
            status = tar.wait()
        finally:
            tar.kill()
            tar.wait()
            if tar.stdin is not None:
                with suppress(BrokenPipeError):
                    tar.stdin.close()
        words = _read(said)
    if "No space left" in words or "quota" in words:
        raise ResourceExhausted(
            f"a volume finds no place in {directory.parent}", code="no_room", remedy="make room there"
        )
    if status or words:
        raise IntegrityError(
            f"a volume could not be made in {directory.parent} as it was: {words or f'tar ended with {status}'}",
            code="volume_incomplete",
            remedy="see whether that file system keeps owners, extended attributes and ACLs",
        )


def measure(path: Path) -> int:
    """What a directory or file occupies on its disk, in bytes; holes in sparse files do not count."""
    done = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1", "--dereference-args", "--", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=MEASURE_S,
    )
    return int(done.stdout.split()[0]) if done.stdout else 0  # files that vanish meanwhile are no failure


def only_file(directory: Path) -> Path:
    """The file that the tar of a single-file volume held.

    Raises:
        IntegrityError: `bad_volumes`, it held something else.
    """
    found = list(directory.iterdir())
    if len(found) != 1 or found[0].is_symlink() or not found[0].is_file():
        raise IntegrityError("the part of a single file holds something else", code="bad_volumes")
    return found[0]


def _await(tar: subprocess.Popen[bytes], check: Callable[[], None]) -> int:
    try:
        while True:
            check()
            with suppress(subprocess.TimeoutExpired):
                return tar.wait(LOOK_S)
    finally:
        tar.kill()
        tar.wait()


def _feed(tar: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> None:
    """Hand over everything; a tar that has ended early says why by itself."""
    stream = tar.stdin
    if stream is None:
        raise RuntimeError("tar was started without an input")
    try:
        for chunk in chunks:
            stream.write(chunk)
        stream.close()
    except BrokenPipeError:
        tar.wait()


def _read(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read(SAID_BYTES).decode(errors="replace").strip().replace("\n", "; ")


def _not_packed(volume: Volume, status: int, words: str) -> PreconditionFailed | ResourceExhausted:
    if "No space left" in words:
        return ResourceExhausted(
            f"the content of volume {volume.destination} finds no place",
            code="no_room",
            remedy="make room, or share it",
        )
    if status == CHANGED:
        return PreconditionFailed(
            f"volume {volume.destination} ({volume.source}) changes while its container is frozen: {words}",
            code="volume_changing",
            remedy="somebody else writes to it: stop them, or share it",
        )
    return PreconditionFailed(
        f"volume {volume.destination} ({volume.source}) cannot be read: {words}",
        code="volume_unreadable",
        remedy="mend it, or declare it otherwise",
    )
