"""Every command of the command line, found by walking it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from migrator.__main__ import app


def _walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from _walk(child, (*path, name))
    if path and not getattr(command, "commands", {}):
        yield path, command


COMMANDS: dict[tuple[str, ...], Any] = dict(_walk(typer.main.get_command(app)))
