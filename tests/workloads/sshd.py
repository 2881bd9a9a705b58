"""sshd with an open session, for which it forked a process."""

from tests.workloads.images import Program

WORKLOAD = Program("sshd.py", packages=["openssh-server", "openssh-client"], outside=True)
