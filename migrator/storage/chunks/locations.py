"""Which chunk lies where, as far as this host has read it: a SQLite file that may be lost or damaged at any time.

Pack indexes never change, so each is read once; what a host keeps of them lies on its disk and not in its memory.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.errors import Unavailable
from migrator.storage.chunks.format import Pack, StoredChunk

VERSION = 2
AT_ONCE = 500
"""Names asked for in one statement."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS indexes (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, listed_in TEXT NOT NULL, size_bytes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS chunks (
  name BLOB NOT NULL, pack INTEGER NOT NULL, place INTEGER NOT NULL, codec INTEGER NOT NULL,
  stored_bytes INTEGER NOT NULL, size_bytes INTEGER NOT NULL, PRIMARY KEY (name, pack)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_by_pack ON chunks (pack);
"""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk lies."""

    pack: str
    offset: int
    chunk: StoredChunk


class Locations:
    """Chunks by name, in a file of its own.

    Args:
        path: The file; None for a temporary one.
    """

    def __init__(self, path: Path | None = None):
        self._path = path
        self._lock = threading.RLock()
        self._opened: sqlite3.Connection | None = None
        self._process = 0

    def indexes(self) -> set[str]:
        """The names of the pack indexes that were read."""
        return {name for (name,) in self._ask("SELECT name FROM indexes")}

    def has_read(self, indexes: Collection[str]) -> bool:
        """Whether some pack indexes were all read."""
        marks = ",".join("?" * len(indexes))
        ((count,),) = self._ask(f"SELECT count(*) FROM indexes WHERE name IN ({marks})", indexes)
        return bool(count == len(set(indexes)))

    def add(self, index: str, packs: Iterable[Pack]) -> None:
        """Take in a pack index; once more changes nothing."""

        def write(database: sqlite3.Connection) -> None:
            if database.execute("SELECT 1 FROM indexes WHERE name = ?", (index,)).fetchone():
                return
            database.execute("INSERT INTO indexes VALUES (?)", (index,))
            for pack in packs:
                row = (pack.name, index, pack.size_bytes)
                number = database.execute("INSERT INTO packs (name, listed_in, size_bytes) VALUES (?, ?, ?)", row)
                rows = (
                    (chunk.name, number.lastrowid, place, chunk.codec, chunk.stored_bytes, chunk.size_bytes)
                    for place, chunk in pack.placed()
                )
                database.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", rows)

        self._change(write)

    def forget(self, indexes: Iterable[str]) -> None:
        """Forget pack indexes that are no more."""

        def write(database: sqlite3.Connection) -> None:
            for name in indexes:
                database.execute("DELETE FROM indexes WHERE name = ?", (name,))
                database.execute("DELETE FROM packs WHERE listed_in = ?", (name,))
            database.execute("DELETE FROM chunks WHERE pack NOT IN (SELECT id FROM packs)")

        self._change(write)

    def find(self, names: Iterable[bytes], without: frozenset[str] = frozenset()) -> dict[bytes, Location]:
        """Say where chunks lie; those that nobody knows are not among the answer.

        Args:
            names: The chunks.
            without: Packs that do not count.
        """
        found: dict[bytes, Location] = {}
        wanted = list(set(names))
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._ask(
                "SELECT c.name, p.name, c.place, c.codec, c.stored_bytes, c.size_bytes FROM chunks c"
                f" JOIN packs p ON p.id = c.pack WHERE c.name IN ({marks}) ORDER BY c.pack",
                some,
            )
            for name, pack, place, codec, stored_bytes, size_bytes in rows:
                if pack not in without:
                    found.setdefault(name, Location(pack, place, StoredChunk(name, codec, stored_bytes, size_bytes)))
        return found

    def packs(self) -> set[str]:
        """The names of all packs that any pack index names."""
        return {name for (name,) in self._ask("SELECT DISTINCT name FROM packs")}

    def packs_in(self, indexes: Iterable[str]) -> set[str]:
        """The names of the packs that some pack indexes name."""
        asked = list(indexes)
        marks = ",".join("?" * len(asked))
        return {name for (name,) in self._ask(f"SELECT name FROM packs WHERE listed_in IN ({marks})", asked)}

    def names_in(self, indexes: Iterable[str]) -> set[bytes]:
        """The names of all chunks in the packs that some pack indexes name."""
        asked = list(indexes)
        marks = ",".join("?" * len(asked))
        rows = self._ask(
            f"SELECT c.name FROM packs p JOIN chunks c ON c.pack = p.id WHERE p.listed_in IN ({marks})", asked
        )
        return {name for (name,) in rows}

    def indexes_of(self, packs: Iterable[str]) -> set[str]:
        """The names of the pack indexes that name any of some packs."""
        found: set[str] = set()
        wanted = list(packs)
        for start in range(0, len(wanted), AT_ONCE):
            some = wanted[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            found |= {name for (name,) in self._ask(f"SELECT listed_in FROM packs WHERE name IN ({marks})", some)}
        return found

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _ask(self, words: str, values: Iterable[object] = ()) -> list[Any]:
        rows: list[Any] = []

        def read(database: sqlite3.Connection) -> None:
            rows[:] = database.execute(words, tuple(values)).fetchall()

        self._change(read)
        return rows

    def _change(self, act: Callable[[sqlite3.Connection], None]) -> None:
        """Do something in one transaction; begin with an empty file if this one is damaged."""
        with self._lock:
            try:
                self._in_transaction(act)
            except sqlite3.DatabaseError as error:
                if "locked" in str(error):
                    raise self._unusable(error) from error
                self.close()
                self._remove()
                self._once_more(act)

    def _once_more(self, act: Callable[[sqlite3.Connection], None]) -> None:
        try:
            self._in_transaction(act)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(
            f"the list of known chunks {self._path or ''} cannot be used: {error}",
            code="chunk_list_unusable",
            remedy="make room on its disk; it may be removed at any time",
        )

    def _in_transaction(self, act: Callable[[sqlite3.Connection], None]) -> None:
        database = self._open()
        with database:
            act(database)

    def _open(self) -> sqlite3.Connection:
        """Open the file, once in each process: a connection does not survive a fork."""
        if self._opened is not None and self._process == os.getpid():
            return self._opened
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = sqlite3.connect(str(self._path or ""), timeout=30, check_same_thread=False)
        database.execute("PRAGMA synchronous = NORMAL")
        if self._path is not None:
            database.execute("PRAGMA journal_mode = WAL")
            self._path.chmod(0o600)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"version {version}")
        if version == 0:
            database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        self._opened, self._process = database, os.getpid()
        return database

    def _remove(self) -> None:
        if self._path is None:
            return
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).unlink()
