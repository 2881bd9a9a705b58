"""A deleted file of 8 MiB, open twice."""

from tests.workloads.images import Program

WORKLOAD = Program("deleted_file.py", "8192", name="deleted_large", wide=True)
