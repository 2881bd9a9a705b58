"""CRIU's images as they travel: a tar of plain files. What comes in was written by somebody else and is not trusted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self

from migrator.errors import IntegrityError, ResourceExhausted

COPY_BYTES = 1 << 20
FILES_LIMIT = 100_000
HEADER_LIMIT_BYTES = 1 << 20
"""A long name or a set of attributes is read into memory; a longer one is refused."""
_EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
_BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * _BLOCK)


def pack_images(directory: Path) -> Iterator[bytes]:
    """Give a directory of images as a stream of tar bytes; the same files always give the same bytes."""
    for file in sorted(directory.iterdir()):
        yield from pack_image(file)
    yield END


def pack_image(file: Path, cut: Callable[[Path], Iterator[bytes]] | None = None) -> Iterator[bytes]:
    """Give one image as it stands in the tar: its header, its content, and what fills its last block.

    Args:
        file: The image.
        cut: Gives its content; in pieces of some size if left out.
    """
    yield from frame_image(file.name, file.stat().st_size, (cut or _pieces)(file))


def frame_image(name: str, size_bytes: int, content: Iterable[bytes]) -> Iterator[bytes]:
    """Give an image as it stands in the tar: its header, its content, and what fills its last block."""
    header = tarfile.TarInfo(name)
    header.size = size_bytes
    header.mode = 0o600
    yield header.tobuf(tarfile.PAX_FORMAT)
    yield from content
    yield bytes(-size_bytes % _BLOCK)


def size_packed(directory: Path) -> int:
    """How long the tar of a directory of images will be."""
    sizes = [file.stat().st_size for file in directory.iterdir()]
    return sum(_BLOCK + size + -size % _BLOCK for size in sizes) + len(END)


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb", buffering=0) as source:
        while piece := source.read(COPY_BYTES):
            yield piece


def unpack_images(chunks: Iterable[bytes], directory: Path) -> None:
    """Unpack a stream of tar bytes into a fresh directory; only plain files in the top level are taken.

    Args:
        chunks: The tar; it is read to its last byte, so that whoever checks it on the way can speak.
        directory: Where to; it must not exist.

    Raises:
        IntegrityError: `bad_images`, it is no tar or holds something else than plain files.
        ResourceExhausted: `no_room`, they cannot be written.
    """
    directory.mkdir(parents=True, mode=0o700)
    stream = _Stream(chunks)
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=COPY_BYTES, tarinfo=_Header) as archive:
            for number, member in enumerate(archive):
                if number > FILES_LIMIT:
                    raise IntegrityError(f"more than {FILES_LIMIT} files among CRIU's images", code="bad_images")
                _unpack(archive, member, directory)
        stream.drain()
    except (tarfile.TarError, FileExistsError, ValueError, ArithmeticError, LookupError) as error:
        # Some malformed headers end in tarfile's own arithmetic.
        raise no_such_tar(str(error)) from error
    except OSError as error:
        raise no_place(directory, error) from error


def no_such_tar(why: str) -> IntegrityError:
    """Say that a stream is not of CRIU's images."""
    return IntegrityError(f"CRIU's images are not a tar of different files: {why}", code="bad_images")


def no_place(directory: Path, error: OSError) -> ResourceExhausted:
    """Say that images cannot be written."""
    return ResourceExhausted(
        f"CRIU's images find no place in {directory}: {error.strerror}",
        code="no_room",
        remedy="make room there; the source runs on",
    )


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: Path) -> None:
    name = member.name.removeprefix("./").rstrip("/")
    if member.isdir() and name in ("", "."):
        return
    if not member.isreg() or member.issparse() or "/" in name or name in ("", ".", ".."):
        raise IntegrityError(f"CRIU's images hold something that is not a plain file: {name!r}", code="bad_images")
    source = archive.extractfile(member)
    if source is None:
        raise IntegrityError(f"CRIU's images hold an unreadable file: {name!r}", code="bad_images")
    with (directory / name).open("xb") as target:
        (directory / name).chmod(0o600)
        while piece := source.read(COPY_BYTES):
            target.write(piece)


class _Header(tarfile.TarInfo):
    """A header whose extensions have a limit, and which is not of a file with holes: those are no images."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)  # type: ignore[arg-type]
        if found.type in _EXTENSIONS and not 0 <= found.size <= HEADER_LIMIT_BYTES:
            raise IntegrityError(f"CRIU's images hold a header of {found.size} bytes", code="bad_images")
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise IntegrityError("CRIU's images hold a file with holes", code="bad_images")
        return found


class _Stream(io.RawIOBase):
    """Chunks as a file to be read from front to back."""

    def __init__(self, chunks: Iterable[bytes]):
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = bytearray()
        while size < 0 or len(found) < size:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            wanted = len(self._rest) if size < 0 else size - len(found)
            found += self._rest[:wanted]
            self._rest = self._rest[wanted:]
        return bytes(found)

    def drain(self) -> None:
        """Read what is left, so that the check at its end is made."""
        for _ in self._chunks:
            pass
