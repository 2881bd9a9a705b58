"""What answers are printed on: within the width of a terminal, or one row a line for another program."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

FOLDED = (
    "CONTAINER",
    "TARGET",
    "REASON",
    "WHEN",
    "NAMESPACE",
    "IMAGE",
    "FROM",
    "CONTAINERD",
    "KERNEL",
    "REASONS",
    "FILE",
    "MOUNT",
    "WORKLOAD",
)
"""Columns that may be longer than a terminal is wide: they go on in the next line, so that nothing is cut off."""
RIGHT = ("MS", "SIZE", "MEMORY", "CHECKPOINTS", "STORED", "OWN", "SHARED", "CHANGED", "NEW", "GONE", "FRESH")
PIPE_COLUMNS = 1000


def size(size_bytes: float) -> str:
    """A number of bytes for people, in powers of ten."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def open_console() -> Console:
    """Where answers are printed. No markup: what is printed comes from elsewhere, and brackets in it mean nothing."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def open_table(*headings: str) -> Table:
    """A table without lines."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in RIGHT else "left",
            overflow="fold",
            no_wrap=heading not in FOLDED,
        )
    return table
