"""One daemon for the session, and containers made by our own client only."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from migrator.containerd import (
    Container,
    ContainerdClient,
    Image,
    ProcessIO,
    RuncOptions,
    Task,
    Version,
    chain_id,
    pack_message,
    read_manifest,
    unpack_image,
)
from migrator.errors import MigratorError, NotFound, Unavailable
from migrator.lab.host import Host
from migrator.lab.recipes import shell_image
from migrator.lab.service import Service

IMAGE = "migrator.local/counter:1"
COUNT = ["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /c && mv /c /count; sleep 0.02; done"]
NAMESPACES = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = ["CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_SYS_CHROOT", "CAP_SETUID", "CAP_SETGID"]


def runtime_spec(container_id: str, args: Sequence[str], *, terminal: bool = False) -> dict[str, Any]:
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
    ]
    sets = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    return {
        "ociVersion": "1.2.0",
        "process": {"args": list(args), "cwd": "/", "env": [PATH], "terminal": terminal, "user": {"uid": 0, "gid": 0},
                    "capabilities": sets},
        "root": {"path": "rootfs"},
        "hostname": container_id,
        "mounts": mounts,
        "linux": {"cgroupsPath": f"/default/{container_id}", "namespaces": NAMESPACES,
                  "resources": {"memory": {"limit": 256 << 20}}},
    }  # fmt: skip


def collect(client: ContainerdClient) -> None:
    """Let the garbage collector run now, and wait for it."""
    client.leases.delete(client.leases.create().id, sync=True)


def wait_for_version(client: ContainerdClient) -> Version:
    """A connection that broke is made anew within a second, not with the very next call."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            return client.version()
        time.sleep(0.05)
    raise AssertionError("the daemon was not found again")


def hang(daemon: Service) -> None:
    """Stop the daemon in the middle of whatever it does; SIGCONT lets it go on."""
    daemon.signal(signal.SIGSTOP)
    threads = list(Path(f"/proc/{daemon.pid}/task").iterdir())
    while any((thread / "stat").read_text().rpartition(")")[2].split()[0] != "T" for thread in threads):
        time.sleep(0.005)


class Workshop:
    """Makes containers and their tasks, and takes everything down after the test."""

    def __init__(self, host: Host, client: ContainerdClient, parent: str):
        self.host = host
        self.client = client
        self.parent = parent
        self.made: list[str] = []

    def container(self, args: Sequence[str] = COUNT, *, terminal: bool = False, name: str = "", **fields: Any) -> str:
        container_id = name or f"c{next(_NUMBERS)}"
        self.made.append(container_id)
        record = Container(
            container_id,
            image=IMAGE,
            spec=Container.pack_spec(runtime_spec(container_id, args, terminal=terminal)),
            snapshotter="overlayfs",
            snapshot_key=container_id,
            **{"runtime_options": pack_message(RuncOptions(binary_name="runc")), **fields},
        )
        with self.client.lease() as leased:  # between the two calls the collector may come by
            leased.snapshots().prepare(container_id, self.parent)
            leased.containers.create(record)
        return container_id

    def task(
        self, args: Sequence[str] = COUNT, *, io: ProcessIO | None = None, start: bool = True, **more: Any
    ) -> Task:
        terminal = io is not None and io.stdio.terminal
        container_id = self.container(args, terminal=terminal, **more)
        task = self.create(container_id, io=io)
        if start:
            task.start()
        return task

    def create(self, container_id: str, **more: Any) -> Task:
        mounts = self.client.snapshots().mounts(container_id)
        return self.client.create_task(container_id, rootfs=mounts, **more)

    def read(self, task: Task, path: str) -> str:
        return (Path(f"/proc/{task.pid}/root") / path.lstrip("/")).read_text()

    def count(self, task: Task) -> int:
        """What the counting program has reached, once it has written something."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(FileNotFoundError, ValueError):  # a program may write in place: empty for a moment
                return int(self.read(task, "count"))
            time.sleep(0.001)
        raise AssertionError("no count was ever written")

    def clear(self) -> None:
        for container_id in self.made:
            with suppress(NotFound):
                task = self.client.task(container_id)
                with suppress(MigratorError):
                    task.resume()
                task.delete(kill=True)
            with suppress(NotFound):
                self.client.containers.delete(container_id)
            with suppress(NotFound):
                self.client.snapshots().remove(container_id)


_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def host(bare_hosts: Mapping[str, Host]) -> Host:
    return bare_hosts["alpha"]


@pytest.fixture(scope="session")
def client(host: Host) -> Iterator[ContainerdClient]:
    with ContainerdClient(host.containerd_socket, timeout_s=20) as client:
        yield client


@pytest.fixture(scope="session")
def image(host: Host, client: ContainerdClient, lab_root: Path) -> Image:
    with suppress(NotFound):
        return client.images.get(IMAGE)
    host.import_image(shell_image(lab_root, "counter.sh"))
    return client.images.get(IMAGE)


@pytest.fixture(scope="session")
def parent(client: ContainerdClient, image: Image) -> str:
    manifest = read_manifest(client, image.target.digest)
    with client.lease() as leased:
        chain = unpack_image(leased, image.target.digest)
    assert chain == chain_id(manifest.diff_ids)
    return chain


@pytest.fixture
def workshop(host: Host, client: ContainerdClient, parent: str) -> Iterator[Workshop]:
    workshop = Workshop(host, client, parent)
    yield workshop
    workshop.clear()


@pytest.fixture
def leased(client: ContainerdClient) -> Iterator[ContainerdClient]:
    """The client under a lease: what a test stores is kept until the test ends."""
    with client.lease() as leased:
        yield leased


@pytest.fixture
def new_name() -> Callable[[], str]:
    return lambda: f"n{next(_NUMBERS)}"
