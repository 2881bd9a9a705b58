"""The process that brings memory behind a restored program: `python -m migrator.criu.lazy.server DIRECTORY`.

DIRECTORY is where CRIU works (it connects to `lazy-pages.socket` there); `lazy-images` in it leads to the images once
they are whole. CRIU hands over a userfaultfd for each process and says when the programs run. Then pages go to whoever
waits for one, and meanwhile all others, until all are there.

It starts before the freeze, ends by itself when there is nothing left to do, and has a twin that takes over when it
dies (`twins.py`). Pages that came already are not put there twice: the kernel refuses.
"""

from __future__ import annotations

import array
import ctypes
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from migrator.criu.extents import PAGE_BYTES
from migrator.criu.lazy import userfault
from migrator.criu.lazy.images import read_spans
from migrator.criu.lazy.journal import Journal, Kind, Slot, State
from migrator.criu.lazy.spans import Span, Spans
from migrator.criu.lazy.twins import await_end, lives, start_twin
from migrator.criu.lazy.userfault import Event, Message, NoMemoryYet, ProcessGone, TryAgain

SOCKET = "lazy-pages.socket"
"""CRIU's own name (criu/uffd.c)."""
IMAGES = "lazy-images"
RUNS = 0x52535446
"""CRIU's word that the programs run from now on (LAZY_PAGES_RESTORE_FINISHED)."""
BLOCK_BYTES = 64 << 10
"""Who waits for a page gets those around it, too."""
FEWEST_BYTES, MOST_BYTES = 128 << 10, 1 << 20
"""Of what goes unasked at a time: little while somebody waits, for the next one waits for all of it."""
IDLE_S = 1.0
LINGER_S = 5.0
"""How long whoever holds the userfaultfds, too, may take to see that it is over."""
TWIN_S = 0.5
"""How often the server sees whether its twin lives."""
_PID, _WORD = struct.Struct("<i"), struct.Struct("<I")
_NEVER = "-1000"
"""The kernel ends this process last when memory runs out (proc(5), oom_score_adj)."""


class LazyServer:
    """Serves the pages of one restore.

    Args:
        directory: Where CRIU works.
        journal: The one there.
        listening: The socket, bound.
    """

    def __init__(self, directory: Path, journal: Journal, listening: socket.socket):
        self._directory = directory
        self._journal = journal
        self._listening = listening
        self._files: dict[Path, int] = {}
        self._memories: dict[int, Spans] = {}
        self._buffer = mmap.mmap(-1, MOST_BYTES)
        self._source = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self._piece_bytes = FEWEST_BYTES
        self._line: socket.socket | None = None
        self._looked_s = 0.0

    def serve(self) -> NoReturn:
        """Serve until there is nothing left to serve."""
        journal = self._journal
        self._start_twin()  # first: who is known to serve is not the last one
        journal.server = os.getpid()
        if journal.state is State.STARTING:
            journal.state = State.READY
        else:
            self._take_over()
        while journal.state in (State.READY, State.SERVING):
            self._turn()
        os._exit(0)

    def _turn(self) -> None:
        """Hear what there is to hear; if there is nothing, bring what nobody asked for."""
        serving = self._journal.state is State.SERVING
        busy = serving and any(self._memories.values())
        poll, criu = select.poll(), (self._line or self._listening).fileno()
        for descriptor in (*self._memories, *(() if serving else (criu,))):
            poll.register(descriptor, select.POLLIN)
        heard = poll.poll(0 if busy or serving else IDLE_S * 1000)
        for descriptor, _ in heard:
            if descriptor in self._memories:
                self._hear_kernel(descriptor)
            else:
                self._hear_criu()
        self._look_after_twin()
        if busy and not heard:
            self._bring_unasked()
        elif serving and not heard:
            self._finish()
        elif not serving and not self._journal.is_at(self._directory):
            self._journal.state = State.BROKEN  # whoever wanted it has gone

    # What CRIU says

    def _hear_criu(self) -> None:
        journal = self._journal
        if self._line is None:
            self._line, _ = self._listening.accept()
            journal.line = self._line.fileno()
            return
        with memoryview(journal.memory)[Journal.SAID] as word:
            word[:] = bytes(len(word))
            got = self._line.recv_into(word, len(word), socket.MSG_WAITALL)
        if not got:
            self._end_of_line()
        elif journal.said == RUNS:
            journal.state = State.SERVING
        else:
            self._welcome(_PID.unpack(_WORD.pack(journal.said))[0])

    def _end_of_line(self) -> None:
        """CRIU has gone and never said that the programs run."""
        self._journal.state = State.BROKEN

    def _welcome(self, pid: int) -> None:
        """Take the memory of a process; of one that has ended already there is none."""
        assert self._line is not None
        if pid < 0:
            return
        numbers = array.array("i")
        _, sent, _, _ = self._line.recvmsg(1, socket.CMSG_SPACE(numbers.itemsize), socket.MSG_CMSG_CLOEXEC)
        numbers.frombytes(sent[0][2][: numbers.itemsize])
        self._journal.note(Kind.PROCESS, numbers[0], pid)
        self._add(numbers[0], pid)

    def _add(self, descriptor: int, pid: int) -> None:
        spans = Spans(read_spans((self._directory / IMAGES).resolve(), pid, self._open))
        self._memories[descriptor] = spans
        self._journal.total_bytes += spans.left_bytes
        self._tell_left()

    def _open(self, path: Path) -> int:
        if path not in self._files:
            self._files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[path]

    # What the kernel says

    def _hear_kernel(self, descriptor: int) -> None:
        """Read all that it has to tell of one process."""
        while descriptor in self._memories:
            with self._journal.next_slot(Kind.EVENT, descriptor) as slot:
                try:
                    os.readv(descriptor, [slot])
                except BlockingIOError:
                    return
                message = userfault.parse_message(slot)
                if message.event is Event.FAULT:
                    slot[:] = bytes(len(slot))  # whoever waits can be woken; the others must never be forgotten
            if message.event is Event.FAULT:
                self._bring_asked(descriptor, message.words[1])
                continue
            self._journal.keep_slot()
            self._follow(descriptor, message)

    def _follow(self, descriptor: int, message: Message) -> None:
        """Change what is missing as the process has changed its memory."""
        spans, (first, second, third) = self._memories[descriptor], message.words
        if message.event is Event.FORK:
            self._memories[first] = spans.clone()
        elif message.event is Event.REMAP:
            spans.move(first, second, third)
        else:
            spans.drop(first, second)
        self._tell_left()

    # Pages

    def _bring_asked(self, descriptor: int, address: int) -> None:
        """Bring the page that somebody waits for; one that never was in the images is empty."""
        self._journal.faults += 1
        self._piece_bytes = FEWEST_BYTES
        page = address - address % PAGE_BYTES
        spans = self._memories[descriptor]
        span = spans.around(page, BLOCK_BYTES)
        with suppress(TryAgain, NoMemoryYet):  # it is told again
            try:
                if span is None:
                    if not userfault.zero(descriptor, page, PAGE_BYTES):
                        userfault.wake(descriptor, page, PAGE_BYTES)
                else:
                    self._copy(descriptor, spans, span.within(page, span.end))
                    self._copy(descriptor, spans, span.within(span.start, page)) if span.start < page else None
                return
            except ProcessGone:
                self._forget(descriptor)
                return
        time.sleep(0.001)
        with suppress(OSError):
            userfault.wake_all(descriptor)

    def _bring_unasked(self) -> None:
        descriptor, spans = next(item for item in self._memories.items() if item[1])
        try:
            self._copy(descriptor, spans, spans.last(self._piece_bytes))
            self._piece_bytes = min(MOST_BYTES, 2 * self._piece_bytes)
        except TryAgain:
            pass  # the next turn reads what there is
        except NoMemoryYet:
            time.sleep(0.01)
        except ProcessGone:
            self._forget(descriptor)

    def _copy(self, descriptor: int, spans: Spans, span: Span) -> None:
        """Copy pages to where they are missing. Where the kernel takes none, there is nothing to bring."""
        self._read(span)
        done_bytes = 0
        while done_bytes < span.size_bytes:
            address = span.start + done_bytes
            taken = self._place(descriptor, address, done_bytes, span.size_bytes - done_bytes)
            spans.drop(address, address + taken)
            done_bytes += taken
        self._tell_left()

    def _place(self, descriptor: int, address: int, offset: int, size_bytes: int) -> int:
        """Copy as much as the kernel takes at once; return how much is settled by that."""
        taken = userfault.copy(descriptor, address, self._source + offset, size_bytes)
        if not taken and size_bytes > PAGE_BYTES:  # it may be the end of a mapping that lies in the way
            taken = userfault.copy(descriptor, address, self._source + offset, PAGE_BYTES)
        if not taken:
            userfault.wake(descriptor, address, PAGE_BYTES)
        return taken or PAGE_BYTES

    def _read(self, span: Span) -> None:
        """Read pages from their file.

        Raises:
            EOFError: They are not there. Nothing is right any more: whoever watches ends the program.
        """
        got = 0
        with memoryview(self._buffer) as view:
            while got < span.size_bytes:
                more = os.preadv(span.file, [view[got : span.size_bytes]], span.offset + got)
                if not more:
                    raise EOFError("a file of pages is too short")
                got += more

    def _forget(self, descriptor: int) -> None:
        """A process has ended: nobody needs its memory."""
        self._journal.note(Kind.GONE, descriptor)
        del self._memories[descriptor]
        os.close(descriptor)
        self._tell_left()

    def _tell_left(self) -> None:
        self._journal.left_bytes = sum(spans.left_bytes for spans in self._memories.values())

    # The end

    def _finish(self) -> None:
        """All is there. Who holds the userfaultfds, too, lets go of them first: until then somebody must serve."""
        journal = self._journal
        journal.left_bytes = 0
        journal.state = State.WHOLE
        until_s = time.monotonic() + LINGER_S
        while journal.watcher and lives(journal.watcher) and time.monotonic() < until_s:
            poll = select.poll()
            for descriptor in self._memories:
                poll.register(descriptor, select.POLLIN)
            for descriptor, _ in poll.poll(2):
                if descriptor in self._memories:
                    self._hear_kernel(descriptor)
        os._exit(0)

    # The twin

    def _start_twin(self) -> None:
        self._journal.twin = start_twin(self._wait)

    def _wait(self, other: int) -> NoReturn:
        """What the twin does: wait for the other's end, and go on in its place if it left anything to do."""
        await_end(other)
        if self._journal.state in (State.READY, State.SERVING):
            self.serve()
        os._exit(0)

    def _look_after_twin(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < TWIN_S:
            return
        self._looked_s = now_s
        with suppress(ChildProcessError):
            os.waitpid(self._journal.twin, os.WNOHANG)
        if not lives(self._journal.twin):
            self._start_twin()

    def _take_over(self) -> None:
        """Go on where another one died: what happened is in the journal, what came already the kernel knows."""
        journal, self._memories = self._journal, {}
        if journal.state is State.READY and journal.line:
            if journal.said != RUNS:
                journal.state = State.BROKEN
                socket.socket(fileno=journal.line).shutdown(socket.SHUT_RDWR)  # CRIU gives up, and nothing has run
                return
            journal.state = State.SERVING
        journal.total_bytes = 0
        journal.count_last()
        for slot in journal.since(0):
            self._replay(slot)
        for descriptor in self._memories:
            with suppress(OSError):
                userfault.wake_all(descriptor)

    def _replay(self, slot: Slot) -> None:
        """Let one thing happen again."""
        if slot.kind is Kind.PROCESS:
            self._add(slot.descriptor, int.from_bytes(slot.data[:8], "little"))
        elif slot.kind is Kind.GONE:
            self._memories.pop(slot.descriptor, None)
        elif slot.kind is Kind.EVENT and any(slot.data):
            self._follow(slot.descriptor, userfault.parse_message(slot.data))


def main(directory: Path) -> NoReturn:
    """Get ready, say so in the journal, and serve."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a program waits for its memory
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_NEVER)
    journal = Journal.open(directory)
    if journal is None:
        os._exit(1)
    listening = socket.socket(socket.AF_UNIX)
    os.chdir(directory)  # a socket's name may not be long
    Path(SOCKET).unlink(missing_ok=True)
    listening.bind(SOCKET)
    listening.listen(1)
    os.chdir("/")
    LazyServer(directory, journal, listening).serve()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(1)  # an ordinary end would close what the twin needs
