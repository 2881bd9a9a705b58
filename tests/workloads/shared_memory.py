"""Two processes with five kinds of shared memory: anonymous, memfd, POSIX, POSIX without a name, System V."""

from tests.workloads.images import Program

WORKLOAD = Program("shared_memory.py")
