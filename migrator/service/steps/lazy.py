"""A lazy restore on the target: the server of its pages, who watches that, and the step that waits for the last page.

The images are whole and the checkpoint is sealed before the commit, as always; only the copying into the program's
memory comes after its start. What must never be is a program that runs on with empty pages: see decision 0037.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from migrator.containerd import ProcessState
from migrator.criu.lazy.journal import Journal, Kind, Slot, State
from migrator.criu.lazy.server import IMAGES
from migrator.criu.lazy.twins import borrow, lives
from migrator.criu.lazy.userfault import Event, parse_message
from migrator.errors import Cancelled, MigratorError, NotFound, PreconditionFailed
from migrator.models.values import Facts, Mode
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.arrival import restored_name
from migrator.service.preflight.forecast import MODE
from migrator.service.steps.ending import kill_task
from migrator.service.steps.work import image_directory, work_directory

LAZY, EAGER = "lazy", "eager"
RESTORED = "restored"
"""Fact: which of the two."""
LAZY_OPTION = "lazy-pages"
"""CRIU's option, as it stands in a configuration file."""
WHY_EAGER = "why_eager"
"""Fact: why a restore that was to be lazy was not."""
READY_S = 10.0
LOOK_S = 0.05
LOG = "lazy-server.log"
log = structlog.get_logger()


class Fill(HostStep):
    """Wait until all of the memory has come to where the program runs: only then is it a copy that needs no other."""

    name = "fill"

    def run(self, host: Host, act: Act) -> Facts:
        """Return how much came after the start, and how often the program waited for a page.

        Raises:
            PreconditionFailed: `pages_lost`, nobody could bring the rest, and the program was ended.
        """
        directory = work_directory(host, act)
        journal = Journal.open(directory)
        if journal is None or journal.state in (State.STARTING, State.READY, State.BROKEN):
            if wants_lazy(act) and act.facts.get(RESTORED) != EAGER and not _runs(host, act):
                raise lost(act)  # the host has begun anew meanwhile
            return {}
        try:
            watch(host, act, partial(end_program, host, act))
            while (state := journal.state) is State.SERVING:
                _tell(act, journal)
                time.sleep(LOOK_S)
            if state is State.LOST:
                raise lost(act)
            return {"filled_bytes": journal.total_bytes, "awaited_pages": journal.faults}
        finally:
            journal.close()


def wants_lazy(act: Act) -> bool:
    """Whether the job wants the program to run before its memory is there."""
    return str(act.facts.get(MODE, act.request.mode)) == Mode.LAZY


def offer_server(host: Host, act: Act) -> None:
    """Have a server wait before the freeze if the restore may want it; if that fails, the restore tries again."""
    if act.request.mode is not Mode.EAGER:
        with suppress(MigratorError, OSError):
            prepare_server(host, act)


def prepare_server(host: Host, act: Act) -> None:
    """Start the server of this job's pages, unless one waits already; it needs the images only when CRIU calls.

    Raises:
        MigratorError, OSError: It could not be started.
    """
    directory = work_directory(host, act)
    if (journal := _waiting(directory)) is not None:
        journal.close()
        return
    journal = Journal.create(directory)
    try:
        with (directory / LOG).open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "migrator.criu.lazy.server", str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )
        threading.Thread(target=process.wait, name="lazy-server", daemon=True).start()
        until_s = time.monotonic() + READY_S
        while journal.state is State.STARTING:
            if process.poll() is not None or time.monotonic() > until_s:
                process.kill()
                said = (directory / LOG).read_text(errors="replace").strip().splitlines()
                raise PreconditionFailed(
                    f"the server of pages did not start: {said[-1] if said else 'no word'}", code="lazy_unavailable"
                )
            time.sleep(0.005)
    finally:
        journal.close()


def show_images(host: Host, act: Act) -> None:
    """Tell the server where the images are, now that they are whole."""
    link = work_directory(host, act) / IMAGES
    link.unlink(missing_ok=True)
    link.symlink_to(image_directory(host, act))


def is_served(host: Host, act: Act) -> bool:
    """Whether the program of this job runs here while its memory comes, or ran so."""
    return state_of(host, act) in (State.SERVING, State.WHOLE, State.LOST)


def state_of(host: Host, act: Act) -> State:
    """How far the server of this job's pages is; broken if there is none."""
    journal = Journal.open(work_directory(host, act))
    if journal is None:
        return State.BROKEN
    try:
        return journal.state
    finally:
        journal.close()


def end_program(host: Host, act: Act) -> None:
    """End what was restored; it stays as a stopped task, which tells what became of it."""
    with suppress(NotFound):
        kill_task(host.runtime(act.request.namespace).task(restored_name(act)))


def watch(host: Host, act: Act, end: Callable[[], None]) -> None:
    """Watch the server of this job's pages until all are there; once is enough.

    Args:
        host: This machine.
        act: Whose pages they are.
        end: Ends the program; called again and again until it succeeds.
    """
    directory = work_directory(host, act)
    with _watching:
        if directory not in _watches or not _watches[directory].is_alive():
            _watches[directory] = _Watch(directory, end)
            _watches[directory].start()


_watching = threading.Lock()
_watches: dict[Path, _Watch] = {}


def _runs(host: Host, act: Act) -> bool:
    with suppress(NotFound):
        return host.runtime(act.request.namespace).task(restored_name(act)).status().state is ProcessState.RUNNING
    return False


def _waiting(directory: Path) -> Journal | None:
    """The journal of a server that waits for CRIU; None if there is none."""
    journal = Journal.open(directory)
    if journal is not None and journal.state is State.READY and not journal.line and lives(journal.server):
        return journal
    if journal is not None:
        journal.close()
    return None


def _tell(act: Act, journal: Journal) -> None:
    total_bytes = max(journal.total_bytes, journal.left_bytes)
    with suppress(Cancelled):  # too late to stop
        act.progress(total_bytes - journal.left_bytes, total_bytes)


def lost(act: Act) -> PreconditionFailed:
    """Say that a part of the memory never came."""
    return PreconditionFailed(
        f"container '{restored_name(act)}' ran before all of its memory had come, and what had the rest died; "
        "the program was ended at once",
        code="pages_lost",
        remedy="the frozen source and the checkpoint are kept, as of the moment of the freeze",
    )


class _Watch(threading.Thread):
    """Holds the userfaultfds beside the server and its twin. If both die, nothing closes before the program is ended.

    Args:
        directory: Where the journal is.
        end: Ends the program.
    """

    def __init__(self, directory: Path, end: Callable[[], None]):
        super().__init__(name="lazy-watch", daemon=True)
        self._journal = Journal.open(directory)
        self._end = end
        self._seen = 0
        self._held: dict[int, int] = {}

    def run(self) -> None:
        """Watch until all is there."""
        journal = self._journal
        if journal is None:
            return
        journal.watcher = os.getpid()
        while journal.state in (State.READY, State.SERVING):
            for slot in journal.since(self._seen):
                self._seen += 1
                self._follow(journal, slot)
            if not lives(journal.server) and not lives(journal.twin):
                self._stop_program(journal)
            time.sleep(LOOK_S)
        for descriptor in self._held.values():
            os.close(descriptor)
        journal.watcher = 0
        journal.close()

    def _follow(self, journal: Journal, slot: Slot) -> None:
        """Hold what the server holds."""
        descriptor = slot.descriptor
        if slot.kind is Kind.GONE and descriptor in self._held:
            os.close(self._held.pop(descriptor))
        elif slot.kind is Kind.EVENT:
            message = parse_message(slot.data) if any(slot.data) else None
            if message is None or message.event is not Event.FORK:
                return
            descriptor = message.words[0]
        if slot.kind is not Kind.GONE and (own := borrow(journal.server, descriptor)) is not None:
            self._held[descriptor] = own

    def _stop_program(self, journal: Journal) -> None:
        """Nobody brings the pages any more: the program must not go on, and its memory is not to be had."""
        if journal.state is State.READY and not journal.line:
            journal.state = State.BROKEN  # CRIU has not come, and gets no answer
            return
        log.error("the server of pages and its twin are dead; the program is ended", left=journal.left_bytes)
        while True:
            try:
                self._end()
                journal.state = State.LOST
                return
            except (MigratorError, OSError) as error:
                log.warning("cannot end the program yet", error=str(error))
                time.sleep(LOOK_S)
