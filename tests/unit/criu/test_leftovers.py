"""A CRIU is known by its name and by what it has open; nobody else is touched."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.criu.leftovers import end_criu, remove_tree, works_in


def begin(program: Path, opened: Path) -> subprocess.Popen[bytes]:
    opened.parent.mkdir(parents=True, exist_ok=True)
    with opened.open("w") as file:
        return subprocess.Popen([program, "60"], stdout=file)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    sleep = Path(shutil.which("sleep") or "/bin/sleep").resolve()
    criu = shutil.copy(sleep, tmp_path / "criu")
    found = {
        "of this job": begin(criu, tmp_path / "job-1/dump.log"),
        "of another job": begin(criu, tmp_path / "job-10/dump.log"),
        "no criu": begin(sleep, tmp_path / "job-1/other.log"),
    }
    yield found
    for process in found.values():
        process.kill()
        process.wait(timeout=10)


def test_only_a_criu_that_works_for_the_job_is_ended(
    tmp_path: Path, processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    remove_tree(tmp_path / "job-1")
    end_criu(tmp_path / "job-1")
    assert processes["of this job"].wait(timeout=10) == -signal.SIGKILL
    assert processes["of another job"].poll() is None
    assert processes["no criu"].poll() is None


def test_one_that_waits_for_its_configuration_is_ended_too(tmp_path: Path) -> None:
    criu = shutil.copy(Path(shutil.which("sleep") or "/bin/sleep").resolve(), tmp_path / "criu")
    homes = {name: tmp_path / name / "home" for name in ("job-1", "job-10")}
    waiting = {name: subprocess.Popen([criu, "60"], env={"HOME": str(home)}) for name, home in homes.items()}
    end_criu(tmp_path / "job-1")
    assert waiting["job-1"].wait(timeout=10) == -signal.SIGKILL
    assert waiting["job-10"].poll() is None
    assert not works_in(tmp_path / "job-10")  # it holds nobody yet
    waiting["job-10"].kill()
    waiting["job-10"].wait(timeout=10)


def test_a_directory_is_removed_and_one_that_is_not_there_is_fine(tmp_path: Path) -> None:
    (tmp_path / "job/images").mkdir(parents=True)
    remove_tree(tmp_path / "job")
    remove_tree(tmp_path / "job")
    assert not (tmp_path / "job").exists()
