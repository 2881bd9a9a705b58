"""Where a task's output goes, in the words of containerd's shims. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from migrator.errors import IntegrityError

OUTPUTS = ("stdout", "stderr")
"""Also the roles of the parts that hold what was written into log files before."""


def read_stdio(told: Any) -> dict[str, Any]:
    """Read what a checkpoint says of a task's streams; nothing when it says nothing. It is not trusted.

    Raises:
        IntegrityError: `bad_stdio`.
    """
    if told is None:
        return {}
    try:
        if not isinstance(told, dict):
            raise TypeError("no object")  # noqa: TRY301
        for name in ("stdin", *OUTPUTS):
            urlsplit(str(told.get(name) or ""))
    except (TypeError, ValueError) as error:
        raise IntegrityError(f"the checkpoint tells of malformed streams ({error})", code="bad_stdio") from error
    return told


def log_files(stdio: Mapping[str, Any]) -> dict[str, str]:
    """The log files of a task, each once, by the output that names it first."""
    found: dict[str, str] = {}
    for name in OUTPUTS:
        path = _path(stdio, name, "file")
        if path and path not in found.values():
            found[name] = path
    return found


def log_programs(stdio: Mapping[str, Any]) -> list[str]:
    """The log programs of a task, each once."""
    return sorted({path for name in OUTPUTS if (path := _path(stdio, name, "binary"))})


def fifos(stdio: Mapping[str, Any]) -> list[str]:
    """The FIFOs of a task, whose other ends are processes of its host."""
    names = [str(stdio.get(name) or "") for name in ("stdin", *OUTPUTS)]
    return [name for name in names if name.startswith("/") and name != "/dev/null"]


def _path(stdio: Mapping[str, Any], name: str, scheme: str) -> str:
    uri = urlsplit(str(stdio.get(name) or ""))
    return unquote(uri.path) if uri.scheme == scheme else ""
