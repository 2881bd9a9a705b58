"""Bind mounts of a container and what becomes of each when the container moves. No I/O here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from migrator.errors import IntegrityError

VOLUME_ROLE = "volume-"
"""The role of the part that holds a copied volume is this and a number."""


class VolumePolicy(StrEnum):
    """What becomes of a bind mount."""

    SHARED = "shared"
    """The target has it already, at the same path; it is left alone."""
    COPY = "copy"
    """Its content travels in the checkpoint."""
    EMPTY = "empty"
    """The target makes an empty one."""


class VolumeKind(StrEnum):
    """What a bind mount shows."""

    DIRECTORY = "directory"
    FILE = "file"
    OTHER = "other"
    """A socket, a device or a FIFO: it can only be shared."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One bind mount."""

    destination: str
    """Where the container sees it."""
    source: str
    """Where its host has it."""
    policy: VolumePolicy
    kind: VolumeKind
    mode: int = 0
    """Permission bits and owner of its top on the source."""
    uid: int = 0
    gid: int = 0
    size_bytes: int = 0
    """What a copied one occupied on the source's disk before the freeze."""
    role: str = ""
    """The part of the checkpoint that holds a copied one."""

    def to_facts(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def read_volumes(facts: Any) -> tuple[Volume, ...]:
    """Read what `Volume.to_facts` wrote, or a stranger.

    Raises:
        IntegrityError: `bad_volumes`.
    """
    try:
        return tuple(_read(item) for item in facts)
    except (TypeError, ValueError, KeyError) as error:
        raise IntegrityError(f"the volumes of the checkpoint are malformed: {error}", code="bad_volumes") from error


def made_on_target(volumes: Iterable[Volume]) -> tuple[Volume, ...]:
    """The volumes that a restore has to make, each source once."""
    return tuple({item.source: item for item in volumes if item.policy is not VolumePolicy.SHARED}.values())


def relocated(volumes: Iterable[Volume], place: str) -> tuple[Volume, ...]:
    """The volumes with those that a restore makes below another directory; each keeps its own path below it."""
    return tuple(
        item
        if item.policy is VolumePolicy.SHARED or not place
        else replace(item, source=f"{place.rstrip('/')}{item.source}")
        for item in volumes
    )


def _read(item: dict[str, Any]) -> Volume:
    return Volume(
        destination=_path(item["destination"]),
        source=_path(item["source"]),
        policy=VolumePolicy(item["policy"]),
        kind=VolumeKind(item["kind"]),
        mode=int(item.get("mode", 0)),
        uid=int(item.get("uid", 0)),
        gid=int(item.get("gid", 0)),
        size_bytes=int(item.get("size_bytes", 0)),
        role=str(item.get("role", "")),
    )


def _path(value: Any) -> str:
    path = str(value)
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no plain path")
    return path
