"""A PostgreSQL server out of the lab's root file system: on a unix socket only, and gone without a trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

START_DEADLINE_S = 40.0
STOP_DEADLINE_S = 20.0

# All mounts live in a mount namespace that ends with the server. The root is the lower layer of an overlay whose upper
# layer is in memory: nothing is ever written to it. Every step replaces the shell, so that our child is the server.
SCRIPT = """
set -eu
root=$1 work=$2 fsync=$3
mount -t tmpfs tmpfs "$work/mount"
mkdir "$work/mount/upper" "$work/mount/work" "$work/mount/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/mount/upper,workdir=$work/mount/work" "$work/mount/root"
cd "$work/mount/root"
mkdir -p srv/data srv/sockets
mount --rbind /dev dev
mount -t proc proc proc
mount --bind "$work/data" srv/data
mount --bind "$work/sockets" srv/sockets
chroot . chown postgres:postgres /srv/data /srv/sockets
exec chroot . setpriv --reuid postgres --regid postgres --clear-groups --pdeathsig INT sh -euc '
    cd /srv
    export LC_ALL=C.UTF-8 PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
    initdb --pgdata data --auth trust --encoding UTF8 --no-sync --no-instructions
    exec postgres -D data -k /srv/sockets -c listen_addresses= -c fsync="$0" -c timezone=Pacific/Auckland
' "$fsync"
"""


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        pid: Of the server itself.
        sockets: The directory of its unix socket.
    """

    pid: int
    sockets: Path

    def url(self, database: str = "postgres") -> str:
        """How `Database` finds it."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.sockets}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Open a connection past everything the project does."""
        return psycopg.connect(
            host=str(self.sockets), user="postgres", dbname=database, autocommit=True, connect_timeout=5
        )

    @contextmanager
    def fresh_database(self, name: str) -> Iterator[str]:
        """Make an empty database, give its URL, and drop it."""
        self._administer("CREATE DATABASE {}", name)
        try:
            yield self.url(name)
        finally:
            self._administer("DROP DATABASE {} WITH (FORCE)", name)

    def _administer(self, statement: str, name: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


@contextmanager
def running_postgres(root: Path, *, fsync: bool = False) -> Iterator[Postgres]:
    """Start a server and stop it.

    Args:
        root: A root file system with Debian's package `postgresql`; it is only read.
        fsync: Whether commits reach the disk.
    """
    work = Path(tempfile.mkdtemp(prefix="migrator-postgres-"))
    for name in ("mount", "data", "sockets"):
        (work / name).mkdir()
    script = ["sh", "-c", SCRIPT, "postgres", str(root), str(work), "on" if fsync else "off"]
    command = ["unshare", "--mount", "--propagation", "private", *script]
    try:
        with (work / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            postgres = Postgres(server.pid, work / "sockets")
            _await_answer(server, postgres, work / "log")
            yield postgres
        finally:
            _stop(server)
    finally:
        shutil.rmtree(work)


def _await_answer(server: subprocess.Popen[bytes], postgres: Postgres, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            postgres.connect().close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                raise RuntimeError(f"PostgreSQL did not start:\n{tail}") from error
            time.sleep(0.05)
        else:
            return


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.kill(server.pid, signal.SIGINT)  # its "fast" shutdown: clients are sent away, nothing waits for them
    try:
        server.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.kill(server.pid, signal.SIGKILL)
        server.wait(STOP_DEADLINE_S)
