#!/usr/bin/python3
"""An ssh session that stays open, with sshd at its other end; what is sent through it comes back changed.

sshd gets its connection from ssh itself (`ProxyCommand sshd -i`), so both ends are here and no port is open.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from witness import Witness

PLACE = Path("/root/.ssh")
KEY, HOST_KEY = PLACE / "id_ed25519", Path("/etc/ssh/host_key")
SERVER = f"/usr/sbin/sshd -i -f none -o HostKey={HOST_KEY} -o UsePAM=no -o PermitRootLogin=yes -o StrictModes=no"
SHELL = "while read -r number; do echo $((number * 2 + 1)) $$; done"


def make_key(path: Path) -> None:
    """Make a key without a passphrase."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def main() -> None:
    """Open the session and ask for ever."""
    accounts = Path("/etc/passwd")
    accounts.write_text(accounts.read_text().replace("/bin/bash", "/bin/sh"))  # the only shell here
    make_key(KEY)
    make_key(HOST_KEY)
    (PLACE / "authorized_keys").write_bytes(KEY.with_suffix(".pub").read_bytes())
    Path("/run/sshd").mkdir(exist_ok=True)
    options = ["-T", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", f"ProxyCommand={SERVER}"]
    Path("/state").mkdir(exist_ok=True)
    with Path("/state/ssh.log").open("wb") as log:
        command = ["ssh", *options, "root@here", SHELL]
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
    main()
