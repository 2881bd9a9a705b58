"""nginx that serves a download of 1 GiB to curl."""

from tests.workloads.images import Program

WORKLOAD = Program("nginx.py", packages=["nginx-light", "curl"])
