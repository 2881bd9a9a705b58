"""Decisions: what happens in which order, and what it means when it does not.

`plans` is the page to read first: three tables, one line a step. `engine` walks a plan without doing anything itself,
`conductor` keeps the walk in SQL and sends commands to hosts, `agent` performs them there, `steps/` holds the acts.
"""
