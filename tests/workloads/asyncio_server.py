"""An asyncio server with twenty websockets."""

from tests.workloads.images import Program

WORKLOAD = Program("asyncio_server.py", packages=["python3-websockets"], outside=True)
