"""Open files that CRIU cannot dump, or cannot open again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from migrator.criu.configuration import ghost_limit_bytes, searched_directories
from migrator.models.preflight import Finding
from migrator.service.preflight.processes import DELETED, OpenFile, Process, Watch
from migrator.service.preflight.subject import Subject

UNKNOWN_TO_CRIU = {
    "io_uring": ("io_uring", "turn io_uring off in the program"),
    "userfaultfd": ("userfaultfd", "end what uses userfaultfd in the program"),
    "perf_event": ("perf_event", "end the profiling"),
    "bpf-prog": ("bpf", "unload the BPF program"),
    "bpf_link": ("bpf", "detach the BPF program"),
    "bpf_iter": ("bpf", "close the BPF iterator"),
    "btf": ("bpf", "close the BTF object"),
    "fscontext": ("mount_context", "end the mounting"),
    "landlock-ruleset": ("landlock", "restrict the program before it opens anything else, or not at all"),
    "seccomp notify": ("seccomp_notify", "end the program that answers for seccomp"),
    "kvm-vm": ("kvm", "stop the virtual machine"),
    "kvm-vcpu": ("kvm", "stop the virtual machine"),
    "sync_file": ("sync_file", "end what uses the graphics processor"),
    "dmabuf": ("dmabuf", "end what uses the graphics processor"),
}
"""Kinds of anonymous files, the code of their refusal, and what to do about them."""
KNOWN_TO_CRIU = ("eventfd", "eventpoll", "signalfd", "timerfd", "inotify", "fanotify", "pidfd", "bpf-map")
MEMORY_MAJOR, TTY_MAJORS, MISC_MAJOR = 1, (4, 5, *range(136, 144)), 10
TUN_MINOR = 200
MEMORY_PATHS = ("/dev/zero", "/dev/null", "/dev/shm/", "/dev/hugepages/")
"""Below /dev, and yet memory and no device."""
PTY_SLAVES = range(136, 144)
PTY_MASTER = os.makedev(5, 2)
WITHOUT_HANDLES = "overlay"
"""A file system that opens no file by its handle, which is how CRIU finds what is watched."""
SEARCHED = ("/etc", "/var/spool", "/var/log", "/lib/udev", "/usr/lib/udev")
"""What CRIU finds without a handle: directories and files below these (criu/irmap.c)."""
SEARCH_LIMIT = 50_000


def check_anonymous(subject: Subject) -> Iterator[Finding]:
    """Files without a path: io_uring, userfaultfd, perf, BPF and others hold state that CRIU does not know."""
    for process in subject.processes:
        kinds = [anonymous_kind(file.target) for file in process.files]
        kinds += [anonymous_kind(name) for name in process.mapped]
        for kind in sorted({kind for kind in kinds if kind and kind not in KNOWN_TO_CRIU}):
            code, remedy = UNKNOWN_TO_CRIU.get(kind, ("unknown_file", "close it"))
            yield subject.refusal("anonymous", code, f"uses {kind} ({process})", remedy)


def check_devices(subject: Subject) -> Iterator[Finding]:
    """The state of a device is outside of the container; CRIU has plug-ins for very few."""
    for process in subject.processes:
        for file in process.files:
            if is_foreign_device(file):
                device = f"{os.major(file.node)}:{os.minor(file.node)}"
                fault = f"has the device {file.target} ({device}) open ({process})"
                yield subject.refusal("devices", "open_device", fault, "let the program close it")
        for name in sorted(process.mapped):
            if name.startswith("/dev/") and not name.startswith(MEMORY_PATHS):
                fault = f"has the device {name} mapped ({process})"
                yield subject.refusal("devices", "open_device", fault, "let the program close it")


def check_open_terminals(subject: Subject) -> Iterator[Finding]:
    """The other end of an open terminal must be inside too."""
    masters = any(file.node == PTY_MASTER for process in subject.processes for file in process.files)
    inside = _device_of(subject.root / "dev/pts")
    for process in subject.processes:
        for file in process.files:
            if os.major(file.node) in PTY_SLAVES and (file.device != inside or not masters):
                fault = f"has a terminal open whose other end is outside ({process}, {file.target})"
                yield subject.refusal("open-terminals", "open_terminal", fault, "start the program without a terminal")
                break


def check_deleted(subject: Subject) -> Iterator[Finding]:
    """CRIU carries files without a name in its images up to its ghost limit."""
    limit_bytes = ghost_limit_bytes()
    for process in subject.processes:
        for file in process.files:
            if is_ghost(file) and file.size_bytes > limit_bytes:
                sizes = f"{file.size_bytes / 1e6:.1f} MB of {limit_bytes / 1e6:.1f} MB"
                fault = f"holds a large deleted file open ({process}, {file.target.removesuffix(DELETED)}, {sizes})"
                remedy = (
                    "let the program close it, or raise the limit on the source: ghost-limit in /etc/criu/runc.conf"
                )
                yield subject.refusal("deleted", "ghost_file", fault, remedy)


def check_watches(subject: Subject) -> Iterator[Finding]:
    """CRIU finds what is watched by a file handle, which an overlay does not open, or by searching some directories."""
    watched = [(process, watch) for process in subject.processes for watch in _watches(process)]
    overlays = _devices_of(subject, WITHOUT_HANDLES) if watched else frozenset()
    doubtful = [(process, watch) for process, watch in watched if watch.device in overlays]
    found = _found_by_search(subject) if doubtful else frozenset()
    for process, watch in doubtful:
        if watch.inode not in found:
            fault = f"watches files of its image by {watch.kind} ({process}, inode {watch.inode})"
            remedy = "watch a tmpfs or a volume instead, or add irmap-scan-path to /etc/criu/runc.conf on the source"
            yield subject.refusal("watches", "watch_on_overlay", fault, remedy)


def anonymous_kind(target: str) -> str:
    """Return the kind of a file without a path; empty for any other."""
    if target.startswith("/dmabuf:"):
        return "dmabuf"
    plain = target.removeprefix("/")
    return plain.removeprefix("anon_inode:").strip("[]") if plain.startswith("anon_inode:") else ""


def is_foreign_device(file: OpenFile) -> bool:
    """Whether this is a device that CRIU cannot carry over."""
    if stat.S_ISBLK(file.mode):
        return True
    if not stat.S_ISCHR(file.mode):
        return False
    major, minor = os.major(file.node), os.minor(file.node)
    return not (major in (MEMORY_MAJOR, *TTY_MAJORS) or (major, minor) == (MISC_MAJOR, TUN_MINOR))


def is_ghost(file: OpenFile) -> bool:
    """Whether this is a plain file that has no name any more; memory files (memfd) are memory and have no limit."""
    memory = file.target.startswith(("/memfd:", "/dev/zero", "/SYSV"))
    return stat.S_ISREG(file.mode) and file.links == 0 and file.target.endswith(DELETED) and not memory


def _device_of(path: Path) -> int:
    try:
        return path.stat().st_dev
    except OSError:
        return 0


def _devices_of(subject: Subject, kind: str) -> frozenset[int]:
    """The device numbers of all mounts of a kind (proc(5), mountinfo)."""
    found = set()
    for line in Path(f"/proc/{subject.task.pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == kind:
            major, minor = before.split()[2].split(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


def _watches(process: Process) -> frozenset[Watch]:
    return frozenset(watch for file in process.files for watch in file.watches)


def _found_by_search(subject: Subject) -> frozenset[int]:
    """The inodes that CRIU finds by searching. A link would lead out of the container and is not followed."""
    tops = (subject.root / place.lstrip("/") for place in (*SEARCHED, *searched_directories()))
    plain = (top for top in tops if not any(part.is_symlink() for part in _below(subject.root, top)))
    return frozenset(islice((inode for top in plain for inode in _inodes_below(top)), SEARCH_LIMIT))


def _below(root: Path, path: Path) -> list[Path]:
    return [part for part in (path, *path.parents) if part != root and root in part.parents]


def _inodes_below(top: Path) -> Iterator[int]:
    for path in chain((top,), top.rglob("*")):
        with suppress(OSError):
            yield path.lstat().st_ino
