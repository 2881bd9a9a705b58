#!/usr/bin/python3
"""nginx, and curl that downloads a large file from it again and again; every byte is checked.

    nginx.py [MIB]      how large the file is

The file is a sparse one in a tmpfs, with marks of its own in it, so that it is large and yet no burden to move.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import line
from witness import Witness, start_server

PIECE, MARK_EVERY = 1 << 20, 64
SIZE = int(sys.argv[1]) if sys.argv[1:] else 1024
"""In pieces of one MiB."""
RATE = "128M" if SIZE > 512 else "24M"
FILES, CONFIGURATION = Path("/dev/shm"), Path("/state/nginx.conf")
TEXT = """
daemon off; user root; worker_processes 2; pid /run/nginx.pid; error_log stderr;
events {{ }}
http {{ access_log off; sendfile on; server {{ listen {listen}; root /dev/shm; }} }}
"""


def piece(mark: str, number: int) -> bytes:
    """What a piece of the file holds: mostly nothing, now and then a mark."""
    if number % MARK_EVERY:
        return bytes(PIECE)
    return hashlib.shake_128(f"{mark}{number}".encode()).digest(PIECE // 16).ljust(PIECE, b"\0")


def write_files() -> None:
    """Write the marks and leave holes between them; tell what they are made of in a small file."""
    mark = Witness().nonce
    (FILES / "mark").write_text(mark)
    with (FILES / "large").open("wb") as file:
        for number in range(0, SIZE, MARK_EVERY):
            file.seek(number * PIECE)
            file.write(piece(mark, number).rstrip(b"\0"))
        file.truncate(SIZE * PIECE)


def download(name: str) -> subprocess.Popen[bytes]:
    """Start curl; what it gets comes by a pipe."""
    host = f"{line.SERVER}:{line.PORT}" if line.TCP else "localhost"
    way = [f"http://{host}/{name}", *([] if line.TCP else ["--unix-socket", line.PATH])]
    return subprocess.Popen(
        ["curl", "--silent", "--show-error", "--fail", "--limit-rate", RATE, *way], stdout=subprocess.PIPE
    )


def serve() -> subprocess.Popen[bytes]:
    """Start the server."""
    write_files()
    Path("/var/lib/nginx").mkdir(parents=True, exist_ok=True)  # where it puts what it gets, by its makers' choice
    CONFIGURATION.write_text(TEXT.format(listen=line.PLACE if line.TCP else f"unix:{line.PLACE}"))
    return start_server("/usr/sbin/nginx", "-e", "stderr", "-c", str(CONFIGURATION))


def ask() -> None:
    """Download for ever; an act is one MiB."""
    line.connect().close()
    mark = download("mark").communicate()[0].decode()
    witness, curl = Witness(), download("large")
    witness.more["downloads"] = 0

    def act(number: int) -> None:
        nonlocal curl
        if curl.stdout is None:
            raise EOFError("curl has no pipe")
        here = number % SIZE
        witness.expect(f"MiB {here}", hash(curl.stdout.read(PIECE)), hash(piece(mark, here)))
        if here == SIZE - 1:
            witness.expect("bytes after the end", curl.stdout.read(1), b"")
            witness.expect("curl's exit status", curl.wait(), 0)
            witness.more["downloads"] = number // SIZE + 1
            curl = download("large")

    witness.run(act, pause_s=0)


if __name__ == "__main__":
    line.play(serve, ask)
