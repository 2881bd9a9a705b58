#!/usr/bin/python3
"""Sessions, process groups, an orphan, a zombie, priorities, limits, a umask, a blocked signal."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

from witness import Witness


def sleep_for_ever() -> None:
    """Be there."""
    while True:
        time.sleep(60)


def fork(act: object = sleep_for_ever) -> int:
    """Fork a child that does something and never comes back."""
    pid = os.fork()
    if pid == 0:
        act()  # type: ignore[operator]
        os._exit(0)
    return pid


def leave_an_orphan() -> None:
    """Fork in a session of its own and end: the child goes to the first process."""
    os.setsid()
    fork()


def look(pid: int) -> dict[str, str]:
    """What the kernel says of a process: state, parent, group, session, priority, signals."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    state = "S" if fields[0] in "RSDt" else fields[0]  # t: CRIU has not let go of it yet
    family = {"state": state, "parent": fields[1], "group": fields[2], "session": fields[3]}
    if state == "Z":  # CRIU keeps nothing more of the dead
        return family
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    told = {
        name: status.get(name, "") for name in ("Uid", "Umask", "SigBlk", "SigIgn", "CapEff", "NoNewPrivs", "Seccomp")
    }
    return {**family, "nice": fields[16], **told}


def set_up() -> None:
    """Make this process one that differs from a new one."""
    os.umask(0o027)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (777, 888))
    os.nice(5)


def main() -> None:
    """Make the family, remember how it looks, and look again for ever."""
    witness = Witness()
    set_up()
    group = fork()
    os.setpgid(group, group)
    zombie = fork(lambda: os._exit(7))
    os.waitpid(fork(leave_an_orphan), 0)
    time.sleep(0.2)
    family = sorted(int(place.name) for place in Path("/proc").iterdir() if place.name.isdigit())
    wanted = {pid: look(pid) for pid in family}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    witness.more = {"family": {str(pid): look["state"] for pid, look in wanted.items()}}
    witness.expect("the zombie's state", wanted[zombie]["state"], "Z")

    def act(_: int) -> None:
        for pid in family:
            witness.expect(f"process {pid}", look(pid), wanted[pid])
        witness.expect("the limits", resource.getrlimit(resource.RLIMIT_NOFILE), limits)
        witness.expect("the working directory", Path.cwd(), Path("/"))

    witness.run(act)


if __name__ == "__main__":
    main()
