"""Names, addresses and places of a lab: pure facts, so that `down` can find what a crashed `up` left behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from migrator.errors import InvalidRequest
from migrator.lab.rootfs import CACHE_DIR
from migrator.settings import LAB_RUN_DIR

GREEK = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
CONTROL = "control"
SUBNET = "10.77.0"
PREFIX_BITS = 24
SWITCH_ADDRESS = f"{SUBNET}.1"


def host_names(count: int) -> tuple[str, ...]:
    """Return the names of the first `count` hosts: alpha, beta, gamma, ….

    Raises:
        InvalidRequest: `count` is not between 1 and 24.
    """
    if not 1 <= count <= len(GREEK):
        raise InvalidRequest(
            f"a lab has 1 to {len(GREEK)} hosts, not {count}", code="bad_host_count", remedy="give another --hosts"
        )
    return GREEK[:count]


def address_of(host: str) -> str:
    """Return the IPv4 address of a host on the lab's switch."""
    return f"{SUBNET}.2" if host == CONTROL else f"{SUBNET}.{11 + GREEK.index(host)}"


def mac_of(host: str) -> str:
    """Return the fixed MAC address of a host, from the locally administered range."""
    return f"02:4d:47:00:00:{int(address_of(host).rsplit('.', 1)[1]):02x}"


@dataclass(frozen=True)
class Layout:
    """Where the lab `name` keeps its things on the machine."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", self.name):
            raise InvalidRequest(
                f"{self.name!r} is no lab name",
                code="bad_lab_name",
                remedy="use up to 32 lower-case letters, digits and dashes, beginning with a letter or digit",
            )

    @property
    def run_dir(self) -> Path:
        """What does not survive a reboot: the lock, namespaces by name, secrets, the API socket."""
        return LAB_RUN_DIR / self.name

    @property
    def lock_file(self) -> Path:
        """Held by whoever changes the lab. Outside `run_dir`, which `down` removes."""
        return LAB_RUN_DIR / f".{self.name}.lock"

    @property
    def shape_file(self) -> Path:
        """What was asked for at `up`: hosts, database, root."""
        return self.run_dir / "lab.json"

    @property
    def secrets_file(self) -> Path:
        """The generated credentials, mode 0600."""
        return self.run_dir / "secrets.json"

    @property
    def api_dir(self) -> Path:
        """The directory both the machine and the control host see; holds the API's socket."""
        return self.run_dir / "api"

    @property
    def api_socket(self) -> Path:
        """Where the CLI on the machine reaches the lab's API."""
        return self.api_dir / "api.sock"

    @property
    def switch(self) -> Path:
        """The network namespace of the switch, kept alive by a bind mount on this file."""
        return self.network_of("switch")

    def network_of(self, host: str) -> Path:
        """Return the file that a host's network namespace is bound to."""
        return self.run_dir / "net" / host

    def pid_file(self, host: str) -> Path:
        """Return the file that names a host's init: `PID STARTTIME`."""
        return self.run_dir / "hosts" / host

    @property
    def disk_dir(self) -> Path:
        """The disks of all hosts of this lab."""
        return CACHE_DIR / "labs" / self.name

    def disk_of(self, host: str) -> Path:
        """Return the directory that holds a host's writable layer, containerd's data and logs."""
        return self.disk_dir / host

    @property
    def cgroup_name(self) -> str:
        """The directory name of this lab's cgroups in every hierarchy; how `down` finds its processes."""
        return f"migrator-lab.{self.name}"
