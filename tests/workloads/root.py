"""A second root file system, that only workloads' images are made from: the lab's own stays as small as it is."""

from __future__ import annotations

from pathlib import Path

from migrator.lab.rootfs import Progress, Recipe, ensure_root, silent

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


def program_root(progress: Progress = silent) -> Path:
    """Where the programs lie installed; built on first use, which takes about a minute."""
    return ensure_root(progress, PROGRAMS)
