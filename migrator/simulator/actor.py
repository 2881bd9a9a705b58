"""A process that can be killed and stopped."""

from __future__ import annotations


class Died(BaseException):
    """The process in which this code runs was killed: not one more line of it runs."""


class Actor:
    """A process."""

    def __init__(self, name: str):
        self.name = name
        self.alive = True
        self.stopped_until_s = 0.0
