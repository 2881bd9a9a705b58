"""Where requests to the store are made side by side, and where that must not be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Pools = Callable[[int], Executor]
"""Makes a pool for so many requests at a time."""


class OneByOne(Executor):
    """Does at once whatever it is asked for: no thread is used."""

    def __init__(self, _: int = 1):
        super().__init__()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See `Executor.submit`."""
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
            done.set_exception(error)
        return done
