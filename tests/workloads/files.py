"""About 100 MB of changed files: created, changed, deleted, replaced, linked, owned, marked."""

import hashlib
import os
import stat
from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Running, State, Workload

CAPABILITY = "security.capability"
BASE = {
    "/data/base/keep": b"kept\n",
    "/data/base/change": b"not changed yet\n",
    "/data/base/delete": b"to be deleted\n",
    "/data/opaque/a": b"a\n",
    "/data/opaque/b": b"b\n",
}


class Files(Workload):
    name = "files"

    def image(self, root: Path) -> Path:
        return python_image(root, "files.py", files=BASE)

    def look(self, container: Running) -> State:
        state = container.state()
        state["files"] = describe_tree(container.root / "data")
        return state

    def check(self, before: State, container: Running) -> State:
        after = super().check(before, container)
        after["files"] = describe_tree(container.root / "data")
        differ = sorted(after["files"].keys() ^ before["files"].keys())
        assert not differ, f"lost or come back: {', '.join(differ)}"
        changed = {
            path: (was, after["files"][path]) for path, was in before["files"].items() if after["files"][path] != was
        }
        assert not changed
        assert "base/delete" not in after["files"]
        assert [path for path in after["files"] if path.startswith("opaque/")] == ["opaque/c"]
        numbers = (container.root / "state/journal").read_text().split()
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)], "the journal has a hole"
        return after


def describe_tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Say of each path below: kind and mode, owner, what it holds, its other names, its marks, its time."""
    found: dict[str, tuple[object, ...]] = {}
    names_of: dict[int, list[str]] = {}
    paths = sorted(top.rglob("*"))
    for path in paths:
        names_of.setdefault(path.lstat().st_ino, []).append(str(path.relative_to(top)))
    for path in paths:
        info = path.lstat()
        holds = _content(path, info.st_mode)
        others = tuple(names_of[info.st_ino]) if stat.S_ISREG(info.st_mode) else ()
        time_s = int(info.st_mtime) if stat.S_ISREG(info.st_mode) else 0
        found[str(path.relative_to(top))] = (
            info.st_mode,
            info.st_uid,
            info.st_gid,
            holds,
            others,
            _marks(path),
            time_s,
        )
    return found


def _content(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""


def _marks(path: Path) -> bytes:
    """The file's capabilities, the one extended attribute that a layer made by containerd carries."""
    names = os.listxattr(path, follow_symlinks=False)
    return os.getxattr(path, CAPABILITY, follow_symlinks=False) if CAPABILITY in names else b""


WORKLOAD = Files()
