"""nginx that serves a download of 64 MiB to curl, more slowly."""

from tests.workloads.nginx import Nginx

WORKLOAD = Nginx("nginx.py", "64", name="nginx_short", packages=["nginx-light", "curl"], outside=True)
