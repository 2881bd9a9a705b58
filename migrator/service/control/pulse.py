"""Show that a long step lives, and learn that nobody waits for it any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from migrator.errors import Cancelled

BEAT_S = 5.0
"""How often it is written down."""


class Pulse:
    """Call it often; it writes seldom.

    Args:
        beat: Writes that the step lives; False when nobody waits for it.
        clock: A monotonic clock.
    """

    def __init__(self, beat: Callable[[], bool], clock: Callable[[], float] = time.monotonic):
        self._beat = beat
        self._clock = clock
        self._beaten_s = clock()

    def __call__(self) -> None:
        """Show that the step lives.

        Raises:
            Cancelled: Nobody waits for it any more.
        """
        now_s = self._clock()
        if now_s - self._beaten_s < BEAT_S:
            return
        self._beaten_s = now_s
        if not self._beat():
            raise Cancelled("nobody waits for this step any more", code="step_given_up")


def start_thread(work: Callable[[], None]) -> None:
    """Run something beside everything else; it dies with the process."""
    threading.Thread(target=work, daemon=True, name="long-step").start()
