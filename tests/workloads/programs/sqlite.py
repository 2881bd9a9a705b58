#!/usr/bin/python3
"""A database file of SQLite's with a write-ahead log, open all the time: numbered rows, each read back.

sqlite.py DIRECTORY
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from witness import Witness

CHECK_EVERY = 50


def main() -> None:
    """Write and read for ever, by two connections."""
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    writer, reader = (sqlite3.connect(place / "ledger.db", isolation_level=None) for _ in range(2))
    writer.execute("pragma journal_mode = wal")
    writer.execute("create table ledger(number integer primary key, word text)")
    witness = Witness()

    def act(number: int) -> None:
        writer.execute("insert into ledger values (?, ?)", (number, f"{witness.nonce}{number}"))
        row = reader.execute("select count(*), max(number), max(word = ?) from ledger", (f"{witness.nonce}{number}",))
        witness.expect("the rows", row.fetchone(), (number + 1, number, 1))
        if number % CHECK_EVERY == 0:
            witness.expect("the file", reader.execute("pragma integrity_check").fetchone(), ("ok",))

    witness.run(act)


if __name__ == "__main__":
    main()
