"""An ssh session with sshd at the other end."""

from tests.workloads.images import Program

WORKLOAD = Program("sshd.py", packages=["openssh-server", "openssh-client"])
