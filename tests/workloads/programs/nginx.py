#!/usr/bin/python3
"""nginx, and curl that downloads 1 GiB from it again and again; every byte is checked.

The file is a sparse one in a tmpfs, with marks of its own in it, so that it is large and yet no burden to move.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import line
from witness import Witness, start_server

SIZE, PIECE, MARK_EVERY = 1 << 30, 1 << 20, 64 << 20
RATE = "128M"
FILE, CONFIGURATION = Path("/dev/shm/large"), Path("/state/nginx.conf")
TEXT = """
daemon off; user root; worker_processes 2; pid /run/nginx.pid; error_log stderr;
events {{ }}
http {{ access_log off; sendfile on; server {{ listen {listen}; root /dev/shm; }} }}
"""


def piece(nonce: str, number: int) -> bytes:
    """What a piece of the file holds: mostly nothing, now and then a mark."""
    if number * PIECE % MARK_EVERY:
        return bytes(PIECE)
    return hashlib.shake_128(f"{nonce}{number}".encode()).digest(PIECE // 16).ljust(PIECE, b"\0")


def write_file(nonce: str) -> None:
    """Write the marks and leave holes between them."""
    with FILE.open("wb") as file:
        for number in range(0, SIZE // PIECE, MARK_EVERY // PIECE):
            file.seek(number * PIECE)
            file.write(piece(nonce, number).rstrip(b"\0"))
        file.truncate(SIZE)


def download() -> subprocess.Popen[bytes]:
    """Start curl; what it gets comes by a pipe."""
    way = ["http://127.0.0.1:7000/large"] if line.TCP else ["--unix-socket", line.PATH, "http://localhost/large"]
    return subprocess.Popen(
        ["curl", "--silent", "--show-error", "--fail", "--limit-rate", RATE, *way], stdout=subprocess.PIPE
    )


def main() -> None:
    """Download for ever; an act is one MiB."""
    witness = Witness()
    write_file(witness.nonce)
    Path("/var/lib/nginx").mkdir(parents=True, exist_ok=True)  # where it puts what it gets, by its makers' choice
    CONFIGURATION.write_text(TEXT.format(listen=line.ADDRESS if line.TCP else f"unix:{line.PATH}"))
    start_server("/usr/sbin/nginx", "-e", "stderr", "-c", str(CONFIGURATION))
    line.connect().close()
    curl = download()
    witness.more["downloads"] = 0

    def act(number: int) -> None:
        nonlocal curl
        if curl.stdout is None:
            raise EOFError("curl has no pipe")
        here = number % (SIZE // PIECE)
        witness.expect(f"MiB {here}", hash(curl.stdout.read(PIECE)), hash(piece(witness.nonce, here)))
        if here == SIZE // PIECE - 1:
            witness.expect("bytes after the end", curl.stdout.read(1), b"")
            witness.expect("curl's exit status", curl.wait(), 0)
            witness.more["downloads"] = number // (SIZE // PIECE) + 1
            curl = download()

    os.chdir("/")
    witness.run(act, pause_s=0)


if __name__ == "__main__":
    main()
