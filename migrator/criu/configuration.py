"""CRIU's configuration files: what stands there changes every dump and restore, whatever CRIU is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

FILES = ("/etc/criu/default.conf", "/etc/criu/runc.conf")
"""The first is CRIU's own (criu(8), CONFIGURATION FILES), the second runc hands to it."""


def find_options(files: Sequence[str] = FILES) -> str:
    """Return every file that says something, with its options; empty when none does."""
    home = os.environ.get("HOME")
    places = [*files, *([f"{home}/.criu/default.conf"] if home else [])]
    return "; ".join(f"{place}: {options}" for place in places if (options := _options(Path(place))))


def _options(file: Path) -> str:
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text(errors="replace").splitlines()]
    except OSError:
        return ""
    return ", ".join(line for line in lines if line)
