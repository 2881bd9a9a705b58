"""Where the output of a container goes, and whether it can go on there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict

from migrator.models.preflight import Finding, Grade
from migrator.models.streams import fifos, log_programs
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.subject import Subject

CHECK = "streams"


def check_streams(subject: Subject) -> Iterator[Finding]:
    """A FIFO's other end is a process of this host: it gets all that was written before, and nothing after."""
    if found := fifos(asdict(subject.task.stdio())):
        message = (
            f"container '{subject.container.id}' has FIFOs ({', '.join(found)}): after the restore "
            "its input is at its end and its output goes nowhere"
        )
        yield Finding(CHECK, Grade.WARN, message, "fifos", "start it with a log file: ctr run --log-uri file:///PATH")


def check_programs(arrival: Arrival) -> Iterator[Finding]:
    """A log program is started by the shim on the target."""
    missing = [path for path in log_programs(arrival.facts.get("stdio") or {}) if not os.access(path, os.X_OK)]
    if missing:
        message = f"log programs are not on the target: {', '.join(missing)}"
        yield Finding("programs", Grade.FAIL, message, "log_program_missing", "install them there")
