"""A second root file system, that only workloads' images are made from: the lab's own stays as small as it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from migrator.lab.rootfs import Recipe, ensure_root

PROGRAMS = Recipe(
    packages=(
        "curl",
        "ecj",
        "memcached",
        "nginx-light",
        "nodejs",
        "openjdk-21-jre-headless",
        "openssh-client",
        "openssh-server",
        "postgresql",
        "python3",
        "python3-websockets",
        "redis-server",
    ),
    python=(),
)


@cache
def program_root() -> Path:
    """Where the programs lie installed; built on first use, which takes about a minute."""
    return ensure_root(recipe=PROGRAMS)
