#!/usr/bin/python3
"""Timers of every kind; each must go on, none may fire early, and the monotonic clock may not go back.

timerfd, setitimer of real and of processor time, timer_create, alarm in a child, a thread that sleeps.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import threading
import time

from witness import Witness

PERIOD_S = 0.02
SILENT_S = 3.0
FROZEN_S = 1.5
"""Nobody looked for so long: not the timers stood still, but all of it."""
LIBC = ctypes.CDLL(None, use_errno=True)


class Timers:
    """How often each timer fired, and when last."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.fired: dict[str, int] = {}
        self.last: dict[str, float] = {}
        self.looked = time.monotonic()

    def fire(self, name: str, times: int = 1) -> None:
        """Count what fired."""
        before, now = self.last.get(name, 0.0), time.monotonic()  # in this order: a signal may come in between
        if now < before:
            self.witness.faults.append("the monotonic clock went back")
        self.fired[name] = self.fired.get(name, 0) + times
        self.last[name] = now

    def check(self) -> None:
        """Every timer must have fired lately."""
        now = time.monotonic()
        if now - self.looked > FROZEN_S:
            self.last = dict.fromkeys(self.last, now)
        self.looked = now
        silent = [name for name, at in self.last.items() if now - at > SILENT_S]
        self.witness.expect("the list of silent timers", silent, [])
        self.witness.more = {"fired": dict(self.fired)}


class Interval(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


def start_posix_timer(number: int) -> None:
    """timer_create(2) with a signal of its own, by the C library."""

    class Event(ctypes.Structure):
        _fields_ = (
            ("value", ctypes.c_void_p),
            ("signo", ctypes.c_int),
            ("notify", ctypes.c_int),
            ("pad", ctypes.c_int * 12),
        )

    timer, event = ctypes.c_void_p(), Event(None, number, 0)
    period_ns = int(PERIOD_S * 1e9)
    if LIBC.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
        raise OSError(ctypes.get_errno(), "timer_create")
    if LIBC.timer_settime(timer, 0, ctypes.byref(Interval(0, period_ns, 0, period_ns)), None):
        raise OSError(ctypes.get_errno(), "timer_settime")


def alarms(line: int) -> None:
    """Set an alarm again and again; a byte for each that came, early ones marked.

    Not by pause(2): CRIU lets it begin anew after the handler of a signal that came in the freeze, and it waits for ever.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    while True:
        begun = time.monotonic()
        signal.alarm(1)
        signal.sigwait({signal.SIGALRM})
        os.write(line, b"." if time.monotonic() - begun > 0.99 else b"!")


def sleeper(timers: Timers) -> None:
    """Sleep again and again; no sleep may be too short."""
    while True:
        begun = time.monotonic()
        time.sleep(0.2)
        timers.witness.expect("a sleep that is too short", time.monotonic() - begun < 0.2, False)
        timers.fire("sleep")


def main() -> None:
    """Start them all and look after them."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        alarms(writer)
    witness = Witness()
    timers = Timers(witness)
    signal.signal(signal.SIGALRM, lambda *_: timers.fire("itimer-real"))
    signal.signal(signal.SIGPROF, lambda *_: timers.fire("itimer-prof"))
    signal.signal(signal.SIGUSR1, lambda *_: timers.fire("timer_create"))
    signal.setitimer(signal.ITIMER_REAL, PERIOD_S, PERIOD_S)
    signal.setitimer(signal.ITIMER_PROF, PERIOD_S, PERIOD_S)
    start_posix_timer(signal.SIGUSR1)
    descriptor = os.timerfd_create(time.CLOCK_MONOTONIC)
    os.timerfd_settime(descriptor, initial=PERIOD_S, interval=PERIOD_S)
    threading.Thread(target=sleeper, args=(timers,), daemon=True).start()

    def look(_: int) -> None:
        ready, _, _ = select.select([descriptor, reader], [], [], 1.0)
        if descriptor in ready:
            timers.fire("timerfd", int.from_bytes(os.read(descriptor, 8), "little"))
        if reader in ready:
            witness.expect("an early alarm", b"!" in os.read(reader, 64), False)
            timers.fire("alarm")
        end = time.process_time() + 0.001  # the timer of processor time needs some
        while time.process_time() < end:
            pass
        timers.check()

    witness.run(look, pause_s=0)


if __name__ == "__main__":
    main()
