"""CRIU's configuration files: what stands there changes every dump and restore, whatever CRIU is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

RUNC_FILE = Path("/etc/criu/runc.conf")
FILES = ("/etc/criu/default.conf", str(RUNC_FILE))
"""The first is CRIU's own (criu(8), CONFIGURATION FILES), the second runc hands to it."""


def find_options(files: Sequence[str] = FILES) -> str:
    """Return every file that says something, with its options; empty when none does."""
    return "; ".join(f"{place}: {', '.join(lines)}" for place in _places(files) if (lines := _lines(Path(place))))


def option_names(files: Sequence[str] = FILES) -> Iterator[tuple[str, frozenset[str]]]:
    """Give every file that says something, with the names of its options."""
    for place in _places(files):
        if lines := _lines(Path(place)):
            yield place, frozenset(line.split()[0].removeprefix("--") for line in lines)


def write_options(file: Path, options: Iterable[str], below: Path = RUNC_FILE) -> None:
    """Write a configuration file for one run of CRIU: what another file says, then these options.

    A file that runc is told of by the annotation `org.criu.config` takes the place of its usual one.
    """
    file.write_text("".join(f"{line}\n" for line in (*_lines(below), *options)))


def _places(files: Sequence[str]) -> list[str]:
    home = os.environ.get("HOME")
    return [*files, *([f"{home}/.criu/default.conf"] if home else [])]


def _lines(file: Path) -> list[str]:
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text(errors="replace").splitlines()]
    except OSError:
        return []
    return [line for line in lines if line]
