"""An open io_uring."""

from tests.workloads.images import Program

WORKLOAD = Program("io_uring.py", wide=True)
