"""SQLite with a write-ahead log, open in two connections."""

from tests.workloads.images import Program

WORKLOAD = Program("sqlite.py", "/data")
