"""containerd's restart monitor keeps its hands off a container while a job works on it.

It looks every ten seconds. To it a task whose shim is busy with CRIU, or one that is about to be removed or restored,
has failed: it would kill what is there and start the program anew, beside the copy on the other host.
"""

from __future__ import annotations

from dataclasses import replace

from migrator.containerd import Container, ContainerdClient
from migrator.containerd.values import Labels
from migrator.errors import NotFound

WANTED = "containerd.io/restart.status"
"""The monitor looks at containers with this label and at no others."""
ASIDE = "io.migrator.restart.status"
"""Where it is kept meanwhile."""


def without_restart(labels: Labels) -> dict[str, str]:
    """Labels that the monitor passes over."""
    return _moved(labels, WANTED, ASIDE)


def with_restart(labels: Labels) -> dict[str, str]:
    """The labels as they were."""
    return _moved(labels, ASIDE, WANTED)


def stop_restarts(runtime: ContainerdClient, name: str) -> None:
    """Put a container's wish aside, if it has one; may be repeated.

    Raises:
        NotFound: `container_not_found`.
    """
    container = runtime.containers.get(name)
    _relabel(runtime, container, without_restart(container.labels))


def allow_restarts(runtime: ContainerdClient, name: str) -> None:
    """Put it back; a container that is gone needs nothing."""
    try:
        container = runtime.containers.get(name)
        _relabel(runtime, container, with_restart(container.labels))
    except NotFound:
        return


def _relabel(runtime: ContainerdClient, container: Container, labels: dict[str, str]) -> None:
    if labels != container.labels:
        runtime.containers.update(replace(container, labels=labels), "labels")


def _moved(labels: Labels, old: str, new: str) -> dict[str, str]:
    return {new if name == old else name: value for name, value in labels.items()}
