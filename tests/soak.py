"""`python -m tests.soak`: move a program back and forth, with faults at random, and count what was lost.

A server with an open file counts for a client; each number is in two books (see `tests/workloads/ledger.py`). Every
other move meets a fault from `tests/acceptance/faults/cases.py`. Prints a line of JSON for each move and a summary as
the last one; exit status 1 when a number was lost or doubled, two copies ran, or anything was left over.

    MOVES     200 when not given
    SEED      decides the faults; by chance when not given, and printed
    LIMIT_S   stop earlier, after so many seconds
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrator.errors import MigratorError
from migrator.lab.lab import Lab, Shape
from migrator.lab.rootfs import ensure_root
from tests.acceptance.cluster import Cluster
from tests.acceptance.faults.cases import ALL
from tests.acceptance.faults.scene import Fault, Scene
from tests.acceptance.faults.witness import Witness
from tests.acceptance.inventory import settled_difference, take_inventory
from tests.conftest import running_lab
from tests.workloads import Running
from tests.workloads.ledger import Ledger

NAME = "soak"
LEDGER = Ledger()
CALM = 0.5
"""So many moves of one meet no fault."""
SLOW = ("criu-hangs-at-dump",)
"""Cases that take half a minute each."""
MAY_GROW_MB, MAY_GROW_FDS = 60, 40
"""So much more may a process have at its end than after its first moves."""


@dataclass
class Course:
    """How a run goes."""

    seed: int
    moves: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    violation: str | None = None
    left_over: list[str] = field(default_factory=list)
    books: dict[str, int] = field(default_factory=dict)
    growth: list[dict[str, Any]] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def good(self) -> bool:
        """Nothing lost, nothing doubled, nothing left, nothing that grows."""
        wrong = any(self.books.get(name, 1) for name in ("lost", "doubled", "faults"))
        return not (self.violation or self.left_over or wrong or any(row["grew"] for row in self.growth))


def run(moves: int, seed: int, limit_s: float) -> Course:
    """Move a program so often."""
    course, began = Course(seed), time.monotonic()
    root = ensure_root()
    with running_lab("soak", Shape(hosts=2)) as lab:
        cluster = Cluster(lab, root)
        cluster.import_image(LEDGER, *cluster.machines)
        container = _settled_in(cluster)
        before = take_inventory(lab)
        witness, processes = Witness(lab, NAME), Processes(lab)
        witness.start()
        try:
            draw = random.Random(seed)
            while course.moves < moves and time.monotonic() - began < limit_s:
                container = _move(cluster, container, witness, draw, course)
                processes.look()
            course.books = LEDGER.audit(container)
            gained, lost = settled_difference(lab, before, moved=NAME)
            course.left_over = [*gained, *(f"missing: {line}" for line in lost)]
            course.growth = processes.growth()
        except (AssertionError, MigratorError) as error:
            course.violation = f"{type(error).__name__}: {error}"
        finally:
            witness.stop()
    course.took_s = round(time.monotonic() - began, 1)
    return course


def _settled_in(cluster: Cluster) -> Running:
    """Start the program and move it there and back, so that what stays after the first move is there."""
    container = cluster.start(LEDGER, "alpha", NAME)
    for host in ("beta", "alpha"):
        container = cluster.migrate(container, host)
    return container


def _move(cluster: Cluster, container: Running, witness: Witness, draw: random.Random, course: Course) -> Running:
    """Move once, with or without a fault, and say how it went."""
    fault: Fault | None = None if draw.random() < CALM else draw.choice([case for case in ALL if case.name not in SLOW])
    course.moves += 1
    scene, began = Scene(cluster, LEDGER, container, witness), time.monotonic()
    try:
        if fault is None:
            scene.begin()
            job = scene.judge(("succeeded",))
        else:
            job = scene.play(fault)
    except AssertionError as error:
        raise AssertionError(f"move {course.moves}, {fault or 'no fault'}: {error}") from error
    finally:
        scene.api.close()
    course.ended[job.phase] = course.ended.get(job.phase, 0) + 1
    if fault is not None:
        course.faults[fault.name] = course.faults.get(fault.name, 0) + 1
    told = {
        "move": course.moves,
        "fault": str(fault or "-"),
        "ended": job.phase,
        "s": round(time.monotonic() - began, 1),
    }
    print(json.dumps(told), flush=True)
    return scene.container


class Processes:
    """What the product's own processes and containerd take, from look to look; one that was restarted begins anew."""

    def __init__(self, lab: Lab):
        self._lab = lab
        self._seen: dict[tuple[str, int], list[tuple[int, int]]] = {}

    def look(self) -> None:
        """Note memory and descriptors of each."""
        for host in self._lab.all_hosts.values():
            for name, service in host.services.items():
                pid = service.pid
                if pid is not None:
                    self._seen.setdefault((f"{host.name}/{name}", pid), []).append(_taken(pid))

    def growth(self) -> list[dict[str, Any]]:
        """For each service the process that lived longest: what it took after a few moves and in the end."""
        longest: dict[str, list[tuple[int, int]]] = {}
        for (name, _), seen in self._seen.items():
            if len(seen) > len(longest.get(name, [])):
                longest[name] = seen
        return [_compared(name, seen) for name, seen in sorted(longest.items())]


def _compared(name: str, seen: list[tuple[int, int]]) -> dict[str, Any]:
    first, last = seen[min(4, len(seen) - 1)], seen[-1]
    ours = not name.endswith(("/s3", "/redis"))
    grew = ours and (last[0] - first[0] > MAY_GROW_MB or last[1] - first[1] > MAY_GROW_FDS)
    return {"process": name, "moves": len(seen), "mb": [first[0], last[0]], "fds": [first[1], last[1]], "grew": grew}


def _taken(pid: int) -> tuple[int, int]:
    """MB of memory and the number of descriptors of a process (proc(5)); nothing when it has just died."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        memory_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        return memory_kb // 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (OSError, StopIteration):
        return 0, 0


def main() -> int:
    """Run, tell, and judge."""
    moves = int(os.environ.get("MOVES", "200"))
    seed = int(os.environ.get("SEED") or secrets.randbelow(1 << 32))
    print(json.dumps({"moves": moves, "seed": seed}), flush=True)
    course = run(moves, seed, float(os.environ.get("LIMIT_S", "inf")))
    print(json.dumps({**vars(course), "good": course.good}), flush=True)
    return 0 if course.good else 1


if __name__ == "__main__":
    sys.exit(main())
