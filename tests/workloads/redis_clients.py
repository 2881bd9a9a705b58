"""redis-server with three connected clients: one counts, one waits in a list, one subscribes."""

from tests.workloads.images import Program

WORKLOAD = Program("redis_clients.py", packages=["redis-server"], outside=True)
