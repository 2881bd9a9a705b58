"""Timers: timerfd, setitimer of real and processor time, timer_create, alarm, sleep."""

from tests.workloads.images import Program

WORKLOAD = Program("timers.py")
