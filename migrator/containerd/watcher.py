"""The process that resumes a frozen task when the one who froze it dies: `python -m migrator.containerd.watcher`.

It reads its standard input. `done` means that all is well; an end without it means that the other side is dead.
"""

from __future__ import annotations

import os
import select
import sys

from migrator.containerd.client import ContainerdClient
from migrator.containerd.freeze import thaw
from migrator.containerd.task import Task
from migrator.errors import MigratorError

PARENT_CHECK_MS = 200


def watch(socket: str, namespace: str, container_id: str) -> int:
    """Wait for the word or the end; return the exit status."""
    client = ContainerdClient(socket, namespace)
    client.version()  # the connection must stand before it is needed
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if _all_is_well():
        return 0
    task = Task(client, container_id, "")
    try:
        thaw(task)
    except MigratorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _all_is_well() -> bool:
    """Wait for the word. A fork of the other side may hold the pipe open, so its own death counts too."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while os.getppid() == parent:
        if poll.poll(PARENT_CHECK_MS):
            return os.read(0, 64).strip() == b"done"
    return False


if __name__ == "__main__":
    sys.exit(watch(*sys.argv[1:]))
