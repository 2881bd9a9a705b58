"""flock, fcntl and open-file-description locks, held against another process."""

from tests.workloads.images import Program

WORKLOAD = Program("file_locks.py")
