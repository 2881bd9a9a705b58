"""inotify on a directory of the container's own files."""

from tests.workloads.images import Program

WORKLOAD = Program("inotify.py", "/state/watched")
