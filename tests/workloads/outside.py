"""The client of a server in a container, on another host: the same program, from the root that workloads come from."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.workloads.root import program_root
from tests.workloads.workload import State

PROGRAMS_DIR = Path(__file__).parent / "programs"
INSIDE = """
set -e
scratch=$1 programs=$2; shift 2
mkdir "$scratch/disk"
mount -t tmpfs tmpfs "$scratch/disk"
mkdir "$scratch/disk/upper" "$scratch/disk/work" "$scratch/disk/root"
root=$scratch/disk/root
mount -t overlay -o "lowerdir=$0,upperdir=$scratch/disk/upper,workdir=$scratch/disk/work" overlay "$root"
mkdir -p "$root/state" "$root/opt"
mount --bind "$scratch/state" "$root/state"
mount --bind "$programs" "$root/opt"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""
"""In a mount namespace of its own, so that nothing of it stays."""


class Outside:
    """A client that talks by TCP to a server in a container, from the network of a process on this machine.

    Args:
        network_of: A process id: the client is where that process is, for instance on the lab's control host.
        server: The address of the container.
        command: The program in `programs/` and its arguments, as the container has them.
    """

    def __init__(self, network_of: int, server: str, command: list[str]):
        self._scratch = Path(tempfile.mkdtemp(prefix="client-"))
        (self._scratch / "state").mkdir()
        enter = ["setpriv", "--pdeathsig=KILL", "nsenter", f"--net=/proc/{network_of}/ns/net"]
        enter += ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        inside = ["sh", "-c", INSIDE, str(program_root()), str(self._scratch), str(PROGRAMS_DIR)]
        with (self._scratch / "words").open("wb") as words:
            self._process = subprocess.Popen(
                [*enter, *inside, "SIDE=client", f"SERVER={server}", *command],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )

    def state(self) -> State:
        """What it says of itself: how often it was answered, and whether each answer was right.

        Raises:
            AssertionError: It has ended, as it does at the first error; with its last words.
        """
        if self._process.poll() is not None:
            raise AssertionError(f"the client outside has ended: {self._words()}")
        state: State = json.loads((self._scratch / "state/state.json").read_text())
        return state

    def stop(self) -> None:
        """End it and whatever it has started."""
        self._process.kill()
        self._process.wait(timeout=10)
        shutil.rmtree(self._scratch)

    def _words(self) -> str:
        logs = [self._scratch / "words", *self._scratch.glob("state/*.log")]
        return "\n".join(log.read_text(errors="replace")[-1000:].strip() for log in logs)
