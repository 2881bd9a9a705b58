"""OCI images made from packages that are already installed in the lab's root file system: no registry, no download.

An image has up to three layers: one of packages that many images begin with, one of the packages that it adds, and one
of files. The same input gives the same bytes, so a file named after its input is a cache.

Formats: OCI image-spec `image-layout.md`, `config.md`, `layer.md`; containerd's importer takes the image's name from
the annotation `io.containerd.image.name`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from migrator.lab.packages import Package, PackageSet

FORMAT = 1
"""Part of every cache key: raise it when the bytes this module makes change."""
EPOCH_S = 1_700_000_000
"""The one time stamp of everything inside an image."""
CREATED = "2023-11-14T22:13:20Z"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SKELETON = (
    *("bin", "sbin", "lib", "lib64"),  # links on a merged system
    *("dev", "etc", "home", "opt", "proc", "root", "run", "sys", "tmp", "usr", "var"),
)
"""Taken from the root as they are."""
ACCOUNTS = ("etc/passwd", "etc/group", "etc/nsswitch.conf")
"""Written by package scripts, so no package lists them."""

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Layer:
    """A gzipped layer in the cache."""

    path: str
    digest: str
    diff_id: str
    """Digest of the tar inside."""
    size_bytes: int


def build_image(
    root: Path,
    out: Path,
    *,
    name: str,
    base: Sequence[str] = (),
    packages: Sequence[str] = (),
    without: Sequence[str] = (),
    files: Mapping[str, bytes | Path] | None = None,
    entrypoint: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    workdir: str = "/",
    user: str = "",
) -> Path:
    """Make an OCI image archive, or return the one made before from the same input.

    Args:
        root: A root file system with the packages installed; only read.
        out: Directory of the cache: archives, and layers that images share.
        name: Full image name, e.g. `migrator.local/ticker:1`.
        base: Installed Debian packages of the first layer, which all images with the same base share.
        packages: Installed Debian packages; what they depend on comes along.
        without: Packages not to follow, for leanness.
        files: Absolute path in the image to content; bytes that begin with `#!` and executable files get mode 0755.
        entrypoint: The command to run.
        env: Environment; a default PATH is added.
        workdir: Working directory.
        user: User the command runs as; root when empty.

    Raises:
        NotFound: `package_not_installed`.
    """
    out.mkdir(parents=True, exist_ok=True)
    installed = PackageSet(root)
    below = installed.closure(base, without)
    above = [package for package in installed.closure(packages, without) if package not in below]
    layers = [_package_layer(installed, out, closure) for closure in (below, above) if closure]
    if files:
        layers.append(_file_layer(out, files))
    system = installed.get("libc6").architecture  # Debian's words amd64 and arm64 are OCI's too
    config = {
        "architecture": system,
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": [f"{key}={value}" for key, value in sorted({"PATH": PATH, **(env or {})}.items())],
            "Entrypoint": list(entrypoint),
            "WorkingDir": workdir,
            "User": user,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    return _archive(out, name, config, layers)


def _package_layer(installed: PackageSet, out: Path, closure: Sequence[Package]) -> Layer:
    root = installed.root
    accounts = [path for path in ACCOUNTS if (root / path).is_file()]
    key = _key(
        [[package.name, package.version, package.architecture] for package in closure],
        [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in accounts],
    )

    def fill(archive: tarfile.TarFile) -> None:
        listed = {path for package in closure for path in installed.paths(package)}
        _add_tree(archive, root, {*SKELETON, *accounts, *listed})

    return _cached_layer(out, key, fill)


def _file_layer(out: Path, files: Mapping[str, bytes | Path]) -> Layer:
    contents = {path.strip("/"): _content(value) for path, value in files.items()}
    key = _key(sorted((path, mode, hashlib.sha256(data).hexdigest()) for path, (data, mode) in contents.items()))

    def fill(archive: tarfile.TarFile) -> None:
        directories = {str(parent) for path in contents for parent in Path(path).parents} - {"."}
        for path in sorted({*directories, *contents}):
            entry = _entry(path)
            if path in contents:
                data, entry.mode = contents[path]
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            else:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)

    return _cached_layer(out, key, fill)


def _content(value: bytes | Path) -> tuple[bytes, int]:
    if isinstance(value, Path):
        return value.read_bytes(), 0o755 if os.access(value, os.X_OK) else 0o644
    return value, 0o755 if value.startswith(b"#!") else 0o644


def _add_tree(archive: tarfile.TarFile, root: Path, paths: set[str]) -> None:
    """Add paths of the root and their parents, keeping links, modes and owners."""
    parents = {str(parent) for path in paths for parent in Path(path).parents} - {"."}
    first_of: dict[tuple[int, int], str] = {}
    for path in sorted(paths | parents):
        source = root / path
        if not (source.is_symlink() or source.exists()):
            continue
        info = source.lstat()
        entry = _entry(path)
        entry.mode, entry.uid, entry.gid = stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid
        if stat.S_ISLNK(info.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, str(source.readlink())
            archive.addfile(entry)
        elif stat.S_ISDIR(info.st_mode):
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        elif stat.S_ISREG(info.st_mode):
            _add_file(archive, entry, source, first_of)


def _add_file(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, source: Path, first_of: dict[tuple[int, int], str]
) -> None:
    info = source.stat()
    inode = (info.st_dev, info.st_ino)
    if info.st_nlink > 1 and inode in first_of:
        entry.type, entry.linkname = tarfile.LNKTYPE, first_of[inode]
        archive.addfile(entry)
        return
    first_of[inode] = entry.name
    entry.size = info.st_size
    with source.open("rb") as content:
        archive.addfile(entry, content)


def _entry(path: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mtime = EPOCH_S
    return entry


class _Sink(Protocol):
    def write(self, data: Any, /) -> int: ...


class _Digester(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, below: _Sink):
        self._below = below
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._hash.update(data)
        written = self._below.write(data)
        self.size_bytes += written
        return written

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _cached_layer(out: Path, key: str, fill: Callable[[tarfile.TarFile], None]) -> Layer:
    """Return the layer of that key; `fill` writes its tar if the cache has none."""
    note, blob = out / "layers" / f"{key}.json", out / "layers" / f"{key}.tar.gz"
    if note.is_file() and blob.is_file():
        return Layer(**json.loads(note.read_text()))
    note.parent.mkdir(exist_ok=True)
    with _replacing(blob) as file:
        outer = _Digester(file)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=outer, mtime=0) as packed:
            inner = _Digester(packed)
            with tarfile.open(fileobj=inner, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                fill(archive)
    layer = Layer(path=str(blob), digest=outer.digest, diff_id=inner.digest, size_bytes=outer.size_bytes)
    with _replacing(note) as file:
        file.write(json.dumps(asdict(layer)).encode())
    return layer


def _archive(out: Path, name: str, config: Mapping[str, Any], layers: Sequence[Layer]) -> Path:
    config_blob = _json(config)
    described = [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size_bytes} for layer in layers]
    manifest_blob = _json(
        {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _describe(_CONFIG, config_blob), "layers": described}
    )
    platform = {"architecture": config["architecture"], "os": "linux"}
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    target = {**_describe(_MANIFEST, manifest_blob), "platform": platform, "annotations": names}
    index_blob = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [target]})
    path = out / f"{name.split('/')[-1].replace(':', '-')}-{_key(index_blob.decode())}.tar"
    if path.is_file():
        return path
    with _replacing(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add_bytes(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add_bytes(archive, "index.json", index_blob)
        for blob in (manifest_blob, config_blob):
            _add_bytes(archive, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)
        for layer in {layer.digest: layer for layer in layers}.values():
            entry = _entry(f"blobs/sha256/{layer.digest.removeprefix('sha256:')}")
            entry.size = layer.size_bytes
            with Path(layer.path).open("rb") as content:
                archive.addfile(entry, content)
    return path


def _add_bytes(archive: tarfile.TarFile, path: str, data: bytes) -> None:
    entry = _entry(path)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _describe(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}", "size": len(blob)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([FORMAT, *parts]).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears only when it is whole, whoever else writes it at the same time."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
