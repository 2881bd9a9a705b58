"""PostgreSQL with pgbench running and one more open session."""

from pathlib import Path

from tests.workloads.images import Program

CAP_SYS_RESOURCE = 24


def criu_reads_limits_of_all() -> bool:
    """Say whether CRIU may have the capability that it needs to dump processes of other users than its own."""
    allowed = Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0]
    return bool(int(allowed, 16) >> CAP_SYS_RESOURCE & 1)


WORKLOAD = Program(
    "postgres.py",
    *([] if criu_reads_limits_of_all() else ["--as-root"]),
    packages=["postgresql"],
    outside=True,
)
