"""Pipes, eventfd and signalfd between two processes, waited for with epoll."""

from tests.workloads.images import Program

WORKLOAD = Program("events.py")
