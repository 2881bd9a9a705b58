"""Where the key ring comes from: a file, the environment, or a command. Whatever fails, no key is told."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from migrator.errors import AlreadyExists, InvalidRequest, MigratorError, NotFound, PermissionDenied, Unavailable
from migrator.settings import Settings
from migrator.storage.durable import flush_directory
from migrator.storage.encryption.ring import KeyRing, read_ring, write_ring

COMMAND_LIMIT_S = 30.0
RING_LIMIT_BYTES = 1 << 20
AGAIN_S = 10.0
"""A command is not asked again sooner than this, whatever unknown key is met."""


class RingSource(Protocol):
    """Gives the key ring. May be shared by threads."""

    place: str
    """What people call it: `key file /etc/migrator/keys.json`."""

    def current(self) -> KeyRing:
        """Return the ring as it is known; a file that was replaced is read again."""

    def again(self) -> KeyRing:
        """Return the ring, asked for anew if that may tell something: a key was met that the known one lacks."""


class RingFile:
    """A ring in a file that its owner alone may read.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self.place = f"key file {path}"
        self.path = path
        self._lock = threading.Lock()
        self._known: tuple[tuple[int, ...], KeyRing] | None = None

    def current(self) -> KeyRing:
        """See `RingSource.current`.

        Raises:
            NotFound: `key_file_missing`.
            PermissionDenied: `key_file_open`, others may read it, or `key_file_unreadable`.
            InvalidRequest: `bad_key_ring`.
        """
        with self._lock:
            seen = self._look()
            if self._known is None or self._known[0] != seen:
                self._known = (seen, read_ring(self._read(), self.place))
            return self._known[1]

    again = current

    def create(self, ring: KeyRing) -> None:
        """Write a new file.

        Raises:
            AlreadyExists: `key_file_exists`; a ring is never overwritten.
        """
        beside = self._write_beside(ring)
        try:
            self._saying(lambda: self.path.hardlink_to(beside))
            flush_directory(self.path.parent)
        except FileExistsError as error:
            raise AlreadyExists(
                f"{self.place} exists already",
                code="key_file_exists",
                remedy="keep it: without it, what it encrypted is lost; name another file for another store",
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def replace(self, ring: KeyRing) -> None:
        """Put another ring into its place; whole or not at all."""
        beside = self._write_beside(ring)
        try:
            self._saying(lambda: beside.rename(self.path))
            flush_directory(self.path.parent)
        finally:
            beside.unlink(missing_ok=True)

    def _write_beside(self, ring: KeyRing) -> Path:
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")

        def write() -> None:
            beside.unlink(missing_ok=True)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(handle, "w") as file:  # noqa: PTH123 - it is open already
                file.write(write_ring(ring))
                file.flush()
                os.fsync(handle)

        self._saying(write)
        return beside

    def _saying(self, act: Callable[[], object]) -> None:
        try:
            act()
        except FileExistsError:
            raise
        except OSError as error:
            raise PermissionDenied(
                f"{self.place} cannot be written: {error.strerror}",
                code="key_file_unwritable",
                remedy="see the path, its directory and the disk",
            ) from error

    def _look(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except FileNotFoundError as error:
            raise NotFound(
                f"{self.place} does not exist",
                code="key_file_missing",
                remedy="copy it from another host of this deployment; for a new one: migrator keys init",
            ) from error
        except OSError as error:
            raise self._unreadable(error) from error
        if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid()):
            raise PermissionDenied(
                f"{self.place} is open to others (mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid})",
                code="key_file_open",
                remedy=f"make it yours alone: chown {os.geteuid()} {self.path} && chmod 600 {self.path}",
            )
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                return file.read(RING_LIMIT_BYTES).decode(errors="replace")
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> MigratorError:
        return PermissionDenied(
            f"{self.place} cannot be read: {error.strerror}",
            code="key_file_unreadable",
            remedy="run as the user whose file it is",
        )


class RingText:
    """A ring that the environment holds; it does not change while the process lives.

    Args:
        text: Its text.
    """

    place = "MIGRATOR_KEY"

    def __init__(self, text: str):
        self._ring = read_ring(text, self.place)

    def current(self) -> KeyRing:
        """See `RingSource.current`."""
        return self._ring

    again = current


class RingCommand:
    """A ring that a command prints: a plug-in for vaults. No shell has a hand in it.

    Args:
        command: The command line.
    """

    def __init__(self, command: str):
        self._argv = shlex.split(command)
        self.place = f"key command {self._argv[0] if self._argv else ''!r}"
        self._lock = threading.Lock()
        self._known: KeyRing | None = None
        self._asked_at_s = 0.0

    def current(self) -> KeyRing:
        """See `RingSource.current`.

        Raises:
            Unavailable: `key_command_failed`.
            InvalidRequest: `bad_key_ring`.
        """
        with self._lock:
            if self._known is None:
                self._known = self._ask()
            return self._known

    def again(self) -> KeyRing:
        """See `RingSource.again`."""
        with self._lock:
            if self._known is None or time.monotonic() - self._asked_at_s > AGAIN_S:
                self._known = self._ask()
            return self._known

    def _ask(self) -> KeyRing:
        self._asked_at_s = time.monotonic()
        try:
            done = subprocess.run(
                self._argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end within {COMMAND_LIMIT_S:.0f} s") from None  # it holds what was printed
        except (OSError, IndexError) as error:
            raise self._failed(f"cannot be started: {error}") from error
        if done.returncode != 0:
            raise self._failed(f"ended with status {done.returncode}")
        return read_ring(done.stdout.decode(errors="replace"), self.place)

    def _failed(self, how: str) -> Unavailable:
        return Unavailable(
            f"{self.place} {how}",
            code="key_command_failed",
            remedy="run the command of MIGRATOR_KEY_COMMAND by hand and see what it says; it must print the key ring",
        )


def find_ring(settings: Settings) -> RingSource | None:
    """Return the source that the settings name; None when they name none.

    Raises:
        InvalidRequest: `bad_configuration`, they name more than one; `bad_key_ring`.
    """
    named = [name for name in ("key_file", "key", "key_command") if getattr(settings, name)]
    if len(named) > 1:
        raise InvalidRequest(
            f"the key ring is configured more than once ({', '.join(named)})",
            code="bad_configuration",
            remedy="keep one of MIGRATOR_KEY_FILE, MIGRATOR_KEY and MIGRATOR_KEY_COMMAND",
        )
    if settings.key_file:
        return RingFile(settings.key_file)
    if settings.key:
        return RingText(settings.key.get_secret_value())
    return RingCommand(settings.key_command) if settings.key_command else None
