"""How a host is: whether what a migration needs is there, fits together and has room."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from migrator.criu.configuration import find_options
from migrator.criu.program import check_kernel, find_criu, parse_version
from migrator.errors import MigratorError
from migrator.models.housekeeping import Check, Level
from migrator.service.host import Host
from migrator.service.room import free_memory_bytes

ANSWER_S = 5.0
SCARCE_BYTES = 256 << 20
"""Less than this is hardly enough for one container."""
OLDEST_CONTAINERD = (1, 7)
OLDEST_RUNC = (1, 1)
SAFE_RUNC = {(1, 3): (1, 3, 7), (1, 4): (1, 4, 4), (1, 5): (1, 5, 3)}
"""CVE-2026-119101: older ones follow odd mount destinations at a restore. Preflight refuses such containers."""
PROGRAMS = {
    "ip": "install iproute2: the loopback interface of a restored container is brought up with it",
    "nsenter": "install util-linux: the network of a container is entered with it",
    "iptables-restore": "install iptables: CRIU locks the network of a container with it",
}


def check_health(host: Host) -> tuple[Check, ...]:
    """Make every check."""
    checks = (
        _containerd,
        _runc,
        _criu,
        _kernel,
        _criu_configuration,
        _programs,
        _memory,
        _room_in_memory,
        _room_on_disk,
        _store,
    )
    return tuple(_made(check, host) for check in checks)


def _made(check: Callable[[Host], Check], host: Host) -> Check:
    """A check that cannot be made says why."""
    try:
        return check(host)
    except MigratorError as error:
        return Check(check.__name__.strip("_").replace("_", " "), Level.WRONG, error.message, error.remedy or "")


def _containerd(host: Host) -> Check:
    version = host.containerd.version().version
    if parse_version(version) < OLDEST_CONTAINERD:
        return Check("containerd", Level.WRONG, version, "install containerd 1.7 or newer")
    return Check("containerd", Level.FINE, version)


def _runc(host: Host) -> Check:
    del host
    found = re.search(r"runc version (\S+)", _output("runc", "--version"))
    if found is None:
        return Check("runc", Level.WRONG, "not found", "install runc 1.1 or newer, where the worker's PATH finds it")
    numbers = parse_version(found[1])
    if numbers < OLDEST_RUNC:
        return Check("runc", Level.WRONG, found[1], "install runc 1.1 or newer")
    if numbers < SAFE_RUNC.get((numbers[0], numbers[1]), (1, 3, 7)):
        remedy = "install runc 1.3.7, 1.4.4, 1.5.3 or newer (CVE-2026-119101); preflight refuses what it is about"
        return Check("runc", Level.DOUBTFUL, found[1], remedy)
    return Check("runc", Level.FINE, found[1])


def _criu(host: Host) -> Check:
    return Check("criu", Level.FINE, find_criu(host.settings.criu_path).version)


def _kernel(host: Host) -> Check:
    """`criu check`: what CRIU needs of this kernel."""
    complaint = check_kernel(host.settings.criu_path)
    if complaint:
        return Check("criu check", Level.WRONG, complaint, "run `criu check` there; another kernel may be needed")
    return Check("criu check", Level.FINE, "looks good")


def _criu_configuration(host: Host) -> Check:
    del host
    found = find_options()
    if found:
        remedy = "see that every host has the same: CRIU takes these over what it is asked for"
        return Check("criu configuration", Level.DOUBTFUL, found, remedy)
    return Check("criu configuration", Level.FINE, "none")


def _programs(host: Host) -> Check:
    del host
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return Check("programs", Level.WRONG, f"missing: {', '.join(missing)}", PROGRAMS[missing[0]])
    return Check("programs", Level.FINE, ", ".join(PROGRAMS))


def _memory(host: Host) -> Check:
    del host
    return _amount("memory", free_memory_bytes(), "free memory on this host")


def _room_in_memory(host: Host) -> Check:
    place = host.settings.run_dir
    return _amount(f"room in {place}", _free_bytes(place), f"make room in {place}: memory images go there first")


def _room_on_disk(host: Host) -> Check:
    place = host.settings.state_dir
    remedy = f"make room in {place}: memory images go there when they do not fit into memory"
    return _amount(f"room in {place}", _free_bytes(place), remedy)


def _store(host: Host) -> Check:
    host.objects.probe()
    return Check("store", Level.FINE, host.objects.location)


def _amount(name: str, free_bytes: int, remedy: str) -> Check:
    level = Level.FINE if free_bytes >= SCARCE_BYTES else Level.WRONG
    return Check(name, level, f"{free_bytes / 1e6:.0f} MB free", "" if level is Level.FINE else remedy)


def _free_bytes(place: Path) -> int:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
