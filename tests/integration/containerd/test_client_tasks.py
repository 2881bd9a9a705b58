"""The task's life, method by method, against the real daemon."""

import signal
import threading
import time
from pathlib import Path

import pytest

from migrator.containerd import ContainerdClient, ProcessState, null_io
from migrator.errors import (
    InvalidRequest,
    MigratorError,
    NotFound,
    PreconditionFailed,
    ResourceBusy,
    Unavailable,
    WorkloadFailed,
)
from tests.integration.containerd.conftest import hang, wait_for_version

pytestmark = pytest.mark.real


def stat_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_start_runs_the_program_and_tells_its_pid(workshop):
    task = workshop.task(start=False)
    assert task.status().state is ProcessState.CREATED
    pid = task.start()
    assert pid == task.pid == workshop.client.task(task.id).pid
    assert task.status().state is ProcessState.RUNNING
    first = workshop.count(task)
    time.sleep(0.2)
    assert workshop.count(task) > first


def test_a_start_that_fails_says_so(workshop):
    with pytest.raises(WorkloadFailed) as caught:
        workshop.task(["/no/such/program"])
    assert caught.value.code in ("task_create_failed", "task_start_failed")
    assert "no such file" in caught.value.message


def test_pause_stops_the_program_and_resume_lets_it_go_on(workshop):
    task = workshop.task()
    workshop.count(task)
    task.pause()
    assert task.status().state is ProcessState.PAUSED
    held = workshop.count(task)
    time.sleep(0.2)
    assert workshop.count(task) == held
    task.resume()
    assert task.status().state is ProcessState.RUNNING
    time.sleep(0.2)
    assert workshop.count(task) > held


def test_kill_and_wait_tell_how_it_ended(workshop):
    task = workshop.task(["/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"])
    time.sleep(0.1)
    before = time.time()
    task.kill(signal.SIGTERM)
    ended = task.wait(timeout_s=10)
    assert ended.code == 7
    assert before - 1 < ended.exited_at.timestamp() < time.time() + 1
    status = task.status()
    assert (status.state, status.exit_status) == (ProcessState.STOPPED, 7)
    assert task.delete().code == 7
    with pytest.raises(NotFound) as caught:
        task.status()
    assert caught.value.code == "task_not_found"


def test_kill_all_ends_every_process_of_the_task(workshop):
    task = workshop.task(["/bin/sh", "-c", "trap : HUP; sleep 100 & sleep 100 & wait; wait; wait"])
    time.sleep(0.2)
    everyone = [info.pid for info in task.pids()]
    assert len(everyone) == 3
    task.kill(signal.SIGKILL, all=True)
    assert task.wait(timeout_s=10).code == 137
    assert not [pid for pid in everyone if Path(f"/proc/{pid}").exists() and stat_of(pid) not in "ZX"]


def test_kill_with_signal_9_and_all_ends_a_frozen_task_without_one_more_step(workshop):
    task = workshop.task()
    task.pause()
    time.sleep(0.05)
    held = (workshop.client.snapshots().mounts(task.id)[0].options, workshop.count(task))
    upper = next(o.partition("=")[2] for o in held[0] if o.startswith("upperdir="))
    task.kill(signal.SIGKILL, all=True)
    assert task.wait(timeout_s=10).code == 137
    assert int((workshop.host.root / upper.lstrip("/") / "count").read_text()) == held[1]


def test_kill_of_what_has_ended_is_not_found(workshop):
    task = workshop.task(["/bin/true"])
    task.wait(timeout_s=10)
    with pytest.raises(NotFound):
        task.kill(signal.SIGKILL)


def test_kill_by_exec_id_reaches_that_process_alone(workshop):
    task = workshop.task()
    process = task.exec("sleeper", {"args": ["/bin/sleep", "100"], "cwd": "/"})
    process.start()
    task.kill(signal.SIGKILL, exec_id="sleeper")
    assert process.wait(timeout_s=10).code == 137
    assert task.status().state is ProcessState.RUNNING


def test_wait_without_an_end_waits_in_rounds(workshop, monkeypatch):
    monkeypatch.setattr("migrator.containerd.process.WAIT_ROUND_S", 0.1)
    task = workshop.task()
    ends = []
    waiter = threading.Thread(target=lambda: ends.append(task.wait()))
    waiter.start()
    time.sleep(0.5)
    assert not ends
    task.kill(signal.SIGKILL)
    waiter.join(10)
    assert ends[0].code == 137


def test_wait_with_an_end_says_that_it_still_runs(workshop):
    task = workshop.task()
    began = time.monotonic()
    with pytest.raises(ResourceBusy) as caught:
        task.wait(timeout_s=0.3)
    assert caught.value.code == "task_still_running"
    assert 0.25 < time.monotonic() - began < 3


@pytest.mark.parametrize("state", [ProcessState.RUNNING, ProcessState.PAUSED, ProcessState.CREATED])
def test_delete_refuses_what_is_not_stopped(workshop, state):
    task = workshop.task(start=state is not ProcessState.CREATED)
    if state is ProcessState.PAUSED:
        task.pause()
    with pytest.raises(PreconditionFailed) as caught:
        task.delete()
    assert caught.value.code == "task_not_stopped"
    assert state in caught.value.message
    assert "kill" in caught.value.remedy
    assert task.status().state is state


@pytest.mark.parametrize("state", [ProcessState.RUNNING, ProcessState.PAUSED, ProcessState.CREATED])
def test_delete_with_kill_ends_it_first(workshop, state):
    task = workshop.task(start=state is not ProcessState.CREATED)
    if state is ProcessState.PAUSED:
        task.pause()
    assert task.delete(kill=True).code == 137
    with pytest.raises(NotFound):
        workshop.client.task(task.id)


def test_pids_lists_added_processes_by_their_exec_id(workshop):
    task = workshop.task(["/bin/sh", "-c", "sleep 100 & wait"])
    process = task.exec("extra", {"args": ["/bin/sleep", "100"], "cwd": "/"})
    process.start()
    time.sleep(0.1)
    found = {info.pid: info.exec_id for info in task.pids()}
    assert len(found) == 3
    assert found[task.pid] == ""
    assert found[process.pid] == "extra"
    assert all(Path(f"/proc/{pid}").exists() for pid in found)


def test_update_changes_the_limits_of_a_running_task(workshop):
    task = workshop.task()
    task.update({"memory": {"limit": 128 << 20}}, {"io.migrator.test": "1"})
    raw = task.metrics().raw
    limit = raw.memory.usage.limit if task.metrics().cgroup_version == 1 else raw.memory.usage_limit
    assert limit == 128 << 20


def test_update_refuses_what_is_no_json(workshop):
    task = workshop.task()
    with pytest.raises(InvalidRequest) as caught:
        task.update({"memory": {"limit": object()}})
    assert caught.value.code == "bad_json"


def test_metrics_are_decoded(workshop):
    task = workshop.task()
    time.sleep(0.3)
    metrics = task.metrics()
    assert metrics.id == task.id
    assert metrics.pids >= 1
    assert metrics.memory_bytes > 0
    assert metrics.cpu_s > 0
    assert metrics.taken_at is not None
    time.sleep(0.3)
    assert task.metrics().cpu_s > metrics.cpu_s


def test_metrics_of_no_task_say_that_there_is_none(workshop):
    task = workshop.task(["/bin/true"])
    task.wait(timeout_s=10)
    task.delete()
    with pytest.raises(NotFound) as caught:
        task.metrics()
    assert caught.value.code == "task_not_found"


def test_spec_is_the_records(workshop):
    task = workshop.task()
    assert task.spec()["hostname"] == task.id


def test_task_tells_container_and_task_apart(workshop):
    with pytest.raises(NotFound) as caught:
        workshop.client.task("nobody")
    assert caught.value.code == "container_not_found"
    container_id = workshop.container()
    with pytest.raises(NotFound) as caught:
        workshop.client.task(container_id)
    assert caught.value.code == "task_not_found"


def test_tasks_lists_the_namespace(workshop):
    task = workshop.task()
    assert task.id in {found.id or found.container_id for found in workshop.client.tasks()}
    assert not workshop.client.with_namespace("elsewhere").tasks()


def test_exec_without_an_id_is_refused(workshop):
    task = workshop.task()
    with pytest.raises(InvalidRequest):
        task.exec("", {"args": ["/bin/true"], "cwd": "/"})


def test_an_added_process_lives_by_the_same_rules(workshop):
    task = workshop.task()
    process = task.exec("p", {"args": ["/bin/sh", "-c", "sleep 100; exit 3"], "cwd": "/"}, null_io())
    assert process.status().state is ProcessState.CREATED
    process.start()
    again = task.load_process("p")
    assert again.pid == process.pid
    with pytest.raises(PreconditionFailed) as caught:
        again.delete()
    assert caught.value.code == "process_not_stopped"
    again.kill(signal.SIGKILL)
    assert again.wait(timeout_s=10).code == 137
    assert again.delete().code == 137
    with pytest.raises(NotFound) as caught:
        task.load_process("p")
    assert caught.value.code == "process_not_found"


def test_load_process_by_the_containers_id_is_the_task(workshop):
    task = workshop.task()
    assert task.load_process(task.id) is task


def test_an_exit_status_of_255_is_one_and_an_error_is_none(workshop):
    task = workshop.task(["/bin/sh", "-c", "exit 255"])
    ended = task.wait(timeout_s=10)
    assert ended.code == 255
    status = task.status()
    assert (status.exit_status, status.exited_at) == (255, ended.exited_at)
    task.delete()
    with pytest.raises(NotFound) as caught:
        task.wait(timeout_s=10)
    assert caught.value.code == "task_not_found"


def test_a_daemon_that_dies_takes_no_task_with_it_and_a_wait_says_that_nobody_knows(workshop):
    daemon, task, raised = workshop.host.service("containerd"), workshop.task(), []

    def wait():
        with pytest.raises(MigratorError) as caught:
            task.wait()
        raised.append(caught.value)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    try:
        daemon.kill()
        waiter.join(10)
        assert isinstance(raised[0], Unavailable)
    finally:
        daemon.start()
        wait_for_version(workshop.client)
    assert workshop.client.task(task.id).pid == task.pid
    assert task.status().state is ProcessState.RUNNING
    task.kill(signal.SIGKILL)
    assert task.wait(timeout_s=10).code == 137


def test_delete_does_not_go_on_when_it_cannot_learn_the_state(workshop):
    task, daemon = workshop.task(), workshop.host.service("containerd")
    with ContainerdClient(workshop.client.socket, timeout_s=0.5) as hurried:
        seen = hurried.task(task.id)
        hang(daemon)
        try:
            with pytest.raises(Unavailable) as caught:
                seen.delete()
        finally:
            daemon.signal(signal.SIGCONT)
    assert caught.value.code == "containerd_timeout"
    assert task.status().state is ProcessState.RUNNING


def test_a_task_may_have_another_shim_than_the_record_says(workshop):
    with pytest.raises(MigratorError):
        workshop.create(workshop.container(), runtime_path="/no/such/shim")
    shim = workshop.host.exec(["sh", "-c", "command -v containerd-shim-runc-v2"]).stdout.strip()
    task = workshop.create(workshop.container(), runtime_path=shim)
    task.start()
    assert task.status().state is ProcessState.RUNNING
