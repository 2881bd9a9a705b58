"""`python -m tests.backup_costs [MIB]`: what backups cost, beside podman and restic, written into docs/backups.md.

One program, the same on both sides and at the same time on the same machine: much memory of random bytes, of which
nothing, a tenth or all changes between two backups. migrator backs it up; podman 5 exports a checkpoint (`--leave-running
--compress=none`) and restic takes the file into its repository. Stored bytes are what the bucket and the repository
grow by; the freeze is the longest gap that the program itself saw.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from migrator.lab.host import Host
from migrator.lab.images import build_image
from migrator.lab.lab import Shape
from migrator.lab.recipes import IMAGES_DIR
from migrator.lab.rootfs import ensure_root
from tests.acceptance.cluster import Cluster
from tests.compare_podman import DISK, NAME, PODMAN, RECIPE, Machine, PodmanLab, PodmanRunning
from tests.conftest import lab_name, running_lab
from tests.workloads import Running

MIB = 256
PROGRAM = Path(__file__).parent / "workloads" / "programs" / "changing.py"
PAGE = Path(__file__).parents[1] / "docs" / "backups.md"
BEGIN, END = "<!-- begin: written by `make backup-costs` -->\n", "<!-- end -->\n"
ORDERS = (
    ("the first backup", ""),
    ("the next, nothing changed", ""),
    ("the next, a tenth changed in one stretch", "stretch 10"),
    ("the next, a tenth of all pages changed here and there", "scattered 10"),
    ("the next, all changed", "stretch 100"),
)
COSTS_RECIPE = dataclasses.replace(RECIPE, packages=(*RECIPE.packages, "restic"))
RESTIC = ("restic", f"--repo={DISK}/restic", "--no-cache", "--quiet")
STORE_SIZE = """
import boto3, os
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=os.environ["MIGRATOR_S3_ENDPOINT"], region_name="us-east-1",
    aws_access_key_id=os.environ["MIGRATOR_S3_ACCESS_KEY"], aws_secret_access_key=os.environ["MIGRATOR_S3_SECRET_KEY"],
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}))
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="migrator")
print(sum(item["Size"] for page in pages for item in page.get("Contents", [])))
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one backup took."""

    stored_bytes: int
    took_s: float
    freeze_ms: float


def changing_image(root: Path, size_mib: int) -> Path:
    """Make the image of the program."""
    return build_image(
        root,
        IMAGES_DIR,
        name=f"migrator.local/changing-{size_mib}:1",
        packages=["python3-minimal", "libpython3-stdlib"],
        files={"/opt/changing.py": PROGRAM},
        entrypoint=["/usr/bin/python3", "-B", "/opt/changing.py", str(size_mib)],
    )


class Side:
    """One of the two: a container, and how it is backed up."""

    container: Running

    def back_up(self) -> None:
        """Make one backup."""
        raise NotImplementedError

    def stored_bytes(self) -> int:
        """How much is stored by now."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Send the program a signal."""
        os.kill(self.container.pid, number)

    def cost(self, order: str) -> Cost:
        """Let the program change what it is told, then back it up and look."""
        if order:
            before = self.container.state()["counter"]
            (self.container.root / "state/order").write_text(order)
            self.signal(signal.SIGUSR2)
            self.container.wait_until(lambda state: state["counter"] > before)
            time.sleep(1)
        stored, began = self.stored_bytes(), time.monotonic()
        self.signal(signal.SIGUSR1)
        self.back_up()
        took_s = time.monotonic() - began
        time.sleep(0.5)
        return Cost(self.stored_bytes() - stored, took_s, self.container.state()["longest_gap_ms"])


class OurSide(Side):
    """migrator in a lab, with its object store."""

    def __init__(self, cluster: Cluster, archive: Path, size_mib: int):
        self.cluster = cluster
        host = cluster["alpha"]
        host.host.import_image(archive)
        image = f"migrator.local/changing-{size_mib}:1"
        host.ctr("run", "--detach", "--null-io", image, "small", "/usr/bin/python3", "-B", "/opt/changing.py", "1")
        self.container = Running(host, "small")
        self.container.wait_until(lambda state: True)
        self.back_up()  # now the base image is in the store: podman's export has none
        cluster.remove("small")
        host.ctr("run", "--detach", "--null-io", image, "large")
        self.container = Running(host, "large")
        self.container.wait_until(lambda state: True)

    def back_up(self) -> None:
        job = self.cluster.done("backup", str(self.container), "--wait", timeout_s=300)
        assert job["state"] == "succeeded", job

    def stored_bytes(self) -> int:
        settings = self.cluster["alpha"].host.service("worker").spec.environment
        wanted = {key: value for key, value in settings.items() if key.startswith("MIGRATOR_S3")}
        done = self.cluster.lab.control.exec(["python3", "-c", STORE_SIZE], timeout_s=60, environment=wanted)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)


class TheirSide(Side):
    """podman, and a repository of restic's on the same disk."""

    def __init__(self, host: Host, archive: Path):
        self.machine = Machine(host)
        image = self.machine.load(archive)
        run = ("run", "--detach", "--network=none", "--security-opt=seccomp=unconfined", f"--name={NAME}", image)
        self.machine.podman(*run)
        self.container = PodmanRunning(self.machine, NAME)
        self.container.wait_until(lambda state: True)
        self._restic("init")

    def back_up(self) -> None:
        export = (f"--export={DISK}/export.tar", "--compress=none", "--leave-running")
        self.machine.run(*PODMAN, "container", "checkpoint", *export, NAME, timeout_s=300)
        self._restic("backup", f"{DISK}/export.tar")
        (self.machine.disk / "export.tar").unlink()

    def stored_bytes(self) -> int:
        files = (self.machine.disk / "restic").rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def _restic(self, *words: str) -> None:
        environment = {"RESTIC_PASSWORD": "for measuring only"}
        done = self.machine.host.exec([*RESTIC, *words], timeout_s=300, environment=environment)
        assert done.returncode == 0, done.stderr


def table(rows: list[tuple[str, Cost, Cost]]) -> str:
    """Write the costs as a table."""
    head = (
        "| backup | migrator stores | podman + restic | migrator's freeze | podman's | migrator takes | podman + restic |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    lines = []
    for what, ours, theirs in rows:
        stored = f"{_size(ours.stored_bytes)} | {_size(theirs.stored_bytes)}"
        freeze = f"{ours.freeze_ms:.0f} ms | {theirs.freeze_ms:.0f} ms"
        lines.append(f"| {what} | {stored} | {freeze} | {ours.took_s:.1f} s | {theirs.took_s:.1f} s |\n")
    in_all = " | ".join(map(_size, stored_in_all(rows)))
    return head + "".join(lines) + f"| all five | {in_all} | | | | |\n"


def stored_in_all(rows: list[tuple[str, Cost, Cost]]) -> tuple[int, int]:
    """Add up what each side stores."""
    return sum(ours.stored_bytes for _, ours, _ in rows), sum(theirs.stored_bytes for _, _, theirs in rows)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def versions(machine: Machine) -> str:
    """Say what was used."""
    told = {name: machine.run(*words).split()[position] for name, words, position in VERSIONS}
    return ", ".join(f"{name} {word}" for name, word in told.items()) + f", kernel {platform.release()}"


VERSIONS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("podman", ("podman", "--version"), 2),
    ("restic", ("restic", "version"), 1),
    ("CRIU", ("criu", "--version"), 1),
)


def write_page(size_mib: int, text: str, used: str) -> None:
    """Put the table into its place on the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    said = f"{size_mib} MiB of random bytes; {used}.\n\n"
    PAGE.write_text(before + BEGIN + "\n" + said + text + "\n" + END + after)


def main() -> int:
    """Measure both; exit status 1 when migrator stores more in all, or freezes longer anywhere."""
    size_mib = int(sys.argv[1]) if len(sys.argv) > 1 else MIB
    root = ensure_root(print)
    ensure_root(print, COSTS_RECIPE)
    archive = changing_image(root, size_mib)
    with lab_name("costs-podman") as name, contextlib.ExitStack() as ending:
        their_lab = PodmanLab(name, COSTS_RECIPE)
        their_lab.down()
        ending.callback(their_lab.down)
        their_lab.up(Shape(hosts=1, control=False))
        our_lab = ending.enter_context(running_lab("costs", Shape(hosts=1)))
        ours = OurSide(Cluster(our_lab, root), archive, size_mib)
        theirs = TheirSide(next(iter(their_lab.hosts.values())), archive)
        rows = [_row(what, order, ours.cost, theirs.cost) for what, order in ORDERS]
        write_page(size_mib, table(rows), versions(theirs.machine))
    stored = stored_in_all(rows)
    behind = [what for what, our, their in rows if our.freeze_ms > their.freeze_ms]
    print(json.dumps({"stored_bytes": stored, "longer_freeze": behind}))
    return 1 if behind or stored[0] > stored[1] else 0


def _row(what: str, order: str, ours: Callable[[str], Cost], theirs: Callable[[str], Cost]) -> tuple[str, Cost, Cost]:
    row = what, ours(order), theirs(order)
    print(json.dumps({"backup": what, **{"ours": dataclasses.asdict(row[1]), "theirs": dataclasses.asdict(row[2])}}))
    return row


if __name__ == "__main__":
    sys.exit(main())
