#!/usr/bin/python3
"""PostgreSQL with pgbench running, and one more connection that stays open and writes numbered rows.

    postgres.py [--as-root]     the server runs as root, and a seccomp filter tells it that it is not

PostgreSQL refuses to run as root; a machine may allow CRIU nothing else.

Each answer is checked; from time to time the books must balance: pgbench adds the same amount to a teller, a branch, an
account and its history in one transaction. pgbench ends at its first error, and that is seen too.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import line
from witness import Witness, start_server

PROGRAMS = next(Path("/usr/lib/postgresql").iterdir()) / "bin"
DATA, PLACE, USER = Path("/data/postgres"), Path("/run/postgresql"), "postgres"
AS_ROOT = "--as-root" in sys.argv
RUNS_AS = "root" if AS_ROOT else USER
HOST = line.SERVER or str(PLACE)
BALANCE = (
    "select sum(abalance) = (select sum(bbalance) from pgbench_branches)"
    " and sum(abalance) = (select sum(tbalance) from pgbench_tellers)"
    " and sum(abalance) = (select coalesce(sum(delta), 0) from pgbench_history) from pgbench_accounts;"
)
BALANCE_EVERY = 25
SOMEBODY = 2**32 - 2
"""What a filter can answer as a user's number: minus an error's."""


def pretend_not_to_be_root() -> None:
    """Let getuid and geteuid of this process and its children answer SOMEBODY: seccomp(2), classic BPF for x86-64."""
    load_number, jump_equal, give = 0x20, 0x15, 0x06
    program = [(load_number, 0, 0, 0), (jump_equal, 1, 0, 102), (jump_equal, 0, 1, 107)]
    program += [(give, 0, 0, 0x00050000 | 2**32 - SOMEBODY), (give, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    filters = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filters, 0, 0):  # no new privileges; a filter
        raise OSError(ctypes.get_errno(), "seccomp")


def run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs to its end."""
    subprocess.run([PROGRAMS / program, *arguments], user=USER, check=True, stdout=subprocess.DEVNULL)


def serve() -> subprocess.Popen[bytes]:
    """Make a cluster and start its server."""
    os.chdir("/")
    for directory in (DATA, PLACE):
        directory.mkdir(parents=True, exist_ok=True)
        shutil.chown(directory, USER, USER)
    run("initdb", "--pgdata", str(DATA), "--no-sync", "--auth", "trust", "--wal-segsize", "1")
    with (DATA / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all trust\n")
    listen = "0.0.0.0" if line.TCP else ""
    settings = [f"unix_socket_directories={PLACE}", f"listen_addresses={listen}", "wal_level=minimal"]
    settings += ["max_wal_senders=0", "min_wal_size=2MB", "max_wal_size=16MB", "shared_buffers=16MB"]
    command = [str(PROGRAMS / "postgres"), "-D", str(DATA), *(f"--{setting}" for setting in settings)]
    if AS_ROOT:
        for path in (DATA, *DATA.rglob("*")):
            os.chown(path, SOMEBODY, SOMEBODY)
        return start_server("/usr/bin/python3", "-B", __file__, "--pretend", *command)
    return start_server(*command, user=USER)


def wait_until_ready() -> None:
    """Wait until the server answers."""
    for _ in range(400):
        if subprocess.run([PROGRAMS / "pg_isready", "-q", "-h", HOST], check=False).returncode == 0:
            return
        time.sleep(0.05)
    raise TimeoutError("PostgreSQL is never ready; see /state/server.log")


class Session:
    """One psql that stays connected."""

    def __init__(self) -> None:
        command = [PROGRAMS / "psql", "-h", HOST, "-U", USER, "-d", USER, "-qAt", "-v", "ON_ERROR_STOP=1"]
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=RUNS_AS)

    def ask(self, statement: str) -> str:
        """Return the one line of the answer."""
        if self.psql.stdin is None or self.psql.stdout is None:
            raise EOFError("psql has no pipes")
        self.psql.stdin.write(statement.encode() + b"\n")
        self.psql.stdin.flush()
        answer = self.psql.stdout.readline()
        if not answer:
            raise EOFError(f"psql ended after {statement}")
        return answer.decode().rstrip("\n")


def ask() -> None:
    """Start pgbench and the session, and ask for ever."""
    os.chdir("/")
    wait_until_ready()
    run("pgbench", "-h", HOST, "-i", "-q", "-s", "1", USER)
    options = ["-n", "-c", "2", "-T", "3600", "--exit-on-abort"]
    load = start_server(str(PROGRAMS / "pgbench"), "-h", HOST, "-U", USER, *options, USER, user=RUNS_AS)
    session, witness = Session(), Witness()
    witness.expect(
        "the table", session.ask("create table ledger(number bigint primary key, word text); select 'made';"), "made"
    )

    def act(number: int) -> None:
        word = f"{witness.nonce}{number}"
        told = session.ask(f"insert into ledger values ({number}, '{word}') returning word;")
        witness.expect("a row", told, word)
        count = session.ask("select count(*) || ' ' || coalesce(max(number), -1) from ledger;")
        witness.expect("the rows", count, f"{number + 1} {number}")
        witness.expect("pgbench's exit status", load.poll(), None)
        if number % BALANCE_EVERY == 0:
            witness.expect("whether the books balance", session.ask(BALANCE), "t")

    witness.run(act)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--pretend"]:
        pretend_not_to_be_root()
        os.execv(sys.argv[2], sys.argv[2:])
    line.play(serve, ask)
