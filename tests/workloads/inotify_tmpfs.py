"""inotify on a directory of a tmpfs."""

from tests.workloads.images import Program

WORKLOAD = Program("inotify.py", "/dev/shm/watched", name="inotify_tmpfs", wide=True)
