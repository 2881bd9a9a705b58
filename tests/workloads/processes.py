"""Sessions, groups, an orphan, a zombie; priority, limits, umask, signal masks."""

from tests.workloads.images import Program

WORKLOAD = Program("processes.py", wide=True)
