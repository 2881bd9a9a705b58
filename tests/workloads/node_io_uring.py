"""The same server in Node.js without a seccomp profile: its loop opens an io_uring."""

from tests.workloads.images import PROGRAMS_DIR, Program

WORKLOAD = Program(
    "lines.py",
    *("/usr/bin/node", "/opt/node.js"),
    name="node_io_uring",
    outside=True,
    packages=["nodejs"],
    files={"/opt/node.js": PROGRAMS_DIR / "node.js"},
    wide=True,
)
