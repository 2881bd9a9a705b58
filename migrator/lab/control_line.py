"""Speaks with a host's init over its unix socket, through the host's root directory."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from migrator.errors import InternalError, Unavailable

TIMEOUT_S = 10.0


def ask_init(root: Path, host: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request to the init of the host whose root directory is `root`; return its answer.

    Raises:
        Unavailable: Init does not answer: the host is not up.
        InternalError: Init refused the request.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(root / "run/lab/init.sock"))
            connection.sendall((json.dumps(request) + "\n").encode())
            with connection.makefile() as stream:
                line = stream.readline()
        except OSError as error:
            raise Unavailable(
                f"the init of lab host {host} does not answer: {error}",
                code="lab_host_down",
                remedy="run `migrator lab up` again",
            ) from error
    answer: dict[str, Any] = json.loads(line or '{"error": "init closed the connection"}')
    if "error" in answer:
        raise InternalError(f"init of lab host {host}: {answer['error']}", code="lab_init_refused")
    return answer
