"""What a checkpoint's record of its container asks of the host that restores it.

A checkpoint is written by others and is not trusted: what it says becomes a container, by a runtime that is root's.
What no source would have let through is refused; what names programs or files of its source is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from migrator.containerd import Container, RuncOptions, pack_message
from migrator.errors import IntegrityError
from migrator.models.preflight import Finding, Grade
from migrator.service.volumes.declared import clean, is_bind

CHECK = "record"
RUNC = "io.containerd.runc.v2"
"""Only runc's shim can be told where the images are."""
VIRTUAL = frozenset({"cgroup", "cgroup2", "devpts", "hugetlbfs", "mqueue", "proc", "sysfs", "tmpfs"})
"""Kinds of file systems that show nothing of a host's disks."""
REMEDY = "no checkpoint that migrator makes asks for this: find out who wrote it, and take a new one"
CONFIG_ANNOTATION = "org.criu.config"
"""Of a container's spec: runc hands the file that it names to CRIU, which may name programs to run; one that is gone is
passed over."""
HOSTS_OWN = ("binary_name", "root", "criu_image_path", "criu_work_path", "shim_cgroup", "task_api_address")
"""Of the runtime's options: programs and places of the host that the container came from."""
Spec = dict[str, Any]


def judge_record(container: Container, volumes: Collection[str], namespace_path: str) -> Iterator[Finding]:
    """Say what cannot be granted, and what is not taken over.

    Args:
        container: As the checkpoint has it.
        volumes: The destinations of the bind mounts that the checkpoint declares.
        namespace_path: Where the host makes a network namespace for it; empty if it gets one of its own.

    Raises:
        IntegrityError: `bad_spec`.
    """
    spec = container.spec_json()
    if container.runtime_name != RUNC:
        yield _refusal("unsupported_runtime", f"wants the runtime {container.runtime_name!r}")
    for stage, hooks in (spec.get("hooks") or {}).items():
        if hooks:
            yield _refusal("runtime_hook", f"names programs that would run as root on this host (hooks, {stage})")
    yield from _judge_mounts(spec, volumes)
    yield from _judge_namespaces(spec, namespace_path)
    if left_out := [*_foreign_options(container), *_foreign_annotations(spec)]:
        message = f"the checkpoint names what only its source had, which is left out: {', '.join(left_out)}"
        yield Finding(CHECK, Grade.WARN, message, "left_out", "set it on this host, if the container needs it")


def without_foreign(container: Container) -> Container:
    """The record without what names programs or files of the host that it came from."""
    spec = container.spec_json()
    if CONFIG_ANNOTATION in (spec.get("annotations") or {}):
        kept = {name: value for name, value in spec["annotations"].items() if name != CONFIG_ANNOTATION}
        container = replace(container, spec=Container.pack_spec({**spec, "annotations": kept}))
    if not _foreign_options(container):
        return container
    options = _options(container)
    for name in HOSTS_OWN:
        setattr(options, name, "")
    return replace(container, runtime_options=pack_message(options))


def _judge_mounts(spec: Spec, volumes: Collection[str]) -> Iterator[Finding]:
    for mount in _dicts(spec.get("mounts")):
        place, kind = str(mount.get("destination", "")), str(mount.get("type", ""))
        _check_words(mount.get("options"))
        if is_bind(mount):
            if clean(place) not in volumes:
                told = f"shows {mount.get('source')!r} of this host at {place!r}, and declares no such volume"
                yield _refusal("bind_mounts", told)
        elif kind not in VIRTUAL:
            yield _refusal("unknown_mount", f"mounts a file system {kind!r} at {place!r}")


def _judge_namespaces(spec: Spec, namespace_path: str) -> Iterator[Finding]:
    linux = spec.get("linux") or {}
    namespaces = _dicts(linux.get("namespaces"))
    for each in namespaces:
        kind, path = each.get("type"), each.get("path")
        if path and (kind, path) != ("network", namespace_path):
            yield _refusal("joined_namespace", f"joins a {kind} namespace of this host ({path})")
    for kind in {"mount", "pid"} - {str(each.get("type")) for each in namespaces}:
        yield _refusal("joined_namespace", f"has no {kind} namespace of its own")
    if linux.get("netDevices"):
        yield _refusal("host_interface", "takes network interfaces of this host")


def _foreign_options(container: Container) -> list[str]:
    options = _options(container)
    return [name for name in HOSTS_OWN if getattr(options, name)]


def _foreign_annotations(spec: Spec) -> list[str]:
    return [CONFIG_ANNOTATION] if CONFIG_ANNOTATION in (spec.get("annotations") or {}) else []


def _options(container: Container) -> RuncOptions:
    return RuncOptions.FromString(container.runtime_options.value if container.runtime_options else b"")


def _dicts(found: Any) -> list[dict[str, Any]]:
    items = found or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _malformed()
    return items


def _check_words(found: Any) -> None:
    words = found or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _malformed()


def _malformed() -> IntegrityError:
    return IntegrityError("the checkpoint's container has a malformed spec", code="bad_spec")


def _refusal(code: str, told: str) -> Finding:
    return Finding(CHECK, Grade.FAIL, f"the container of the checkpoint {told}", code, REMEDY)
