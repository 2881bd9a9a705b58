"""Where CRIU's images lie: in memory while they fit there, on disk otherwise, nowhere afterwards."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.errors import ResourceExhausted
from migrator.service.host import Act, Host
from migrator.service.room import check_image_room
from migrator.service.steps import work

HUGE = 1 << 60


@pytest.fixture
def host(tmp_path: Path) -> Host:
    settings = SimpleNamespace(run_dir=tmp_path / "run", state_dir=tmp_path / "state")
    return cast(Host, SimpleNamespace(settings=settings))


@pytest.fixture
def act() -> Act:
    command: Any = SimpleNamespace(job_id="j")
    return Act(command, lambda *_: None)


def test_small_images_lie_in_memory_and_large_ones_on_disk(host: Host, act: Act, tmp_path: Path) -> None:
    assert work.new_image_directory(host, act, 1000) == tmp_path / "run/criu/j/images"
    assert work.new_image_directory(host, act, HUGE) == tmp_path / "state/criu/j/images"


@pytest.mark.parametrize("size_bytes", [1000, HUGE])
def test_images_are_found_where_they_were_put(host: Host, act: Act, size_bytes: int) -> None:
    images = work.new_image_directory(host, act, size_bytes)
    images.mkdir()
    assert work.image_directory(host, act) == images
    assert images.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("size_bytes", [1000, HUGE])
def test_a_new_attempt_begins_with_nothing_of_the_former(host: Host, act: Act, size_bytes: int) -> None:
    former = work.new_image_directory(host, act, size_bytes)
    former.mkdir()
    (former / "pages-1.img").write_bytes(b"old")
    assert not work.new_image_directory(host, act, 1000).exists()
    assert not former.exists()


def test_nothing_is_left_of_a_job(host: Host, act: Act, tmp_path: Path) -> None:
    for size_bytes in (1000, HUGE):
        work.new_image_directory(host, act, size_bytes).mkdir()
        (work.work_directory(host, act) / "dump.log").write_text("…")
        work.remove_work_directory(host, act)
        assert not [path for path in tmp_path.rglob("*") if path.name in ("j", "dump.log")]


def test_what_fits_nowhere_is_said_before_the_freeze(host: Host) -> None:
    check_image_room(host, 1000)
    with pytest.raises(ResourceExhausted) as caught:
        check_image_room(host, HUGE)
    assert caught.value.code == "no_room"
    assert str(host.settings.state_dir) in str(caught.value)


@pytest.mark.parametrize("size_bytes", [1000, HUGE])
def test_a_checkpoint_is_fetched_when_all_of_it_is_here(host: Host, act: Act, size_bytes: int) -> None:
    assert work.read_fetched(host, act) is None
    images = work.new_image_directory(host, act, size_bytes)
    images.mkdir()
    assert work.read_fetched(host, act) is None
    work.note_fetched(host, act, 77)
    assert work.read_fetched(host, act) == 77
    work.new_image_directory(host, act, size_bytes).mkdir()
    assert work.read_fetched(host, act) is None, "a fetch that is begun anew has not ended"
    work.note_fetched(host, act, 77)
    work.remove_work_directory(host, act)
    assert work.read_fetched(host, act) is None


def test_without_room_for_the_note_it_is_fetched_once_more(host: Host, act: Act, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no directory")
    work.note_fetched(host, act, 77)
    assert not (tmp_path / "run/criu").exists()
