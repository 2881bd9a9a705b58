"""A counting container, driven by `ctr` alone: what the lab's own tests watch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from migrator.lab.host import Host

IMAGE = "migrator.local/counter:1"


def ctr(host: Host, *arguments: str, timeout_s: float = 60) -> str:
    done = host.exec(["ctr", *arguments], timeout_s=timeout_s)
    assert done.returncode == 0, f"ctr {' '.join(arguments)} on {host.name}: {done.stderr}"
    return done.stdout


def start_counter(host: Host, image: Path, container: str) -> int:
    """Start a counter and return its process id once it counts."""
    host.import_image(image)
    ctr(host, "run", "-d", IMAGE, container)
    pid = task_pid(host, container)
    eventually(lambda: read_count(pid)[1] > 2)
    return pid


def task_pid(host: Host, container: str) -> int:
    for line in ctr(host, "task", "ls").splitlines():
        words = line.split()
        if words[0] == container:
            return int(words[1])
    raise AssertionError(f"no task {container} on {host.name}")


def read_count(pid: int) -> tuple[str, int]:
    """The counter's nonce and number, from its own file; (``, 0) before it wrote one."""
    try:
        nonce, count, _ = Path(f"/proc/{pid}/root/state/state").read_text().split()
    except (FileNotFoundError, ValueError):
        return "", 0
    return nonce, int(count)


def eventually(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def stays_still(pid: int, for_s: float = 0.4) -> bool:
    before = read_count(pid)
    time.sleep(for_s)
    return read_count(pid) == before
