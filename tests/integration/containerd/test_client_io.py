"""Input and output: FIFOs, terminals, log files, log programs."""

import io
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from migrator.containerd import FifoIO, ProcessState, Stdio, binary_io, log_file_io, null_io
from migrator.errors import AlreadyExists, InvalidRequest, MigratorError, WorkloadFailed

pytestmark = pytest.mark.real
DIRECTORY = "/run/migrator-io"
LOGGER = """#!/bin/sh
echo "$CONTAINER_NAMESPACE $CONTAINER_ID $*" > /run/logged-by
exec 5>&-
cat <&3 > /run/logged-out &
cat <&4 > /run/logged-err
wait
"""


class Pipe:
    """A source that a test feeds while it runs."""

    def __init__(self):
        reader, self._writer = os.pipe()
        self.source = os.fdopen(reader, "rb")

    def say(self, data):
        os.write(self._writer, data)

    def __enter__(self):
        return self

    def end(self):
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = -1

    def __exit__(self, *_):
        self.end()
        self.source.close()


def run(task, io_, args, exec_id="e", **spec):
    process = task.exec(exec_id, {"args": args, "cwd": "/", **spec}, io_)
    process.start()
    ended = process.wait(timeout_s=10)
    assert process.delete().code == ended.code
    return ended.code


def wait_for_lines(sink, count):
    deadline = time.monotonic() + 10
    while sink.getvalue().count(b"\n") < count and time.monotonic() < deadline:
        time.sleep(0.02)


def fifos(host):
    place = host.root / DIRECTORY.lstrip("/")
    return list(place.iterdir()) if place.exists() else []


def test_an_added_process_hands_over_both_outputs_and_leaves_no_fifo(workshop):
    task = workshop.task()
    out, err = io.BytesIO(), io.BytesIO()
    script = "echo out; echo err >&2; exit 4"
    assert run(task, FifoIO(DIRECTORY, stdout=out, stderr=err, root=workshop.host.root), ["/bin/sh", "-c", script]) == 4
    assert (out.getvalue(), err.getvalue()) == (b"out\n", b"err\n")
    assert fifos(workshop.host) == []


def test_a_large_output_comes_whole(workshop):
    task = workshop.task()
    out = io.BytesIO()
    io_ = FifoIO(DIRECTORY, stdout=out, stderr=io.BytesIO(), root=workshop.host.root)
    assert run(task, io_, ["/bin/sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); echo $i; done"]) == 0
    lines = out.getvalue().split()
    assert (len(lines), lines[-1]) == (300000, b"300000")


def test_one_output_alone(workshop):
    task = workshop.task()
    out = io.BytesIO()
    assert (
        run(task, FifoIO(DIRECTORY, stdout=out, root=workshop.host.root), ["/bin/sh", "-c", "echo a; echo b >&2"]) == 0
    )
    assert out.getvalue() == b"a\n"


def test_input_reaches_the_process_and_close_io_ends_it(workshop):
    task = workshop.task()
    out = io.BytesIO()
    io_ = FifoIO(DIRECTORY, stdin=io.BytesIO(b"one\ntwo\n"), stdout=out, stderr=io.BytesIO(), root=workshop.host.root)
    process = task.exec("cat", {"args": ["/bin/cat"], "cwd": "/"}, io_)
    process.start()
    time.sleep(0.3)
    assert process.status().state is ProcessState.RUNNING  # the shim holds its input open
    process.close_io(stdin=False)
    time.sleep(0.2)
    assert process.status().state is ProcessState.RUNNING
    process.close_io()
    assert process.wait(timeout_s=10).code == 0
    process.delete()
    assert out.getvalue() == b"one\ntwo\n"


def test_a_task_talks_over_fifos_too(workshop):
    out = io.BytesIO()
    with Pipe() as pipe:
        io_ = FifoIO(DIRECTORY, stdin=pipe.source, stdout=out, stderr=io.BytesIO(), root=workshop.host.root)
        task = workshop.task(["/bin/sh", "-c", "read line; echo got $line; read rest; exit 6"], io=io_)
        assert task.io is io_
        stdio = task.stdio()
        assert stdio == io_.stdio
        pipe.say(b"hello\n")
        time.sleep(0.2)
        assert out.getvalue() == b"got hello\n"
        pipe.end()
        task.close_io()
        assert task.wait(timeout_s=10).code == 6
        task.delete()
        assert fifos(workshop.host) == []


def test_a_terminal_is_one_and_can_be_resized(workshop):
    out = io.BytesIO()
    with Pipe() as pipe:
        io_ = FifoIO(DIRECTORY, stdin=pipe.source, stdout=out, terminal=True, root=workshop.host.root)
        task = workshop.task(["/bin/sh", "-c", "test -t 1 && echo yes; while read line; do stty size; done"], io=io_)
        assert task.stdio().terminal
        task.resize(101, 37)
        pipe.say(b"go\n")
        deadline = time.monotonic() + 5
        while b"37 101" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert b"yes\r\n" in out.getvalue()
        assert b"37 101" in out.getvalue()
        task.kill(signal.SIGKILL)
        task.wait(timeout_s=10)
        task.delete()


def test_an_added_process_has_its_own_terminal(workshop):
    task = workshop.task()
    out = io.BytesIO()
    with Pipe() as pipe:
        io_ = FifoIO(DIRECTORY, stdin=pipe.source, stdout=out, terminal=True, root=workshop.host.root)
        process = task.exec("tty", {"args": ["/bin/sh", "-c", "read line; stty size"], "cwd": "/"}, io_)
        process.start()
        process.resize(55, 44)
        pipe.say(b"go\n")
        assert process.wait(timeout_s=10).code == 0
        process.delete()
        assert b"44 55" in out.getvalue()


def test_log_file(workshop):
    path = f"/run/log-{time.monotonic_ns()}"
    task = workshop.task(["/bin/sh", "-c", "echo out; echo err >&2"], io=log_file_io(path))
    assert task.stdio().stdout == f"file://{path}"
    assert task.wait(timeout_s=10).code == 0
    task.delete()
    assert sorted((workshop.host.root / path.lstrip("/")).read_text().split()) == ["err", "out"]


def test_log_program(workshop):
    root = workshop.host.root
    (root / "run/logger").write_text(LOGGER)
    (root / "run/logger").chmod(0o755)
    task = workshop.task(
        ["/bin/sh", "-c", "echo out; echo err >&2"], io=binary_io("/run/logger", {"key": "a b", "flag": ""})
    )
    assert task.wait(timeout_s=10).code == 0
    task.delete()
    deadline = time.monotonic() + 5
    while not (root / "run/logged-err").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    words = (root / "run/logged-by").read_text().split()
    assert words[:2] == ["default", task.id]
    assert sorted(words[2:]) == ["a", "b", "flag", "key"]
    assert (root / "run/logged-out").read_text() == "out\n"
    assert (root / "run/logged-err").read_text() == "err\n"


def test_no_output_at_all(workshop):
    task = workshop.task(["/bin/sh", "-c", "echo out"], io=null_io())
    assert task.stdio() == Stdio()
    assert task.wait(timeout_s=10).code == 0


def test_the_output_of_a_running_process_can_be_taken_over(workshop):
    first = io.BytesIO()
    io_ = FifoIO(DIRECTORY, stdout=first, stderr=io.BytesIO(), root=workshop.host.root)
    script = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done"
    task = workshop.task(["/bin/sh", "-c", script], io=io_)
    wait_for_lines(first, 4)
    io_.cancel()
    assert io_.wait(5)
    second = io.BytesIO()
    attached = FifoIO.attach(task.stdio(), stdout=second, stderr=io.BytesIO(), root=workshop.host.root)
    again = workshop.client.task(task.id, attached)
    wait_for_lines(second, 4)
    again.kill(signal.SIGKILL)
    again.wait(timeout_s=10)
    again.delete()
    io_.close()
    heard, later = first.getvalue().split(), second.getvalue().split()
    assert len(heard) > 3
    assert len(later) > 3
    assert [int(n) for n in heard + later] == list(range(1, len(heard) + len(later) + 1))


def test_load_process_with_io_of_its_own(workshop):
    task = workshop.task()
    io_ = FifoIO(DIRECTORY, stdout=io.BytesIO(), stderr=io.BytesIO(), root=workshop.host.root)
    process = task.exec("p", {"args": ["/bin/sh", "-c", "sleep 0.5; echo late"], "cwd": "/"}, io_)
    process.start()
    io_.cancel()
    assert io_.wait(5)
    late = io.BytesIO()
    loaded = task.load_process("p")
    loaded = task.load_process(
        "p", FifoIO.attach(loaded.stdio(), stdout=late, stderr=io.BytesIO(), root=workshop.host.root)
    )
    assert loaded.wait(timeout_s=10).code == 0
    loaded.delete()
    io_.close()
    assert late.getvalue() == b"late\n"


def test_fifos_do_not_block_when_nobody_comes(workshop):
    began = time.monotonic()
    io_ = FifoIO(DIRECTORY, stdin=io.BytesIO(b"x"), stdout=io.BytesIO(), stderr=io.BytesIO(), root=workshop.host.root)
    assert not io_.wait(0.1)
    io_.close()
    io_.close()
    assert time.monotonic() - began < 2
    assert fifos(workshop.host) == []


def test_a_create_that_fails_leaves_no_fifo_and_no_thread(workshop):
    threads = threading.active_count()
    io_ = FifoIO(DIRECTORY, stdout=io.BytesIO(), stderr=io.BytesIO(), root=workshop.host.root)
    with pytest.raises(MigratorError):
        workshop.client.create_task("nobody", io=io_)
    assert fifos(workshop.host) == []
    assert threading.active_count() == threads


def test_a_program_that_is_not_there_leaves_no_fifo(workshop):
    io_ = FifoIO(DIRECTORY, stdout=io.BytesIO(), stderr=io.BytesIO(), root=workshop.host.root)
    with pytest.raises(WorkloadFailed):
        workshop.task(["/no/such/program"], io=io_)
    assert fifos(workshop.host) == []


def test_an_exec_that_fails_leaves_no_fifo(workshop):
    task = workshop.task()
    task.exec("twice", {"args": ["/bin/true"], "cwd": "/"})
    io_ = FifoIO(DIRECTORY, stdout=io.BytesIO(), stderr=io.BytesIO(), root=workshop.host.root)
    with pytest.raises(AlreadyExists) as caught:
        task.exec("twice", {"args": ["/bin/true"], "cwd": "/"}, io_)
    assert caught.value.code == "process_already_exists"
    io_ = FifoIO(DIRECTORY, stdout=io.BytesIO(), stderr=io.BytesIO(), root=workshop.host.root)
    process = task.exec("bad", {"args": ["/no/such/thing"], "cwd": "/"}, io_)
    with pytest.raises(WorkloadFailed) as caught:
        process.start()
    assert caught.value.code == "process_start_failed"
    assert fifos(workshop.host) == []


@pytest.mark.parametrize("make", [log_file_io, binary_io])
def test_a_log_path_must_be_whole(make):
    with pytest.raises(InvalidRequest):
        make(Path("log"))
