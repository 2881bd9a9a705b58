"""Memory that is moved, unmapped, emptied, protected and forked all the time, by several threads."""

from tests.workloads.images import Program

WORKLOAD = Program("arena.py")
