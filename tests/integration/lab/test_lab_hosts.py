"""Two bare hosts: each is a machine of its own, and CRIU works in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_counters import IMAGE, ctr, eventually, read_count, start_counter, stays_still, task_pid

from migrator.lab.host import Host

pytestmark = pytest.mark.real


@pytest.fixture
def clean_hosts(bare_hosts: dict[str, Host]) -> Iterator[dict[str, Host]]:
    yield bare_hosts
    for host in bare_hosts.values():
        for container in host.exec(["ctr", "container", "ls", "-q"]).stdout.split():
            host.exec(["ctr", "task", "resume", container])
            host.exec(["ctr", "task", "delete", "--force", container])
            ctr(host, "container", "delete", container)


def test_the_same_container_id_on_two_hosts_is_two_cgroups(clean_hosts: dict[str, Host], counter_image: Path) -> None:
    alpha, beta = clean_hosts["alpha"], clean_hosts["beta"]
    on_alpha, on_beta = (start_counter(host, counter_image, "same") for host in (alpha, beta))
    ctr(alpha, "task", "pause", "same")
    assert stays_still(on_alpha)
    assert not stays_still(on_beta)
    ctr(alpha, "task", "resume", "same")
    assert not stays_still(on_alpha)


def test_criu_checkpoints_and_restores_within_a_host(clean_hosts: dict[str, Host], counter_image: Path) -> None:
    alpha = clean_hosts["alpha"]
    pid = start_counter(alpha, counter_image, "first")
    nonce, count = read_count(pid)
    ctr(alpha, "container", "checkpoint", "--rw", "--image", "--task", "first", "checkpoint:1")
    alpha.exec(["ctr", "task", "delete", "--force", "first"])
    ctr(alpha, "container", "delete", "first")
    ctr(alpha, "container", "restore", "--rw", "--live", "second", "checkpoint:1")
    restored = task_pid(alpha, "second")
    eventually(lambda: read_count(restored)[1] > count + 5)
    assert read_count(restored)[0] == nonce


def test_hosts_find_each_other_by_name(bare_hosts: dict[str, Host]) -> None:
    done = bare_hosts["alpha"].exec(["ping", "-c", "1", "-W", "2", "beta"])
    assert done.returncode == 0, done.stdout
    assert "10.77.0.12" in done.stdout


def test_nothing_of_the_lab_is_in_the_machines_own_network(bare_hosts: dict[str, Host]) -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    addresses = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
    assert "lab0" not in links
    assert "c-alpha" not in links
    assert "10.77.0." not in addresses


def test_exec_passes_input_output_and_exit_status(bare_hosts: dict[str, Host]) -> None:
    alpha = bare_hosts["alpha"]
    done = alpha.exec(["sh", "-c", "cat; echo trouble >&2; exit 7"], input="words")
    assert (done.stdout, done.stderr, done.returncode) == ("words", "trouble\n", 7)
    assert alpha.exec(["hostname"]).stdout == "alpha\n"
    assert alpha.exec(["no-such-program"]).returncode == 127


def test_exec_is_in_the_hosts_cgroups_and_namespaces(bare_hosts: dict[str, Host]) -> None:
    alpha = bare_hosts["alpha"]
    seen = alpha.exec(
        ["sh", "-c", "cat /proc/self/cgroup; for n in net mnt uts ipc cgroup; do readlink /proc/self/ns/$n; done"]
    )
    paths = [line.split(":", 2)[2] for line in seen.stdout.splitlines() if line.count(":") == 2 and "[" not in line]
    assert set(paths) <= {"/", "/init"}
    spaces = [line for line in seen.stdout.splitlines() if "[" in line]
    assert spaces == [str(Path(f"/proc/{alpha.pid}/ns/{n}").readlink()) for n in ("net", "mnt", "uts", "ipc", "cgroup")]


def lab_command(host: Host, *arguments: str) -> list[str]:
    name = host.layout.name
    return [sys.executable, "-m", "migrator.lab", arguments[0], "--name", name, *arguments[1:]]


def test_the_exec_command_passes_the_exit_status_on(bare_hosts: dict[str, Host]) -> None:
    command = lab_command(bare_hosts["alpha"], "exec", "beta", "--", "sh", "-c", "hostname; exit 9")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("beta\n", 9)


def test_the_exec_command_gives_a_terminal_when_there_is_one(bare_hosts: dict[str, Host], tmp_path: Path) -> None:
    inside = "'test -t 0 && test -t 1 && tty && stty size && exit 5'"
    command = " ".join(lab_command(bare_hosts["alpha"], "exec", "alpha", "--", "sh", "-c", inside))
    done = subprocess.run(
        [
            "script",
            "--quiet",
            "--return",
            "--command",
            f"stty rows 33 cols 77; {command}",
            str(tmp_path / "typescript"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 5, done.stdout
    assert "/dev/pts/" in done.stdout
    assert "33 77" in done.stdout


def test_exec_on_an_unknown_host_names_those_there_are(bare_hosts: dict[str, Host]) -> None:
    command = lab_command(bare_hosts["alpha"], "exec", "omega", "--", "true")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "'omega'" in done.stderr
    assert "alpha, beta" in done.stderr


def test_a_killed_containerd_starts_again_and_knows_its_containers(
    clean_hosts: dict[str, Host], counter_image: Path
) -> None:
    beta = clean_hosts["beta"]
    pid = start_counter(beta, counter_image, "survivor")
    service = beta.service("containerd")
    before = beta.containerd_pid
    service.kill()
    assert service.pid is None
    assert service.exit_status == -9
    assert not stays_still(pid)
    service.start()
    assert beta.containerd_pid not in (None, before)
    assert task_pid(beta, "survivor") == pid


def test_images_survive_in_the_content_store(bare_hosts: dict[str, Host], counter_image: Path) -> None:
    bare_hosts["alpha"].import_image(counter_image)
    assert IMAGE in ctr(bare_hosts["alpha"], "image", "ls", "-q")
