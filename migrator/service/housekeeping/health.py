"""How a host is: whether what a migration needs is there, fits together and has room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from migrator.criu.configuration import find_options
from migrator.criu.program import check_kernel, find_criu
from migrator.errors import MigratorError
from migrator.models.housekeeping import Check, Level
from migrator.models.preflight import Grade
from migrator.service.host import Host
from migrator.service.preflight.traits import read_runc_version
from migrator.service.preflight.versions import known_faults
from migrator.service.room import free_memory_bytes
from migrator.storage.probing import probe_store

SCARCE_BYTES = 256 << 20
"""Less than this is hardly enough for one container."""
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
    return _judged("containerd", host.containerd.version().version)


def _runc(host: Host) -> Check:
    del host
    version = read_runc_version()
    if not version:
        return Check("runc", Level.WRONG, "not found", "install runc 1.1 or newer, where the worker's PATH finds it")
    return _judged("runc", version)


def _judged(program: str, version: str) -> Check:
    """The worst that is known of a version."""
    faults = {entry.grade: entry for entry in known_faults(program, version)}
    worst = faults.get(Grade.FAIL) or faults.get(Grade.WARN)
    if worst is None:
        return Check(program, Level.FINE, version)
    level = Level.WRONG if worst.grade is Grade.FAIL else Level.DOUBTFUL
    return Check(program, level, version, f"{worst.remedy} ({program} {worst.fault})")


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
    probe_store(host.objects)
    return Check("store", Level.FINE, host.objects.location)


def _amount(name: str, free_bytes: int, remedy: str) -> Check:
    level = Level.FINE if free_bytes >= SCARCE_BYTES else Level.WRONG
    return Check(name, level, f"{free_bytes / 1e6:.0f} MB free", "" if level is Level.FINE else remedy)


def _free_bytes(place: Path) -> int:
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
