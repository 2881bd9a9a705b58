"""A server in Node.js with eight connected clients, under containerd's seccomp profile, which keeps io_uring from it."""

from tests.workloads.images import PROGRAMS_DIR, Program

WORKLOAD = Program(
    "lines.py",
    *("/usr/bin/node", "/opt/node.js"),
    name="node",
    outside=True,
    packages=["nodejs"],
    files={"/opt/node.js": PROGRAMS_DIR / "node.js"},
    run_options=("--seccomp",),
)
