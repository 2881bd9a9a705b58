"""Unix sockets of every kind, with data, a descriptor and a connection on their way."""

from tests.workloads.images import Program

WORKLOAD = Program("unix_sockets.py")
