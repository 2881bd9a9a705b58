"""Find CRIU on this host and judge its version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from migrator.errors import PreconditionFailed

OLDEST = (3, 17)
OLDEST_FOR_NEW_KERNELS = (4, 2)
NEW_KERNEL = (6, 16)
"""From this kernel on inet sockets refuse SO_PASSCRED and SO_PASSSEC; CRIU copes since 4.2."""
ANSWER_S = 5.0
INSTALL = "install CRIU 4.2 or newer (Debian package criu)"


@dataclass(frozen=True, slots=True)
class Criu:
    """CRIU as found on this host."""

    path: str
    version: str


def find_criu(program: str) -> Criu:
    """Find CRIU and check that it suits this kernel.

    Args:
        program: Its name on the PATH, or its path.

    Raises:
        PreconditionFailed: `criu_missing`, `criu_broken` or `criu_too_old`.
    """
    path = shutil.which(program)
    if path is None:
        raise PreconditionFailed(f"CRIU is not installed ('{program}' not found)", code="criu_missing", remedy=INSTALL)
    text = _ask_version(path)
    numbers = parse_version(text)
    oldest = oldest_for(os.uname().release)
    if numbers < oldest:
        wanted = ".".join(map(str, oldest))
        raise PreconditionFailed(
            f"CRIU {text} is too old for kernel {os.uname().release}: {wanted} or newer is needed",
            code="criu_too_old",
            remedy=INSTALL,
        )
    return Criu(path, text)


def check_kernel(program: str) -> str:
    """Ask CRIU whether this kernel has all it needs; return its first complaint, empty when there is none."""
    try:
        done = subprocess.run([program, "check"], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"CRIU does not run: {error}"
    if done.returncode == 0:
        return ""
    return next(iter((done.stderr + done.stdout).strip().splitlines()), f"status {done.returncode}")


def parse_version(text: str) -> tuple[int, ...]:
    """Turn `4.2.1` or `4.2-rc1` into numbers that compare; () when there is none."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def oldest_for(kernel_release: str) -> tuple[int, int]:
    """Return the oldest CRIU that works on a kernel."""
    return OLDEST_FOR_NEW_KERNELS if parse_version(kernel_release)[:2] >= NEW_KERNEL else OLDEST


def _ask_version(path: str) -> str:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise PreconditionFailed(f"CRIU at {path} does not run: {error}", code="criu_broken", remedy=INSTALL) from error
    found = re.search(r"Version:\s*(\S+)", answer.stdout)
    if found is None:
        raise PreconditionFailed(f"CRIU at {path} does not tell its version", code="criu_broken", remedy=INSTALL)
    return found.group(1)
