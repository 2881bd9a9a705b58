"""The demonstration: a program whose memory changes all the time moves to another host and proves that it is the same.

It uses the product as a user would, by its command line. What it says of the move comes from the program itself (its
own state file, read on the target) and from containerd's own tool, not from the product.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from migrator.errors import InternalError, MigratorError
from migrator.lab.demo_report import print_report
from migrator.lab.demo_witness import CONTAINER, Facts, Proof, Witness, downtime_s, prove
from migrator.lab.lab import Lab, Shape
from migrator.lab.recipes import python_image
from migrator.lab.rootfs import ensure_root

MEMORY_MIB = 64
SOURCE, TARGET = "alpha", "beta"
MIGRATION_S = 120.0


def migrate(api: str, report: Callable[[str], None]) -> Facts:
    """Move the container by the product's own command line, and return the job as `migrator jobs show` tells it.

    Raises:
        InternalError: `demo_migration_failed`, with the words of the command.
    """
    report(f"migrator migrate {SOURCE}/{CONTAINER} {TARGET} --wait")
    answer = _command(api, "migrate", f"{SOURCE}/{CONTAINER}", TARGET, "--wait")
    return _command(api, "jobs", "show", str(answer["id"]))


def summarise(job: Facts, after: Facts, proof: Proof) -> Facts:
    """Return what the last line says."""
    measures = job["measures"]
    return {
        "job_id": job["id"],
        "state": job["state"],
        "continuity": proof.continuity,
        "downtime_ms": round(downtime_s(after) * 1000, 1),
        "total_ms": measures["total_ms"],
        "bytes_uploaded": measures["bytes_uploaded"],
        "orchestration_ms": measures["orchestration_ms"],
        "freeze_ms": measures["freeze_ms"],
        "phases": {step["name"]: step["duration_ms"] for step in job["steps"]},
    }


def run_demo(lab_name: str = "lab", *, keep: bool = False) -> int:
    """Run the demonstration and return the exit status: 0 only if the job succeeded and the proof holds.

    Args:
        lab_name: The lab to use; brought up if it is not.
        keep: Leave the container running on the target afterwards.
    """
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, soft_wrap=False)
    began = time.monotonic()

    def report(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {line}")
        sys.stdout.flush()

    root = ensure_root(report)
    lab = Lab(lab_name)
    lab.up(Shape(), report)
    source, target = Witness(lab.host(SOURCE)), Witness(lab.host(TARGET))
    for witness in (source, target):
        witness.clear(image=True)
    try:
        return _perform(lab, root, source, target, console, report)
    finally:
        if not keep:
            for witness in (source, target):
                witness.clear(image=True)


def _perform(
    lab: Lab, root: Path, source: Witness, target: Witness, console: Console, report: Callable[[str], None]
) -> int:
    report(f"starting a program with {MEMORY_MIB} MiB of memory that changes all the time, on {SOURCE}")
    source.start(python_image(root, "ticker.py", str(MEMORY_MIB), name=CONTAINER))
    source.mark()
    before = source.state()
    report(f"it counts: {before['counter']}; {TARGET} has never seen its image")
    job = migrate(lab.api, report)
    report(f"it runs on {TARGET}; waiting until it has checked every page of its memory")
    after, proof = prove(before, source, target)
    summary = summarise(job, after, proof)
    print_report(console, job, before, after, proof, summary)
    print(json.dumps(summary), flush=True)
    return 0 if proof.continuity and job["state"] == "succeeded" else 1


def _command(api: str, *words: str) -> Facts:
    done = subprocess.run(
        [sys.executable, "-m", "migrator", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=MIGRATION_S,
        check=False,
        env={**os.environ, "MIGRATOR_API": api},
    )
    if done.returncode:
        raise InternalError(
            f"`migrator {' '.join(words)}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()}",
            code="demo_migration_failed",
            remedy="see `migrator jobs list` and the logs under `migrator lab logs`",
        )
    answer: Facts = json.loads(done.stdout)
    return answer


def main() -> None:
    """Run the demonstration as a program of its own."""
    try:
        status = run_demo()
    except MigratorError as error:
        print(f"demo failed: {error}" + (f"\n  {error.remedy}" if error.remedy else ""), file=sys.stderr)
        status = error.exit_code
    sys.exit(status)


if __name__ == "__main__":
    main()
