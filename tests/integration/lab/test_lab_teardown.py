"""Up mends and down leaves nothing, whatever was killed before."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from lab_counters import ctr, eventually, read_count, start_counter
from lab_traces import find_traces, lives

from migrator.errors import InternalError
from migrator.lab.host import Host
from migrator.lab.lab import Lab, Shape

LabFactory = Callable[[str, Shape], AbstractContextManager[Lab]]
pytestmark = pytest.mark.real
ONE = Shape(hosts=1, control=False)


@pytest.fixture
def bare_lab(lab_factory: LabFactory) -> Iterator[Lab]:
    with lab_factory("trial", ONE) as lab:
        yield lab


def assert_gone(lab: Lab) -> None:
    assert find_traces(lab.name) == []


def test_the_search_for_traces_sees_a_running_lab(bare_lab: Lab) -> None:
    kinds = {trace.split()[0] for trace in find_traces(bare_lab.name)}
    assert kinds == {"process", "mount", "cgroup", "directory"}


def test_down_after_a_plain_up(bare_lab: Lab) -> None:
    assert bare_lab.down() is True
    assert_gone(bare_lab)
    assert bare_lab.down() is False


def test_down_with_a_running_and_a_paused_container(bare_lab: Lab, counter_image: Path) -> None:
    alpha = bare_lab.host("alpha")
    pids = [start_counter(alpha, counter_image, name) for name in ("runs", "frozen")]
    ctr(alpha, "task", "pause", "frozen")
    bare_lab.down()
    assert not any(map(lives, pids))
    assert_gone(bare_lab)


def test_down_after_init_and_containerd_were_killed(bare_lab: Lab, counter_image: Path) -> None:
    alpha = bare_lab.host("alpha")
    pid = start_counter(alpha, counter_image, "orphan")
    ctr(alpha, "task", "pause", "orphan")
    for victim in (alpha.containerd_pid, alpha.pid):
        assert victim
        os.kill(victim, signal.SIGKILL)
    eventually(lambda: alpha.find_init() is None)
    assert lives(pid)
    bare_lab.down()
    assert not lives(pid)
    assert_gone(bare_lab)


def test_down_without_any_file_about_the_lab(bare_lab: Lab) -> None:
    shutil.rmtree(bare_lab.layout.run_dir / "hosts")
    bare_lab.layout.shape_file.unlink()
    bare_lab.down()
    assert_gone(bare_lab)


@pytest.mark.parametrize("after_s", [0.35, 0.45, 0.55, 0.65, 0.8])
def test_down_after_up_was_killed_half_way(lab_factory: LabFactory, after_s: float) -> None:
    with lab_factory("half", ONE) as lab:
        lab.down()
        command = [sys.executable, "-m", "migrator.lab", "up", "--name", lab.name, "--hosts", "3"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as up:
            time.sleep(after_s)
            os.killpg(up.pid, signal.SIGKILL)
        lab.down()
        assert_gone(lab)
        lab.up(ONE)
        assert lab.host("alpha").exec(["true"]).returncode == 0


def test_a_host_over_a_new_root_begins_with_an_empty_disk(bare_lab: Lab) -> None:
    alpha = bare_lab.host("alpha")
    alpha.exec(["touch", "/etc/kept"])
    os.kill(alpha.pid, signal.SIGKILL)
    eventually(lambda: alpha.find_init() is None)
    bare_lab.up(ONE)
    assert alpha.exec(["ls", "/etc/kept"]).returncode == 0
    alpha.clear()
    (bare_lab.layout.disk_of("alpha") / "lower").write_text("/some/older/root")
    bare_lab.up(ONE)
    assert alpha.exec(["ls", "/etc/kept"]).returncode != 0


def test_up_mends_a_host_whose_init_was_killed(bare_lab: Lab, counter_image: Path) -> None:
    alpha = bare_lab.host("alpha")
    orphan = start_counter(alpha, counter_image, "orphan")
    os.kill(alpha.pid, signal.SIGKILL)
    eventually(lambda: alpha.find_init() is None)
    bare_lab.up(ONE)
    assert not lives(orphan)
    # As after a power cut: the disk is as it was, and nothing runs.
    assert ctr(alpha, "container", "ls", "-q").split() == ["orphan"]
    assert "orphan" not in ctr(alpha, "task", "ls")


def test_up_again_keeps_what_runs_and_starts_what_died(bare_lab: Lab, counter_image: Path) -> None:
    alpha = bare_lab.host("alpha")
    init, containerd, counter = alpha.pid, alpha.containerd_pid, start_counter(alpha, counter_image, "kept")
    bare_lab.up(ONE)
    assert (alpha.pid, alpha.containerd_pid) == (init, containerd)
    alpha.service("containerd").kill()
    bare_lab.up(ONE)
    assert alpha.pid == init
    assert alpha.containerd_pid not in (None, containerd)
    assert read_count(counter)[1] > 0


def test_up_with_more_hosts_adds_them(bare_lab: Lab) -> None:
    first = bare_lab.host("alpha").pid
    bare_lab.up(Shape(hosts=3, control=False))
    assert list(bare_lab.hosts) == ["alpha", "beta", "gamma"]
    assert bare_lab.host("alpha").pid == first
    assert bare_lab.host("alpha").exec(["ping", "-c", "1", "-W", "2", "gamma"]).returncode == 0
    bare_lab.up(ONE)
    assert list(bare_lab.hosts) == ["alpha", "beta", "gamma"]


def test_two_labs_use_the_same_addresses_and_do_not_meet(bare_lab: Lab, lab_factory: LabFactory) -> None:
    with lab_factory("trial", ONE) as other:
        assert other.name != bare_lab.name
        for lab in (bare_lab, other):
            (lab.host("alpha").root / "run/who").write_text(lab.name)
        assert bare_lab.host("alpha").exec(["cat", "/run/who"]).stdout == bare_lab.name
        assert bare_lab.host("alpha").address == other.host("alpha").address
    assert_gone(other)
    assert bare_lab.host("alpha").exec(["true"]).returncode == 0


def test_a_boot_that_fails_says_why_and_leaves_nothing(bare_lab: Lab, tmp_path: Path) -> None:
    beta = Host(bare_lab.layout, "beta")
    with pytest.raises(InternalError, match=r"beta did not boot: .*overlay") as failure:
        beta.up(tmp_path / "nothing", [], ("alpha", "beta"))
    assert failure.value.remedy
    bare_lab.down()
    assert_gone(bare_lab)
