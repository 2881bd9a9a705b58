"""Let CRIU dump a frozen container without its pages: they stay where they are, in the container's memory.

It is CRIU's lazy dump (criu(8), --lazy-pages): everything but the pages is written, every process is cured of CRIU's
code, and then CRIU would serve the pages to whoever asks on a socket (`ps-socket`). The socket is one end of a pair of
ours. Its other end is closed as soon as all is written: CRIU freezes the container again, as it found it, lets go of
its threads and ends well. If this process dies the kernel closes it, so CRIU waits for nobody.

Pages of shared memory and the few that cannot be lazy are written all the same. The files for them are links to
nowhere: who reads the pages takes them from the memory, too (`frozen_memory`).

runc and CRIU need some time until they begin, for which nobody has to stand still. CRIU's configuration file is a pipe
with a name: CRIU waits at it until somebody writes, which is when the container is frozen.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from select import select

from migrator.criu.configuration import read_lines
from migrator.criu.leftovers import HOME, end_criu
from migrator.errors import OutcomeUnknown, WorkloadFailed

NOWHERE = Path("/dev/null")
INVENTORY = "inventory.img"
"""The last image that a dump writes."""
SPARE_FILES = 64
"""Files of pages beyond one a process: for shared memory. One that has no link is a file, which serves as well."""
DESCRIPTORS = "descriptors.json"
CONFIGURATION = Path(".criu/default.conf")
LOOK_S = 0.001
END_S = 10.0
"""So long CRIU may take to let go of the container."""
ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """The runc that a container runs under.

    Args:
        program: Its path.
        root: Where it keeps the states of its containers.
        container: The container's name there.
    """

    program: str
    root: Path
    container: str


def dump_without_pages(
    runtime: Runtime,
    images: Path,
    work: Path,
    *,
    flags: Iterable[str] = (),
    options: Iterable[str] = (),
    processes: int = 1,
    limit_s: float,
    freeze: Callable[[], None],
) -> None:
    """Dump a container; it is as frozen afterwards as before, and no process is touched by CRIU any more.

    Args:
        runtime: What runs it.
        images: An empty directory.
        work: A directory for logs.
        flags: Of `runc checkpoint`.
        options: More lines for CRIU's configuration file; runc's own and the container's outrank them.
        processes: How many the container has.
        limit_s: So long it may take.
        freeze: Called when CRIU is ready to begin: freezes the container, if it is not frozen already.

    Raises:
        WorkloadFailed: `task_checkpoint_failed`, runc or CRIU refused, perhaps before anything was frozen.
        OutcomeUnknown: `no_answer`, the time is over and CRIU may hang.
    """
    for number in range(1, processes + SPARE_FILES):
        _pages(images, number).symlink_to(NOWHERE)
    ours, theirs = socket.socketpair()
    ready, tell = os.pipe()
    home = _make_home(work)
    usual = read_lines(Path(os.environ.get("HOME", "/root")) / CONFIGURATION)
    lines = "".join(f"{line}\n" for line in (*usual, *options, f"ps-socket {theirs.fileno()}"))
    try:
        process = subprocess.Popen(
            _command(runtime, images, work, [*flags, "--status-fd", str(tell)]),
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), tell),
            start_new_session=True,
        )
    finally:
        theirs.close()
        os.close(tell)
    try:
        deadline = time.monotonic() + limit_s
        beginning = _Beginning(images / DESCRIPTORS, freeze, work)
        frozen = _configure(process, home / CONFIGURATION, lines, beginning, deadline)
        _see_through(process, ready, ours, deadline)
    except OutcomeUnknown:
        _end(process, work)
        raise
    finally:
        ours.close()
        os.close(ready)
        _drop_links(images)
    if process.returncode or not (images / INVENTORY).exists():
        raise WorkloadFailed(_words_of(work, process.returncode), code="task_checkpoint_failed")
    if not frozen:
        raise WorkloadFailed("CRIU began too early", code="task_checkpoint_failed")


def lock_option(program: str) -> tuple[str, ...]:
    """How CRIU should lock a network: by nftables where it can and the lock can be removed, four times as fast."""
    return ("network-lock nftables",) if shutil.which("nft") and _knows_nftables(program) else ()


@lru_cache(maxsize=8)
def _knows_nftables(program: str) -> bool:
    return _succeeds(program, "check", "--feature", "network_lock_nftables")


@lru_cache(maxsize=8)
def is_runc(program: str) -> bool:
    """Whether a program is runc: others take the same words and mean something else by them."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.startswith("runc version")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASK_S, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _command(runtime: Runtime, images: Path, work: Path, flags: Sequence[str]) -> list[str]:
    log = work / "runc.log"
    log.unlink(missing_ok=True)
    about = ["--root", str(runtime.root), "--log", str(log), "--log-format", "json"]
    how = ["--image-path", str(images), "--work-path", str(work), "--leave-running", "--lazy-pages", *flags]
    return [runtime.program, *about, "checkpoint", *how, runtime.container]


def _make_home(work: Path) -> Path:
    """Make a home directory whose CRIU configuration is a pipe."""
    home = work / HOME
    file = home / CONFIGURATION
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.unlink(missing_ok=True)
    os.mkfifo(file, 0o600)
    return home


@dataclass(frozen=True, slots=True)
class _Beginning:
    """How a dump begins.

    Args:
        descriptors: What runc writes right before it.
        freeze: Freezes the container.
        work: CRIU's directory.
    """

    descriptors: Path
    freeze: Callable[[], None]
    work: Path


def _configure(
    process: subprocess.Popen[bytes], pipe: Path, lines: str, beginning: _Beginning, deadline: float
) -> bool:
    """Give every CRIU that runc starts its configuration; the one that dumps reads its end when all is frozen.

    runc first asks CRIU what it can do. A CRIU that has all the lines but the end does no harm if this process dies: it
    dumps, finds that nobody wants pages, and leaves the container as it was.

    Returns:
        Whether it came to the freeze.
    """
    while not _ended(process) and time.monotonic() < deadline:
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            time.sleep(LOOK_S)  # nobody reads it yet
            continue
        try:
            with suppress(BrokenPipeError):
                os.write(writer, lines.encode())
            if beginning.descriptors.exists():
                beginning.freeze()
                return True
        except BaseException:
            _end(process, beginning.work)  # before CRIU finds the end of the lines, and begins
            raise
        finally:
            os.close(writer)
        time.sleep(LOOK_S)
    return False


def _end(process: subprocess.Popen[bytes], work: Path) -> None:
    process.kill()
    end_criu(work)
    process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def _see_through(process: subprocess.Popen[bytes], ready: int, ours: socket.socket, deadline: float) -> None:
    """Wait until everything is written, let CRIU go, and wait for its end.

    Raises:
        OutcomeUnknown: `no_answer`.
    """
    readable, _, _ = select([ready], [], [], max(deadline - time.monotonic(), 0.0))  # a byte, or the end of runc
    ours.close()
    try:
        process.wait(max(deadline - time.monotonic(), END_S) if readable else 0.0)
    except subprocess.TimeoutExpired as error:
        raise OutcomeUnknown("CRIU did not finish its dump in time", code="no_answer") from error


def _drop_links(images: Path) -> None:
    for file in images.glob("pages-*.img"):
        if file.is_symlink():
            file.unlink()


def _words_of(work: Path, status: int) -> str:
    """What runc said last of why it failed."""
    words = f"runc ended with status {status}"
    with suppress(OSError, ValueError, AttributeError):
        for line in (work / "runc.log").read_text(errors="replace").splitlines():
            entry = json.loads(line)
            words = str(entry["msg"]) if entry.get("level") in ("error", "fatal") else words
    return words


def _pages(images: Path, number: int) -> Path:
    return images / f"pages-{number}.img"
