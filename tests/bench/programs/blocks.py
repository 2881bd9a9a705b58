"""Where the blocks of busy.py lie: in its own memory, in files of its root, in a redis-server beside it."""

import os
import socket
import subprocess
import time
from pathlib import Path

BLOCK_BYTES = 64 << 10
FILE_BLOCKS = 256
"""16 MiB a file."""
DIRECTORY = Path("/srv/data")
SOCKET = "/tmp/redis.sock"
START_S = 30.0


class Memory:
    """One piece of memory."""

    def __init__(self, count: int):
        self.memory = bytearray(count * BLOCK_BYTES)

    def write(self, block: int, data: bytes) -> None:
        """Give a block a new content."""
        self.memory[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = data

    def read(self, block: int) -> memoryview:
        """Look at a block."""
        return memoryview(self.memory)[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]


class Files:
    """Files in the container's own root: all of them are changes to its image."""

    def __init__(self, count: int):
        DIRECTORY.mkdir(parents=True)
        numbers = range(-(-count // FILE_BLOCKS))
        self.files = [os.open(DIRECTORY / str(number), os.O_RDWR | os.O_CREAT) for number in numbers]

    def write(self, block: int, data: bytes) -> None:
        """Give a block a new content."""
        os.pwrite(self.files[block // FILE_BLOCKS], data, block % FILE_BLOCKS * BLOCK_BYTES)

    def read(self, block: int) -> bytes:
        """Read a block."""
        return os.pread(self.files[block // FILE_BLOCKS], BLOCK_BYTES, block % FILE_BLOCKS * BLOCK_BYTES)


class Redis:
    """Values of a redis-server that keeps everything in memory."""

    def __init__(self, count: int):
        del count
        words = ["--save", "", "--appendonly", "no", "--port", "0", "--unixsocket", SOCKET, "--dir", "/tmp"]
        self.server = subprocess.Popen(["/usr/bin/redis-server", *words], stdout=subprocess.DEVNULL)
        self.line = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + START_S
        while self.line.connect_ex(SOCKET) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.answers = self.line.makefile("rb")

    def write(self, block: int, data: bytes) -> None:
        """SET a block."""
        self._send(b"SET", b"%d" % block, data)
        assert self.answers.readline() == b"+OK\r\n"

    def read(self, block: int) -> bytes:
        """GET a block."""
        self._send(b"GET", b"%d" % block)
        size = int(self.answers.readline()[1:])
        return self.answers.read(size + 2)[:size]

    def _send(self, *words: bytes) -> None:
        self.line.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))


PLACES = {"memory": Memory, "files": Files, "redis": Redis}
