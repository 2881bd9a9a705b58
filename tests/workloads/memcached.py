"""memcached with four connected clients."""

from tests.workloads.images import Program

WORKLOAD = Program("memcached.py", packages=["memcached"], outside=True)
