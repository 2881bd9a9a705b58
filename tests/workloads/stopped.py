"""A process that was stopped by SIGSTOP."""

from tests.workloads.images import Program

WORKLOAD = Program("stopped.py", wide=True)
