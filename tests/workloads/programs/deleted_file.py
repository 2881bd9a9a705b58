#!/usr/bin/python3
"""Keeps files open that have no name any more, and checks all that is in them each time it writes.

deleted_file.py KIB
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from witness import Witness


def main() -> None:
    """Write a file, take its name away, go on writing and reading."""
    size = int(sys.argv[1]) << 10
    witness = Witness()
    held = bytearray(hashlib.shake_128(witness.nonce.encode()).digest(size))
    path = Path("/state/deleted")
    with path.open("w+b", buffering=0) as file, path.open("rb") as reader:
        file.write(held)
        path.unlink()

        def act(number: int) -> None:
            at = number * 4096 % size
            held[at : at + 8] = number.to_bytes(8, "big")
            file.seek(at)
            file.write(held[at : at + 8])
            reader.seek(0)
            witness.expect("the deleted file", hashlib.sha256(reader.read()).digest(), hashlib.sha256(held).digest())

        witness.run(act)


if __name__ == "__main__":
    main()
