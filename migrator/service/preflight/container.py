"""How the container was made: its runtime, its owner, its terminal, its namespaces and its mounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from migrator.models.preflight import Finding, Grade
from migrator.service.preflight.subject import Subject
from migrator.service.records import RUNC, VIRTUAL
from migrator.service.room import check_content_room, check_image_room
from migrator.service.volumes.declared import is_bind

NERDCTL = "nerdctl/"
"""What all labels of nerdctl's begin with."""


def check_runtime(subject: Subject) -> Iterator[Finding]:
    """Only runc's shim can be told where the images are; a container of Kubernetes belongs to its pod."""
    runtime = subject.container.runtime_name
    if runtime != RUNC:
        yield subject.refusal("runtime", "unsupported_runtime", f"uses the runtime {runtime}", f"use {RUNC}")
    if "io.cri-containerd.kind" in subject.container.labels:
        remedy = "move it by its pod's own means"
        yield subject.refusal("runtime", "cri_container", "belongs to Kubernetes", remedy)


def check_terminal(subject: Subject) -> Iterator[Finding]:
    """The other end of a terminal is a process outside."""
    if subject.task.stdio().terminal:
        yield subject.refusal("terminal", "terminal", "has a terminal", "start it without --tty")


def check_runtime_hooks(subject: Subject) -> Iterator[Finding]:
    """They would run again at the restore, on a host that lacks what they left on this one."""
    if subject.spec.get("hooks") and any(label.startswith(NERDCTL) for label in subject.container.labels):
        fault = "belongs to nerdctl, whose hook would connect it a second time on the target"
        yield subject.refusal("hooks", "nerdctl_container", fault, "start it by `ctr run --cni`, without nerdctl")
        return
    for stage, hooks in (subject.spec.get("hooks") or {}).items():
        for hook in hooks or []:
            fault = f"has a hook, which would run once more on the target ({stage}: {hook['path']})"
            yield subject.refusal("hooks", "runtime_hook", fault, "start it without hooks")


def check_namespaces(subject: Subject) -> Iterator[Finding]:
    """A namespace that somebody else made cannot be remade from the images."""
    namespaces = subject.spec.get("linux", {}).get("namespaces", [])
    for namespace in namespaces:
        if namespace.get("path") and namespace["type"] != "network":  # see `network`
            fault = f"joins a {namespace['type']} namespace made by somebody else ({namespace['path']})"
            yield subject.refusal("namespaces", "joined_namespace", fault, "start it with namespaces of its own")
    own = {namespace["type"] for namespace in namespaces}
    if "pid" not in own:
        remedy = "give it a pid namespace of its own"
        yield subject.refusal("namespaces", "host_pid_namespace", "shares the host's pids", remedy)
    if "mount" not in own:
        remedy = "give it a mount namespace of its own"
        yield subject.refusal("namespaces", "host_mount_namespace", "sees the host's mounts", remedy)
    if subject.spec.get("linux", {}).get("netDevices"):
        remedy = "connect it to a CNI network instead"
        yield subject.refusal("namespaces", "host_interface", "has got network interfaces of the host", remedy)


def check_mounts(subject: Subject) -> Iterator[Finding]:
    """What shows a disk or a directory of the host by other means than a bind mount cannot be declared."""
    for mount in subject.spec.get("mounts", []):
        if not is_bind(mount) and mount.get("type") not in VIRTUAL:
            fault = f"mounts a file system '{mount.get('type')}' at {mount['destination']}"
            yield subject.refusal("mounts", "unknown_mount", fault, "mount it on the host, and show it by a bind mount")


def check_destinations(subject: Subject) -> Iterator[Finding]:
    """CVE-2026-119101: below runc 1.3.7 a restore follows such destinations out of the container."""
    for mount in subject.spec.get("mounts", []):
        destination = str(mount["destination"])
        linked = any((subject.root / part.relative_to("/")).is_symlink() for part in _ways(destination))
        if linked or any(sign in destination for sign in "[]:\n"):
            fault = f"has a mount destination that is a link or holds one of []: ({destination})"
            yield subject.refusal("destinations", "odd_mount_destination", fault, "mount it at a plain path")


def check_room(subject: Subject) -> Iterator[Finding]:
    """The images must find room while they are uploaded, and so must the changed files.

    Raises:
        ResourceExhausted: `no_room`.
    """
    check_image_room(subject.host, subject.memory_bytes + subject.volume_bytes)
    check_content_room(subject.runtime, subject.changed_bytes)
    sizes = f"{subject.memory_bytes / 1e6:.1f} MB of memory and {subject.changed_bytes / 1e6:.1f} MB of changed files"
    yield Finding("room", Grade.PASS, sizes)


def _ways(destination: str) -> list[Path]:
    path = Path("/") / destination
    return [part for part in (path, *path.parents) if part != Path("/")]
