"""Network namespaces and what is in them, by iproute2's `ip`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from migrator.errors import InternalError

ANSWER_S = 10.0
ANY = ("0.0.0.0", "::")


def own_addresses() -> frozenset[str]:
    """The addresses that a socket can be bound to on this host."""
    return frozenset(ANY) | {
        str(address["local"]) for link in links() for address in link["addr_info"] if "local" in address
    }


def links(namespace: Path | None = None) -> list[dict[str, Any]]:
    """Describe the interfaces of a network namespace (`/proc/PID/ns/net`), or of this host, as `ip -json address` does.

    Raises:
        InternalError: `network_failed`.
    """
    found: list[dict[str, Any]] = json.loads(ask(["ip", "-json", "-details", "address", "show"], namespace) or "[]")
    return [{"addr_info": [], **link} for link in found if link]


def ask(command: list[str], namespace: Path | None = None, text: str = "") -> str:
    """Run a program, in a network namespace if one is given, and return what it prints.

    Raises:
        InternalError: `network_failed`, with its last words.
    """
    inside = [*(["nsenter", f"--net={namespace}"] if namespace else []), *command]
    try:
        done = subprocess.run(inside, input=text, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise InternalError(f"`{' '.join(command)}` failed: {error}", code="network_failed") from error
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
        raise InternalError(f"`{' '.join(command)}` failed: {words}", code="network_failed")
    return done.stdout
