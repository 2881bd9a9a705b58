"""What a job makes of volumes goes again with its undo, wherever it was interrupted, and nothing else goes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import PreconditionFailed
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy
from migrator.service.volumes.places import Places, kept_records

JOB = "mig-2222222222"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "state", JOB)


def volume(source: Path, kind: VolumeKind = VolumeKind.DIRECTORY) -> Volume:
    return Volume("/data", str(source), VolumePolicy.COPY, kind)


def fill(stage: Path) -> None:
    (stage / "file").write_text("content")


def test_made_and_taken_back_with_the_way_to_it(tmp_path: Path, places: Places) -> None:
    place = tmp_path / "srv/app/data"
    places.make(volume(place), "default/web", fill)
    assert (place / "file").read_text() == "content"
    assert [path.name for path in place.parent.iterdir()] == ["data"]
    ((job, record, _),) = kept_records(tmp_path / "state")
    assert (job, record.container) == (JOB, "default/web")
    places.take_back()
    places.take_back()
    assert not (tmp_path / "srv").exists()
    assert not list(kept_records(tmp_path / "state"))


def test_a_single_file(tmp_path: Path, places: Places) -> None:
    place = tmp_path / "resolv.conf"
    places.make(volume(place, VolumeKind.FILE), "default/web", fill)
    assert place.read_text() == "content"
    places.take_back()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_an_empty_directory_is_a_place_and_comes_back(tmp_path: Path, places: Places) -> None:
    place = tmp_path / "data"
    place.mkdir()
    place.chmod(0o711)
    places.make(volume(place), "default/web", fill)
    assert (place / "file").exists()
    places.take_back()
    assert not list(place.iterdir())
    assert place.stat().st_mode & 0o7777 == 0o711


@pytest.mark.parametrize("kind", [VolumeKind.DIRECTORY, VolumeKind.FILE])
def test_what_somebody_else_has_there_is_never_touched(tmp_path: Path, places: Places, kind: VolumeKind) -> None:
    place = tmp_path / "data"
    if kind is VolumeKind.DIRECTORY:
        place.mkdir()
        (place / "theirs").touch()
    else:
        place.write_text("theirs")
    with pytest.raises(PreconditionFailed) as caught:
        places.make(volume(place, kind), "default/web", fill)
    assert caught.value.code == "volume_exists"
    places.take_back()
    assert (place / "theirs").exists() if kind is VolumeKind.DIRECTORY else place.read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "state"]


def test_what_came_instead_is_not_taken_for_ours(tmp_path: Path, places: Places) -> None:
    place = tmp_path / "data"
    places.make(volume(place), "default/web", fill)
    place.rename(tmp_path / "moved-away")  # keeps its inode, so that the new one has another
    place.mkdir()
    (place / "theirs").touch()
    places.take_back()
    assert (place / "theirs").exists()


def test_an_interruption_leaves_nothing(tmp_path: Path, places: Places) -> None:
    def die(stage: Path) -> None:
        fill(stage)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        places.make(volume(tmp_path / "srv/data"), "default/web", die)
    Places(tmp_path / "state", JOB).take_back()  # by a worker that knows nothing of the one before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_a_directory_on_the_way_that_others_use_by_now_stays(tmp_path: Path, places: Places) -> None:
    places.make(volume(tmp_path / "srv/app/data"), "default/web", fill)
    (tmp_path / "srv/theirs").touch()
    places.take_back()
    assert [path.name for path in (tmp_path / "srv").iterdir()] == ["theirs"]


def test_what_was_handed_over_stays(tmp_path: Path, places: Places) -> None:
    place = tmp_path / "data"
    places.make(volume(place), "default/web", fill)
    places.hand_over()
    places.take_back()
    assert (place / "file").exists()
