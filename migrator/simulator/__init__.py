"""A deterministic simulator: the real engine, conductor, decisions, ledger, fence, guards and checkpoint store over
fake hosts, a fake broker, a database in memory and a clock of its own.

One thread, one seed: the same seed gives the same run. `python -m migrator.simulator --help` says how to run it.
"""
