"""`python -m tests.backup_soak`: back a changing program up again and again while others forget and prune.

A backup every 10 seconds; beside them, all the time, old backups are forgotten and the store is pruned with no grace.
At the end every backup that is left is restored on the other host, must be the same program as it was then, with all of
its memory right. Prints a line of JSON for each restore and a summary as the last one; exit status 1 when one does not
restore or anything went wrong on the way.

    BACKUPS_S   300 when not given
    EVERY_S    10
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from migrator.lab.lab import Shape
from migrator.lab.rootfs import ensure_root
from tests.acceptance.cluster import Cluster
from tests.conftest import running_lab
from tests.workloads import WORKLOADS, Running

NAME = "kept"
COPY = "copy"
KEPT = 8
BETWEEN_PRUNES_S = 3.0
MOVE_S = 120.0
WORKLOAD = WORKLOADS["ticker"]


@dataclass
class Course:
    """How a run went."""

    backups: int = 0
    forgotten: int = 0
    prunes: int = 0
    freed_bytes: int = 0
    restored: int = 0
    wrong: list[str] = field(default_factory=list)


def run(seconds: float, every_s: float) -> Course:
    """Back up for so long, then restore all that is left."""
    course = Course()
    root = ensure_root()
    with running_lab("backups", Shape(hosts=2)) as lab:
        cluster = Cluster(lab, root)
        container = cluster.start(WORKLOAD, "alpha", NAME)
        seen: dict[str, dict[str, Any]] = {}
        over = threading.Event()
        pruning = threading.Thread(target=_prune, args=(cluster, course, over))
        pruning.start()
        try:
            _back_up(cluster, container, course, seen, seconds, every_s)
        finally:
            over.set()
            pruning.join(timeout=MOVE_S)
        _prune_once(cluster, course)
        for row in cluster.done("checkpoints", "list"):
            _restore(cluster, row["id"], seen[row["id"]], course)
        if course.restored < min(KEPT, course.backups):
            course.wrong.append(f"only {course.restored} were left to restore")
    return course


def _back_up(
    cluster: Cluster,
    container: Running,
    course: Course,
    seen: dict[str, dict[str, Any]],
    seconds: float,
    every_s: float,
) -> None:
    """Make a backup at every beat, and note what the program had said before each."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        before, beat = container.state(), time.monotonic()
        answer = cluster.cli("backup", str(container), "--wait", timeout_s=MOVE_S)
        if answer.code:
            course.wrong.append(answer.said)
        else:
            seen[answer.data["checkpoint_id"]] = before
            course.backups += 1
        time.sleep(max(0.0, every_s - (time.monotonic() - beat)))


def _prune(cluster: Cluster, course: Course, over: threading.Event) -> None:
    """Forget and prune until told to stop."""
    while not over.wait(BETWEEN_PRUNES_S):
        answer = cluster.cli("forget", f"alpha/{NAME}", "--keep-last", str(KEPT), timeout_s=MOVE_S)
        if answer.code == 0:
            course.forgotten += sum(not row["keep"] for row in answer.data["forget"])
        elif answer.error["code"] not in ("nothing_selected", "container_not_found"):  # before the first backup
            course.wrong.append(answer.said)
        _prune_once(cluster, course)


def _prune_once(cluster: Cluster, course: Course) -> None:
    answer = cluster.cli("prune", "--grace", "0", timeout_s=MOVE_S)
    if answer.code:
        course.wrong.append(answer.said)
        return
    course.prunes += 1
    course.freed_bytes += answer.data["prune"]["freed_bytes"]


def _restore(cluster: Cluster, checkpoint_id: str, before: dict[str, Any], course: Course) -> None:
    """Restore one beside the original, and let it check itself."""
    told: dict[str, Any] = {"checkpoint": checkpoint_id, "counter": before["counter"]}
    try:
        cluster.done("restore", checkpoint_id, "beta", "--name", COPY, "--wait", timeout_s=MOVE_S)
        after = WORKLOAD.check(before, Running(cluster["beta"], COPY))
        course.restored += 1
        told["verified_pages"] = after["verified_pages"]
    except AssertionError as error:
        course.wrong.append(f"{checkpoint_id}: {error}")
        told["wrong"] = str(error)
    finally:
        cluster.remove(COPY)
    print(json.dumps(told), flush=True)


def main() -> int:
    """Run, and judge."""
    course = run(float(os.environ.get("BACKUPS_S") or 300), float(os.environ.get("EVERY_S") or 10))
    print(json.dumps(asdict(course)))
    return 1 if course.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
