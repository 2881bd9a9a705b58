"""Images are made from what dpkg says is installed; a small made-up root stands for the lab's."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from migrator.errors import NotFound, PreconditionFailed
from migrator.lab.images import build_image

STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.42-1
Description: the C library
 Depends: nothing, this line only looks like a field

Package: shell
Status: install ok installed
Architecture: amd64
Version: 1.0
Pre-Depends: libc6 (>= 2.38)
Depends: missing-one | virtual-tool:any, libssl (>= 3)

Package: tool
Status: install ok installed
Architecture: amd64
Version: 2.0
Provides: virtual-tool (= 2.0), other
Depends: shell

Package: libssl
Status: install ok installed
Architecture: amd64
Version: 3.0

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""

LISTS = {
    "libc6:amd64": ["/.", "/lib", "/lib/libc.so", "/usr/share/doc/libc6/copyright"],  # listed by its old path
    "shell": ["/.", "/usr/bin", "/usr/bin/dash", "/usr/bin/sh", "/usr/bin/excluded-by-dpkg", "/usr/share/man/dash.1"],
    "tool": ["/usr/bin/tool", "/usr/bin/tool-again"],
    "libssl": ["/usr/lib/libssl.so"],
    "removed": [],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    info = root / "var/lib/dpkg/info"
    for directory in (info, root / "usr/lib", root / "usr/bin", root / "usr/share/man", root / "usr/share/doc/libc6"):
        directory.mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "bin").symlink_to("usr/bin")
    (root / "lib").symlink_to("usr/lib")
    (root / "usr/lib/libc.so").write_bytes(b"C library")
    (root / "usr/lib/libssl.so").write_bytes(b"TLS")
    (root / "usr/bin/dash").write_bytes(b"dash")
    (root / "usr/bin/dash").chmod(0o4755)
    (root / "usr/bin/sh").symlink_to("dash")
    (root / "usr/bin/tool").write_bytes(b"tool")
    (root / "usr/bin/tool-again").hardlink_to(root / "usr/bin/tool")
    (root / "usr/share/man/dash.1").write_text("manual")
    (root / "usr/share/doc/libc6/copyright").write_text("licence")
    (root / "var/lib/dpkg/status").write_text(STATUS)
    for name, paths in LISTS.items():
        (info / f"{name}.list").write_text("\n".join(paths) + "\n")
    return root


class Image:
    """An image archive, read back by the rules of the OCI image specification."""

    def __init__(self, path: Path):
        with tarfile.open(path) as archive:
            self.raw = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}  # type: ignore[union-attr]
        self.index = json.loads(self.raw["index.json"])
        self.target = self.index["manifests"][0]
        self.manifest = json.loads(self.blob(self.target))
        self.config = json.loads(self.blob(self.manifest["config"]))
        self.layers = [gzip.decompress(self.blob(layer)) for layer in self.manifest["layers"]]
        self.entries = {entry.name: (entry, data) for layer in self.layers for entry, data in _read(layer)}

    def blob(self, descriptor: dict[str, object]) -> bytes:
        kind, _, digest = str(descriptor["digest"]).partition(":")
        data = self.raw[f"blobs/{kind}/{digest}"]
        assert hashlib.sha256(data).hexdigest() == digest
        assert len(data) == descriptor["size"]
        return data


def _read(layer: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        return [(m, archive.extractfile(m).read() if m.isreg() else b"") for m in archive]  # type: ignore[union-attr]


def test_an_archive_is_whole_and_names_its_image(root: Path, tmp_path: Path) -> None:
    path = build_image(
        root,
        tmp_path / "out",
        name="migrator.local/demo:1",
        packages=["shell"],
        files={"/program": b"#!/bin/sh\n"},
        entrypoint=["/program", "64"],
        env={"LANG": "C"},
    )
    image = Image(path)
    assert json.loads(image.raw["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    assert image.target["annotations"]["io.containerd.image.name"] == "migrator.local/demo:1"
    assert image.config["architecture"] == "amd64"
    assert image.config["config"]["Entrypoint"] == ["/program", "64"]
    assert "LANG=C" in image.config["config"]["Env"]
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in image.layers]
    assert image.config["rootfs"]["diff_ids"] == diff_ids
    assert len(diff_ids) == 2
    assert image.entries["program"][0].mode == 0o755


def test_what_a_package_depends_on_comes_along(root: Path, tmp_path: Path) -> None:
    image = Image(build_image(root, tmp_path / "out", name="x:1", packages=["shell"]))
    assert {"usr/lib/libc.so", "usr/lib/libssl.so", "usr/bin/dash", "usr/bin/tool"} <= image.entries.keys()


def test_packages_named_in_without_are_not_followed(root: Path, tmp_path: Path) -> None:
    image = Image(build_image(root, tmp_path / "out", name="x:1", packages=["shell"], without=["libssl"]))
    assert "usr/lib/libssl.so" not in image.entries
    assert "usr/lib/libc.so" in image.entries


def test_links_modes_and_owners_are_kept_and_manuals_left_out(root: Path, tmp_path: Path) -> None:
    os.chown(root / "usr/bin/tool", os.getuid(), os.getgid())
    image = Image(build_image(root, tmp_path / "out", name="x:1", packages=["tool"]))
    entries = {name: entry for name, (entry, _) in image.entries.items()}
    assert (entries["bin"].issym(), entries["bin"].linkname) == (True, "usr/bin")
    assert (entries["usr/bin/sh"].issym(), entries["usr/bin/sh"].linkname) == (True, "dash")
    assert (entries["usr/bin/tool-again"].islnk(), entries["usr/bin/tool-again"].linkname) == (True, "usr/bin/tool")
    assert entries["usr/bin/dash"].mode == 0o4755
    assert entries["tmp"].mode == 0o1777
    assert entries["usr/bin/tool"].uid == os.getuid()
    assert not [name for name in entries if "man" in name or "doc" in name or name.startswith("lib/")]
    assert image.entries["etc/passwd"][1] == b"root:x:0:0::/root:/bin/sh\n"


def test_parents_come_before_children(root: Path, tmp_path: Path) -> None:
    image = Image(build_image(root, tmp_path / "out", name="x:1", packages=["tool"], files={"/a/b/c": b"d"}))
    seen: set[str] = set()
    for name in image.entries:
        assert str(Path(name).parent) in seen | {"."}
        seen.add(name)


def test_the_same_input_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    first = build_image(root, tmp_path / "one", name="x:1", packages=["shell"], files={"/f": b"1"})
    os.utime(root / "usr/bin/dash")
    second = build_image(root, tmp_path / "two", name="x:1", packages=["shell"], files={"/f": b"1"})
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_a_second_call_uses_the_cache_and_images_share_layers(root: Path, tmp_path: Path) -> None:
    first = build_image(root, tmp_path / "out", name="x:1", packages=["shell"], files={"/f": b"1"})
    written_ns = first.stat().st_mtime_ns
    assert build_image(root, tmp_path / "out", name="x:1", packages=["shell"], files={"/f": b"1"}) == first
    assert first.stat().st_mtime_ns == written_ns
    other = build_image(root, tmp_path / "out", name="x:1", packages=["shell"], files={"/f": b"2"})
    assert other != first
    assert Image(other).manifest["layers"][0] == Image(first).manifest["layers"][0]
    assert len(list((tmp_path / "out/layers").glob("*.tar.gz"))) == 3
    assert not list((tmp_path / "out").rglob(".*"))


def test_images_with_the_same_base_share_it_and_add_only_what_it_lacks(root: Path, tmp_path: Path) -> None:
    with_tool = Image(
        build_image(root, tmp_path / "out", name="one:1", base=["shell"], packages=["tool"], without=["tool"])
    )
    plain = Image(build_image(root, tmp_path / "out", name="two:1", base=["libssl"], packages=["libc6"]))
    more = Image(build_image(root, tmp_path / "out", name="three:1", base=["libssl"], packages=["libssl", "shell"]))
    assert len(with_tool.layers) == 1, "nothing is left to add"
    assert plain.manifest["layers"][0] == more.manifest["layers"][0]
    added = [entry.name for entry, _ in _read(more.layers[1])]
    assert "usr/bin/dash" in added
    assert "usr/lib/libssl.so" not in added


def test_a_new_version_of_a_package_makes_a_new_layer(root: Path, tmp_path: Path) -> None:
    first = build_image(root, tmp_path / "out", name="x:1", packages=["shell"])
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("Version: 3.0", "Version: 3.1"))
    (root / "usr/lib/libssl.so").write_bytes(b"newer TLS")
    second = build_image(root, tmp_path / "out", name="x:1", packages=["shell"])
    assert Image(second).entries["usr/lib/libssl.so"][1] == b"newer TLS"
    assert second != first


@pytest.mark.parametrize("name", ["absent", "removed"])
def test_a_package_that_is_not_installed_is_named(root: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound, match=f"'{name}'") as caught:
        build_image(root, tmp_path / "out", name="x:1", packages=[name])
    assert caught.value.code == "package_not_installed"
    assert caught.value.remedy


def test_a_directory_without_dpkg_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed, match="no installed Debian packages"):
        build_image(tmp_path, tmp_path / "out", name="x:1", packages=["shell"])
