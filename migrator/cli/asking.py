"""Ask the API, and show what it answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from migrator.cli.connection import Api


@contextmanager
def asking(address: str | None) -> Iterator[tuple[Api, Any]]:
    """Connect to the API; gives the services and the messages' module."""
    from migrator.cli.connection import connected
    from migrator.gen.migrator.v1 import migrator_pb2

    with connected(address) as server:
        yield server, migrator_pb2


def limit() -> float:
    """How long an ordinary call may take, in seconds."""
    from migrator.cli.connection import CALL_S

    return CALL_S


def show(data: Any, as_json: bool, render: Callable[[Any], None]) -> None:
    """Print JSON, or let `render` make it readable."""
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    else:
        render(data)


def tell(failure: dict[str, Any]) -> None:
    """Say on standard error what went wrong and what to do next."""
    place = f" (host {failure['host']})" if failure.get("host") else ""
    typer.secho(f"Error: {failure['message']}{place}", err=True, fg="red")
    if failure.get("remedy"):
        typer.echo(f"  → {failure['remedy']}", err=True)


def who() -> str:
    """Who asks, as far as this machine can tell."""
    import getpass
    import socket

    return f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
