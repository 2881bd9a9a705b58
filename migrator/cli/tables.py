"""What tables are made of, and amounts in words for people."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

FOLDED = ("CONTAINER", "NAMESPACE", "IMAGE", "FROM", "CONTAINERD", "KERNEL", "REASONS")
"""Columns that may be longer than a terminal is wide: they go on in the next line, so that nothing is cut off."""
RIGHT = ("MS", "SIZE", "MEMORY", "OBJECTS", "BYTES")
PIPE_COLUMNS = 1000


def open_console() -> Console:
    """No markup: what is printed comes from elsewhere, and brackets in it mean nothing."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def table(*headings: str) -> Table:
    """A table within the width of a terminal."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(
            heading,
            justify="right" if heading in RIGHT else "left",
            overflow="fold",
            no_wrap=heading not in FOLDED,
        )
    return made


def size(size_bytes: float) -> str:
    """A number of bytes for people, in powers of ten."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def age(moment: str | None) -> str:
    """How long ago a moment was."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"
