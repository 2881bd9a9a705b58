"""What a parser is, to be fuzzed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from migrator.errors import IntegrityError, MigratorError

Read = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Target:
    """A parser, what it is tried with, and what it may raise."""

    name: str
    read: Read
    data: st.SearchStrategy[bytes]
    kinds: tuple[type[MigratorError], ...] = (IntegrityError,)
    wide: bool = False
    """It starts a program for every try: less of them."""
