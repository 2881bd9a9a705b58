"""The same on a volume that travels as a copy."""

from tests.workloads.images import Program

WORKLOAD = Program("sqlite.py", "/data", name="sqlite_volume", volume="/data")
