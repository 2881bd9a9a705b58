"""CRIU's configuration files: what stands there changes every dump and restore, whatever CRIU is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

RUNC_FILE = Path("/etc/criu/runc.conf")
FILES = ("/etc/criu/default.conf", str(RUNC_FILE))
"""The first is CRIU's own (criu(8), CONFIGURATION FILES), the second runc hands to it."""
GHOST_LIMIT_BYTES = 1 << 20
"""criu(8), --ghost-limit."""
SCALE = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def find_options(files: Sequence[str] = FILES) -> str:
    """Return every file that says something, with its options; empty when none does."""
    found = ((place, ", ".join(read_lines(Path(place)))) for place in _places(files))
    return "; ".join(f"{place}: {options}" for place, options in found if options)


def read_options(files: Sequence[str] = FILES) -> dict[str, str]:
    """Return every option with its last value, empty for one that has none; a later file outranks an earlier one."""
    return dict(_options(files))


def searched_directories(files: Sequence[str] = FILES) -> tuple[str, ...]:
    """Return where CRIU searches for watched files, beside the directories that it always searches."""
    return tuple(value for name, value in _options(files) if name == "irmap-scan-path")


def ghost_limit_bytes(files: Sequence[str] = FILES) -> int:
    """Return how much of a deleted file CRIU puts into its images here."""
    found = re.fullmatch(r"(\d+)([KMG]?)", read_options(files).get("ghost-limit", ""), re.IGNORECASE)
    return int(found[1]) * SCALE[found[2].upper()] if found else GHOST_LIMIT_BYTES


def write_options(file: Path, options: Iterable[str], below: Path = RUNC_FILE) -> None:
    """Write a configuration file for one run of CRIU: what another file says, then these options.

    A file that runc is told of by the annotation `org.criu.config` takes the place of its usual one.
    """
    file.write_text("".join(f"{line}\n" for line in (*read_lines(below), *options)))


def _places(files: Sequence[str]) -> list[str]:
    home = os.environ.get("HOME")
    return [files[0], *([f"{home}/.criu/default.conf"] if home else []), *files[1:]]


def _options(files: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in (line for place in _places(files) for line in read_lines(Path(place))):
        name, *value = re.split(r"[\s=]+", line, maxsplit=1)
        yield name.lstrip("-"), value[0] if value else ""


def read_lines(file: Path) -> list[str]:
    """Return the options of a configuration file as they stand there; none if it cannot be read."""
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text(errors="replace").splitlines()]
    except OSError:
        return []
    return [line for line in lines if line]
