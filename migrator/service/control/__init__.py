"""The controller: what becomes of jobs, one compare-and-set at a time.

Read `engine` first (what comes next, without any I/O), then `rounds` (write it down and send it) and `conductor`.
"""
