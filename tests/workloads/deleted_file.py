"""A deleted file of 256 KiB, open twice."""

from tests.workloads.images import Program

WORKLOAD = Program("deleted_file.py", "256")
