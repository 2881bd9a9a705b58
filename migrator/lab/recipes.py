"""Which image each of the lab's programs needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from migrator.lab.images import build_image
from migrator.lab.programs import read_program
from migrator.lab.rootfs import CACHE_DIR

IMAGES_DIR = CACHE_DIR / "images"


def python_image(
    root: Path,
    program: str,
    *arguments: str,
    name: str | None = None,
    files: Mapping[str, bytes] | None = None,
    out: Path = IMAGES_DIR,
) -> Path:
    """Make the image of a Python program of ours, about 7 MB; Python's core modules only, no OpenSSL."""
    return build_image(
        root,
        out,
        name=f"migrator.local/{name or Path(program).stem}:1",
        packages=["python3-minimal"],
        without=["libssl3t64"],
        files={f"/opt/{program}": read_program(program), **(files or {})},
        entrypoint=["/usr/bin/python3", "-B", f"/opt/{program}", *arguments],
    )


def shell_image(root: Path, program: str, *, out: Path = IMAGES_DIR) -> Path:
    """Make the image of a shell script of ours, about 6 MB: dash and coreutils."""
    return build_image(
        root,
        out,
        name=f"migrator.local/{Path(program).stem}:1",
        packages=["dash", "coreutils"],
        without=["libssl3t64", "libsystemd0", "libgmp10"],
        files={f"/opt/{program}": read_program(program)},
        entrypoint=[f"/opt/{program}"],
    )


def redis_image(root: Path, *, out: Path = IMAGES_DIR) -> Path:
    """Make an image of redis-server that keeps everything in memory only, with our scripts beside it; about 15 MB."""
    scripts = ("redis_fill.lua", "redis_check.lua")
    return build_image(
        root,
        out,
        name="migrator.local/redis:1",
        packages=["redis-server", "redis-tools"],
        without=["adduser"],
        files={f"/opt/{script}": read_program(script) for script in scripts},
        entrypoint=["/usr/bin/redis-server", "--save", "", "--appendonly", "no", "--dir", "/tmp"],
    )
