"""A server that forks a process for each of its eight clients."""

from tests.workloads.images import PROGRAMS_DIR, Program

WORKLOAD = Program(
    "lines.py",
    *("/usr/bin/python3", "-B", "/opt/forking.py"),
    name="forking",
    outside=True,
    files={"/opt/forking.py": PROGRAMS_DIR / "forking.py"},
)
