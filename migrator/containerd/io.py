"""Where a process's input comes from and its output goes: nowhere, FIFOs, log files, log programs.

containerd's shim opens the names it is given, in the host's mount namespace. FIFOs must exist before; this side opens
them without ever blocking for a peer that does not come.
"""

from __future__ import annotations

import os
import select
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self
from urllib.parse import urlencode

from migrator.errors import InvalidRequest

PIECE_BYTES = 64 << 10
STDIN_RETRY_S = 0.02
STOP_PATIENCE_S = 1.0
LAST_PIECES = 16
"""What is still copied after a stop: as much as the largest pipe can hold."""


@dataclass(frozen=True, slots=True)
class Stdio:
    """The names that the shim opens: FIFO paths, `file://` or `binary://` URIs, or nothing."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


class ProcessIO(Protocol):
    """One process's input and output on this side."""

    @property
    def stdio(self) -> Stdio:
        """What the shim is told."""

    def cancel(self) -> None:
        """Stop copying at once, also where the other side never came."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until all output is copied; False when it takes longer."""

    def close(self) -> None:
        """Remove what was made for this process."""


class PlainIO:
    """Input and output that need nobody on this side."""

    def __init__(self, stdio: Stdio):
        self.stdio = stdio

    def cancel(self) -> None:
        """Nothing to stop."""

    def wait(self, timeout_s: float) -> bool:  # noqa: ARG002
        """Nothing to wait for."""
        return True

    def close(self) -> None:
        """Nothing to remove."""


def null_io() -> PlainIO:
    """No input, and output goes nowhere. The shim has no such thing for a process on a terminal."""
    return PlainIO(Stdio())


def log_file_io(path: Path | str) -> PlainIO:
    """Both outputs are appended to one file of the host.

    Raises:
        InvalidRequest: `bad_log_path`: the path is not absolute.
    """
    uri = f"file://{_absolute(path)}"
    return PlainIO(Stdio(stdout=uri, stderr=uri))


def binary_io(path: Path | str, arguments: Mapping[str, str] | None = None, *, terminal: bool = False) -> PlainIO:
    """Both outputs go to a program of the host, as file descriptors 3 and 4; it says it is ready by closing 5.

    Args:
        path: The program.
        arguments: Each pair becomes two arguments, key and value; an empty value becomes none.
        terminal: The process runs on a pseudo-terminal, whose output is what the program gets.

    Raises:
        InvalidRequest: `bad_log_path`: the path is not absolute.
    """
    query = f"?{urlencode(arguments)}" if arguments else ""
    uri = f"binary://{_absolute(path)}{query}"
    return PlainIO(Stdio(stdout=uri, stderr="" if terminal else uri, terminal=terminal))


def _absolute(path: Path | str) -> Path:
    if not Path(path).is_absolute():
        raise InvalidRequest(f"log path {path} is not absolute", code="bad_log_path", remedy="give the whole path")
    return Path(path)


class FifoIO:
    """FIFOs, with one thread for each that copies to or from a binary file object.

    Args:
        directory: Where the FIFOs are made, as the host sees it; a fresh directory below it holds them.
        stdin: Read until its end; then the FIFO is closed. The process sees the end only after `close_io`.
        stdout: Gets what the process writes. None: that goes nowhere.
        stderr: As `stdout`; a terminal has none of its own.
        terminal: The process runs on a pseudo-terminal; then `stdout` is needed.
        root: How this process sees the host's root directory, such as `/proc/PID/root`.

    Raises:
        InvalidRequest: `terminal_unread`: a terminal without `stdout`.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        stderr: BinaryIO | None = None,
        terminal: bool = False,
        root: Path = Path("/"),
    ):
        if terminal and stdout is None:
            raise InvalidRequest("a terminal needs somebody to read it", code="terminal_unread", remedy="give stdout")
        below = Path(directory).relative_to("/")
        (root / below).mkdir(parents=True, exist_ok=True)
        self._made: Path | None = Path(tempfile.mkdtemp(prefix="fifo-", dir=root / below))
        place = Path("/") / below / self._made.name
        named: dict[str, str] = {}
        for name, end in {"stdin": stdin, "stdout": stdout, "stderr": None if terminal else stderr}.items():
            if end is not None:
                os.mkfifo(self._made / name, 0o600)
                named[name] = str(place / name)
        if not terminal:  # the shim opens both outputs or none
            named = {"stdout": os.devnull, "stderr": os.devnull, **named}
        self.stdio = Stdio(**named, terminal=terminal)
        self._begin(stdin, stdout, stderr, root)

    @classmethod
    def attach(
        cls,
        stdio: Stdio,
        *,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        stderr: BinaryIO | None = None,
        root: Path = Path("/"),
    ) -> Self:
        """Take over the FIFOs of a running process. Only one reader may do so: bytes go to whoever reads first."""
        found = cls.__new__(cls)
        found._made = None
        found.stdio = stdio
        found._begin(stdin, stdout, stderr, root)
        return found

    def _begin(self, stdin: BinaryIO | None, stdout: BinaryIO | None, stderr: BinaryIO | None, root: Path) -> None:
        self._stop_reader, self._stop_writer = os.pipe()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        for name, end in ((self.stdio.stdout, stdout), (self.stdio.stderr, stderr)):
            if name and end is not None:
                self._spawn("out", self._drain, _seen(root, name), end)
        if self.stdio.stdin and stdin is not None:
            self._spawn("in", self._feed, _seen(root, self.stdio.stdin), stdin)

    def cancel(self) -> None:
        """Stop copying at once, also where the other side never came."""
        if not self._stopping.is_set():
            self._stopping.set()
            os.write(self._stop_writer, b"x")

    def wait(self, timeout_s: float) -> bool:
        """Wait until both outputs ended; False when it takes longer. Input has no say in it."""
        outputs = [thread for thread in self._threads if thread.name == "out"]
        for thread in outputs:
            thread.join(timeout_s / len(outputs))
        return not any(thread.is_alive() for thread in outputs)

    def close(self) -> None:
        """Stop copying and remove the FIFOs. May be called again."""
        self.cancel()
        for thread in self._threads:
            thread.join(STOP_PATIENCE_S)  # one that waits in the source's own read ends with the process
        if self._stop_reader >= 0 and not any(thread.is_alive() for thread in self._threads):
            os.close(self._stop_reader)
            os.close(self._stop_writer)
            self._stop_reader = self._stop_writer = -1
        if self._made is not None:
            shutil.rmtree(self._made, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _spawn(self, name: str, work: Callable[[Path, BinaryIO], None], path: Path, end: BinaryIO) -> None:
        thread = threading.Thread(target=work, args=(path, end), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _drain(self, path: Path, sink: BinaryIO) -> None:
        """Copy a FIFO to `sink` until its last writer is gone or we are told to stop."""
        with suppress(FileNotFoundError):
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                left = LAST_PIECES
                while left and self._copy_ready(reader, sink):
                    left -= self._stopping.is_set()
                sink.flush()
            finally:
                os.close(reader)

    def _copy_ready(self, reader: int, sink: BinaryIO) -> bool:
        """Copy one piece. An empty read means nothing before the first writer came: poll tells the two apart."""
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        ready = dict(poll.poll())
        if ready.get(reader, 0) & select.POLLIN:
            data = os.read(reader, PIECE_BYTES)
            sink.write(data)
            return bool(data)
        return not ready

    def _feed(self, path: Path, source: BinaryIO) -> None:
        """Copy `source` to a FIFO once somebody reads it."""
        with suppress(FileNotFoundError, BrokenPipeError):
            writer = self._open_writer(path)
            if writer is None:
                return
            try:
                read = getattr(source, "read1", source.read)  # read1 hands over a line as soon as it is there
                while data := read(PIECE_BYTES):
                    if not self._write_all(writer, data):
                        return
            finally:
                os.close(writer)

    def _open_writer(self, path: Path) -> int | None:
        while not self._stopping.wait(STDIN_RETRY_S):
            with suppress(OSError):  # ENXIO: nobody reads yet
                return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return None

    def _write_all(self, writer: int, data: bytes) -> bool:
        poll = select.poll()
        poll.register(writer, select.POLLOUT)
        poll.register(self._stop_reader, select.POLLIN)
        while data:
            if self._stop_reader in dict(poll.poll()):
                return False
            with suppress(BlockingIOError):
                data = data[os.write(writer, data) :]
        return True


def _seen(root: Path, path: str) -> Path:
    return root / Path(path).relative_to("/")
