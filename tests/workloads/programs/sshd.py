#!/usr/bin/python3
"""sshd, which forks a process for each connection, and a session that stays open: what is sent comes back changed.

Clients that are elsewhere come by the network; one beside it gets its connection from ssh itself (`ProxyCommand sshd
-i`), for sshd listens at no unix socket. The account has no password, so the client needs no key.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import line
from witness import Witness, start_server

HOST_KEY, ACCOUNTS = Path("/etc/ssh/host_key"), Path("/etc/passwd")
OPTIONS = ("UsePAM=no", "PermitRootLogin=yes", "PermitEmptyPasswords=yes", "PidFile=none")
SERVER = ["/usr/sbin/sshd", "-f", "none", "-o", f"HostKey={HOST_KEY}", *(f"-o{option}" for option in OPTIONS)]
SHELL = "while read -r number; do echo $((number * 2 + 1)) $$; done"


def prepare() -> None:
    """Make the server's key, and let root in."""
    HOST_KEY.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", HOST_KEY], check=True)
    accounts = ACCOUNTS.read_text().replace("root:x:", "root::").replace("/bin/bash", "/bin/sh")  # the only shell here
    ACCOUNTS.write_text(accounts)
    Path("/run/sshd").mkdir(exist_ok=True)


def serve() -> subprocess.Popen[bytes] | None:
    """Start the server, unless it is the client that starts one."""
    prepare()
    return start_server(*SERVER, "-D", "-p", line.PLACE) if line.TCP else None


def ask() -> None:
    """Open the session and ask for ever."""
    way = ["-p", str(line.PORT), f"root@{line.SERVER}"]
    if line.TCP:
        line.connect().close()
    else:
        way = ["-o", f"ProxyCommand={' '.join(SERVER)} -i", "root@here"]
    Path("/state").mkdir(exist_ok=True)
    with Path("/state/ssh.log").open("wb") as log:
        options = ["-T", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        command = ["ssh", *options, *way, SHELL]
        session = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    witness, shells = Witness(), set()

    def act(number: int) -> None:
        if session.stdin is None or session.stdout is None:
            raise EOFError("ssh has no pipes")
        session.stdin.write(b"%d\n" % number)
        session.stdin.flush()
        answer, shell = session.stdout.readline().split()
        shells.add(shell)
        witness.expect("an answer", int(answer), number * 2 + 1)
        witness.expect("the number of shells", len(shells), 1)

    witness.run(act)


if __name__ == "__main__":
    line.play(serve, ask)
