"""Which policy each bind mount of a container has: the job's word outranks the container's label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from migrator.models.volumes import VolumePolicy

LABEL = "io.migrator.volume"
"""A label of this and a destination, such as `io.migrator.volume/data`, holds its policy."""


@dataclass(frozen=True, slots=True)
class Bind:
    """A bind mount of a container's spec."""

    destination: str
    source: str


@dataclass(frozen=True, slots=True)
class Declared:
    """The policies of a container's bind mounts, and what is wrong with what was said."""

    policies: Mapping[Bind, VolumePolicy]
    undeclared: tuple[str, ...]
    """Destinations without a policy."""
    unknown: tuple[str, ...]
    """Destinations that the job names and the container has not."""
    bad_labels: tuple[str, ...]


def find_declared(spec: Mapping[str, Any], wanted: Mapping[str, VolumePolicy], labels: Mapping[str, str]) -> Declared:
    """Give each bind mount its policy.

    Args:
        spec: The OCI runtime spec.
        wanted: What the job says, by destination.
        labels: The container's labels.
    """
    binds = [
        Bind(clean(mount["destination"]), str(mount["source"])) for mount in spec.get("mounts", []) if is_bind(mount)
    ]
    labelled, bad = _labelled(labels)
    policies = {**labelled, **{clean(name): policy for name, policy in wanted.items()}}
    known = {bind.destination for bind in binds}
    return Declared(
        policies={bind: policies[bind.destination] for bind in binds if bind.destination in policies},
        undeclared=tuple(bind.destination for bind in binds if bind.destination not in policies),
        unknown=tuple(name for name in wanted if clean(name) not in known),
        bad_labels=bad,
    )


def is_bind(mount: Mapping[str, Any]) -> bool:
    """Whether a mount of a spec shows something of the host."""
    return mount.get("type") == "bind" or bool({"bind", "rbind"} & set(mount.get("options") or []))


def clean(path: str) -> str:
    """A path without doubled or trailing slashes."""
    return str(PurePosixPath("/", path.lstrip("/")))


def _labelled(labels: Mapping[str, str]) -> tuple[dict[str, VolumePolicy], tuple[str, ...]]:
    told = {name.removeprefix(LABEL): word for name, word in labels.items() if name.startswith(f"{LABEL}/")}
    words = set(VolumePolicy)
    good = {clean(name): VolumePolicy(word) for name, word in told.items() if word in words}
    return good, tuple(f"{LABEL}{name}={word}" for name, word in told.items() if word not in words)
