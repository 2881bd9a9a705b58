"""Debian packages as they lie installed in a root file system: which files belong to them and what they depend on.

Reads dpkg's own records (deb822 in `var/lib/dpkg/status`, one list of paths a package in `var/lib/dpkg/info`); runs
nothing, downloads nothing, enters nothing.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.errors import NotFound, PreconditionFailed

INSTALLED = "\nStatus: install ok installed"
LEFT_OUT = (
    "usr/share/doc*",
    "usr/share/man*",
    "usr/share/locale*",
    "usr/share/info*",
    "usr/share/lintian*",
    "usr/share/bash-completion*",
    "usr/share/gcc*",
    "usr/share/gdb*",
    "usr/share/menu*",
    "usr/lib/systemd*",
    "usr/lib/binfmt.d*",
    "usr/share/binfmts*",
    "usr/lib/*/gconv*",
    "etc/init.d*",
    "etc/default*",
    "etc/logrotate.d*",
    "*/__pycache__*",
)
"""What no container needs to run."""


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package."""

    name: str
    version: str
    architecture: str
    depends: tuple[tuple[str, ...], ...]
    """Each entry is one need; any of its names satisfies it."""
    provides: tuple[str, ...]


class PackageSet:
    """The packages installed in a root file system.

    Args:
        root: The root file system; only read.

    Raises:
        PreconditionFailed: `no_dpkg`, the directory holds no Debian system.
    """

    def __init__(self, root: Path):
        self.root = root.resolve()
        status = self.root / "var/lib/dpkg/status"
        if not status.is_file():
            raise PreconditionFailed(
                f"{root} holds no installed Debian packages",
                code="no_dpkg",
                remedy="build the lab's root file system first",
            )
        found = [_parse(stanza) for stanza in status.read_text().split("\n\n") if INSTALLED in stanza]
        self._by_name = {package.name: package for package in found}
        self._provided = {name: package for package in found for name in package.provides}

    def get(self, name: str) -> Package:
        """Return an installed package by name.

        Raises:
            NotFound: `package_not_installed`.
        """
        package = self._find(name)
        if package is None:
            raise NotFound(
                f"package '{name}' is not installed in {self.root}",
                code="package_not_installed",
                remedy="add it to the packages of the lab's root file system and build that again",
            )
        return package

    def closure(self, names: Sequence[str], without: Collection[str] = ()) -> list[Package]:
        """Return the packages and everything they depend on, sorted by name; `without` is not followed."""
        due = [self.get(name) for name in names]
        found: dict[str, Package] = {}
        while due:
            package = due.pop()
            if package.name in found or package.name in without:
                continue
            found[package.name] = package
            due += [need for need in map(self._satisfy, package.depends) if need]
        return [found[name] for name in sorted(found)]

    def paths(self, package: Package) -> Iterator[str]:
        """Yield the paths of a package's files that exist, relative to the root, directory links resolved.

        Docs, man pages and the like are left out.
        """
        for line in self._list_file(package).read_text().splitlines():
            path = self._canonical(line.strip("/"))
            if path and not any(fnmatch.fnmatchcase(path, pattern) for pattern in LEFT_OUT):
                yield path

    def _canonical(self, path: str) -> str | None:
        """Say where a listed path really lies: dpkg may list `lib/x` for what is `usr/lib/x` on a merged system."""
        given = self.root / path
        parent = given.parent.resolve()
        real = parent / given.name
        if path in ("", ".") or not parent.is_relative_to(self.root) or not (real.is_symlink() or real.exists()):
            return None
        return str(real.relative_to(self.root))

    def _list_file(self, package: Package) -> Path:
        info = self.root / "var/lib/dpkg/info"
        shared = info / f"{package.name}:{package.architecture}.list"  # Multi-Arch: same
        return shared if shared.is_file() else info / f"{package.name}.list"

    def _satisfy(self, alternatives: tuple[str, ...]) -> Package | None:
        return next((found for found in map(self._find, alternatives) if found), None)

    def _find(self, name: str) -> Package | None:
        return self._by_name.get(name) or self._provided.get(name)


def _parse(stanza: str) -> Package:
    fields: dict[str, str] = {}
    for line in stanza.splitlines():
        key, colon, value = line.partition(":")
        if colon and not line.startswith((" ", "\t")):
            fields[key] = value.strip()
    needs = _relations(fields.get("Pre-Depends", "")) + _relations(fields.get("Depends", ""))
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        depends=needs,
        provides=tuple(name for group in _relations(fields.get("Provides", "")) for name in group),
    )


def _relations(text: str) -> tuple[tuple[str, ...], ...]:
    """Read `a (>= 1) | b:any, c` as (("a", "b"), ("c",)): versions are dpkg's business, it has checked them."""
    groups = (part.split("|") for part in text.split(",") if part.strip())
    return tuple(tuple(name.split("(")[0].split(":")[0].strip() for name in group) for group in groups)
