"""A server in Node.js with eight connected clients."""

from tests.workloads.images import PROGRAMS_DIR, Program

WORKLOAD = Program(
    "lines.py",
    *("/usr/bin/node", "/opt/node.js"),
    name="node",
    packages=["nodejs"],
    files={"/opt/node.js": PROGRAMS_DIR / "node.js"},
)
