"""PostgreSQL with pgbench running and one more open session."""

from tests.workloads.images import Program

WORKLOAD = Program("postgres.py", packages=["postgresql"])
