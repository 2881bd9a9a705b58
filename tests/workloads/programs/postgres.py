#!/usr/bin/python3
"""PostgreSQL with pgbench running, and one more connection that stays open and writes numbered rows.

Each answer is checked; from time to time the books must balance: pgbench adds the same amount to a teller, a branch, an
account and its history in one transaction. pgbench ends at its first error, and that is seen too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import line
from witness import Witness, start_server, wait_for

PROGRAMS = next(Path("/usr/lib/postgresql").iterdir()) / "bin"
DATA, PLACE, USER = Path("/data/postgres"), Path("/run/postgresql"), "postgres"
HOST = "127.0.0.1" if line.TCP else str(PLACE)
BALANCE = (
    "select sum(abalance) = (select sum(bbalance) from pgbench_branches)"
    " and sum(abalance) = (select sum(tbalance) from pgbench_tellers)"
    " and sum(abalance) = (select coalesce(sum(delta), 0) from pgbench_history) from pgbench_accounts;"
)
BALANCE_EVERY = 25


def run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs to its end."""
    subprocess.run([PROGRAMS / program, *arguments], user=USER, check=True, stdout=subprocess.DEVNULL)


def start() -> None:
    """Make a cluster and start its server."""
    for directory in (DATA, PLACE):
        directory.mkdir(parents=True, exist_ok=True)
        shutil.chown(directory, USER, USER)
    run("initdb", "--pgdata", str(DATA), "--no-sync", "--auth", "trust")
    settings = [f"unix_socket_directories={PLACE}", f"listen_addresses={HOST if line.TCP else ''}", "wal_level=minimal"]
    settings += ["max_wal_senders=0", "min_wal_size=32MB", "wal_init_zero=off"]
    start_server(str(PROGRAMS / "postgres"), "-D", str(DATA), *(f"--{setting}" for setting in settings), user=USER)
    wait_for(str(PLACE / ".s.PGSQL.5432"))
    for _ in range(100):
        if subprocess.run([PROGRAMS / "pg_isready", "-q", "-h", HOST], user=USER, check=False).returncode == 0:
            return
    raise TimeoutError("PostgreSQL is never ready; see /state/server.log")


class Session:
    """One psql that stays connected."""

    def __init__(self) -> None:
        command = [PROGRAMS / "psql", "-h", HOST, "-U", USER, "-d", USER, "-qAt", "-v", "ON_ERROR_STOP=1"]
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=USER)

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


def main() -> None:
    """Start the server, pgbench and the session, and ask for ever."""
    os.chdir("/")
    start()
    run("pgbench", "-h", HOST, "-i", "-q", "-s", "1", USER)
    load = start_server(str(PROGRAMS / "pgbench"), "-h", HOST, "-n", "-c", "2", "-T", "3600", "--exit-on-abort", USER, user=USER)
    session, witness = Session(), Witness()
    witness.expect("the table", session.ask("create table ledger(number bigint primary key, word text); select 'made';"), "made")

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
    main()
