"""What a job makes of volumes on its target, written down before it is made: an undo removes that and nothing else.

A volume is made in a directory beside its place, which bears the job's name, and renamed when it is whole: the place
has all of it or none. The record knows it by its inode, so that what somebody else put there is never taken for it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from migrator.errors import PreconditionFailed
from migrator.models.volumes import Volume, VolumeKind
from migrator.service.volumes.archive import only_file
from migrator.storage.durable import write_durably

PIECE_BYTES = 1 << 20
MADE_MODE = 0o755
"""Of directories on the way to a volume that the target lacks."""


@dataclass(slots=True)
class Placed:
    """A volume in its place."""

    path: str
    inode: int
    stood_before: dict[str, int] | None = None
    """Mode and owner of the empty directory that it replaced."""


@dataclass(slots=True)
class Appended:
    """A log that was here before, and goes on."""

    path: str
    inode: int
    size_before: int
    size_after: int = 0
    """Longer than this, others have written into it since, and nothing is cut off."""


@dataclass(slots=True)
class Record:
    """All that one job made, or was about to make."""

    container: str = ""
    """For whom, as `namespace/name`."""
    ways: list[str] = field(default_factory=list)
    """Directories that were missing, the topmost first."""
    stages: list[str] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)
    appended: list[Appended] = field(default_factory=list)


class Places:
    """One job's volumes on this host.

    Args:
        directory: Where the records are kept; it survives a reboot.
        job_id: Whose.
    """

    def __init__(self, directory: Path, job_id: str):
        self.file = directory / f"{job_id}.json"
        self._job_id = job_id

    def make(self, volume: Volume, container: str, fill: Callable[[Path], None]) -> None:
        """Make a volume; `fill` gets an empty directory for its content.

        Raises:
            PreconditionFailed: `volume_exists`, somebody put something there meanwhile.
        """
        place, record = Path(volume.source), self.read()
        stage = self._stage(place, container, record, fill)
        content = only_file(stage) if volume.kind is VolumeKind.FILE else stage
        record.placed.append(Placed(str(place), content.stat().st_ino, _standing(place)))
        self._write(record)
        _put(content, place)
        if content is not stage:
            shutil.rmtree(stage)

    def append(self, log: Volume, container: str, fill: Callable[[Path], None]) -> None:
        """Make a log file, or let the one that is here go on with what it lacks.

        A container that comes back finds what it wrote before it left: only the rest of its log is appended then.
        """
        place = Path(log.source)
        if not place.is_file():
            self.make(log, container, fill)
            return
        record = self.read()
        stage = self._stage(place, container, record, fill)
        with only_file(stage).open("rb") as whole, place.open("rb") as here, place.open("ab") as end:
            _find_rest(whole, here)
            info, rest_bytes = os.fstat(here.fileno()), os.fstat(whole.fileno()).st_size - whole.tell()
            record.appended.append(Appended(str(place), info.st_ino, info.st_size, info.st_size + rest_bytes))
            self._write(record)
            shutil.copyfileobj(whole, end, PIECE_BYTES)
        shutil.rmtree(stage)

    def take_back(self) -> None:
        """Remove all that this job made, as far as it is still the same; may be repeated."""
        record = self.read()
        for placed in reversed(record.placed):
            _remove_placed(placed)
        for appended in reversed(record.appended):
            _cut(appended)
        for stage in record.stages:
            shutil.rmtree(stage, ignore_errors=True)
        for way in reversed(record.ways):
            with suppress(OSError):  # somebody else uses it by now
                Path(way).rmdir()
        self.hand_over()

    def hand_over(self) -> None:
        """Forget what was made: it belongs to the container from now on."""
        self.file.unlink(missing_ok=True)

    def read(self) -> Record:
        """What this job made so far."""
        try:
            data = json.loads(self.file.read_text())
        except FileNotFoundError:
            return Record()
        placed, appended = data.pop("placed"), data.pop("appended")
        return Record(
            **data, placed=[Placed(**item) for item in placed], appended=[Appended(**item) for item in appended]
        )

    def _stage(self, place: Path, container: str, record: Record, fill: Callable[[Path], None]) -> Path:
        """Make a directory beside a place and fill it."""
        record.container = container
        self._make_way(place.parent, record)
        stage = place.parent / f".migrator-{self._job_id}-{len(record.stages)}"
        record.stages.append(str(stage))
        self._write(record)
        stage.mkdir(mode=0o700)
        fill(stage)
        return stage

    def _make_way(self, directory: Path, record: Record) -> None:
        missing = [str(way) for way in (*reversed(directory.parents), directory) if not way.exists()]
        record.ways += missing
        self._write(record)
        for way in missing:
            Path(way).mkdir(mode=MADE_MODE)

    def _write(self, record: Record) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self.file, json.dumps(asdict(record)), self.file.with_suffix(".new"))


def kept_records(directory: Path) -> Iterator[tuple[str, Record, datetime]]:
    """Every record of this host: the job, what it made, and when that was written down last."""
    for file in sorted(directory.glob("*.json")) if directory.is_dir() else []:
        with suppress(FileNotFoundError):
            since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            yield file.stem, Places(directory, file.stem).read(), since


def _put(content: Path, place: Path) -> None:
    """Give the content its name; neither rename over a directory that is not empty nor link over a file is possible."""
    try:
        if content.is_dir():
            content.rename(place)
        else:
            place.hardlink_to(content)
    except OSError as error:
        raise PreconditionFailed(
            f"{place} cannot become a volume: {error.strerror}",
            code="volume_exists",
            remedy="move away what is there, or declare the volume shared",
        ) from error


def _find_rest(whole: BinaryIO, here: BinaryIO) -> None:
    """Stand in `whole` at what `here` lacks: its rest if `here` is how it began, its end if it is how `here` began."""
    while True:
        ours, theirs = whole.read(PIECE_BYTES), here.read(PIECE_BYTES)
        common = min(len(ours), len(theirs))
        if ours[:common] != theirs[:common]:
            whole.seek(0)
            break
        if common < PIECE_BYTES:
            whole.seek(common - len(ours), os.SEEK_CUR)
            break


def _cut(appended: Appended) -> None:
    """Give a log the length that it had, unless somebody else has written into it since."""
    path = Path(appended.path)
    with suppress(FileNotFoundError):
        info = path.stat()
        if info.st_ino == appended.inode and appended.size_before < info.st_size <= appended.size_after:
            os.truncate(path, appended.size_before)


def _standing(place: Path) -> dict[str, int] | None:
    try:
        info = place.lstat()
    except FileNotFoundError:
        return None
    return {"mode": info.st_mode & 0o7777, "uid": info.st_uid, "gid": info.st_gid}


def _remove_placed(placed: Placed) -> None:
    path = Path(placed.path)
    with suppress(FileNotFoundError):
        if path.lstat().st_ino != placed.inode:
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if placed.stood_before and not path.exists():
        path.mkdir()
        os.chown(path, placed.stood_before["uid"], placed.stood_before["gid"])
        path.chmod(placed.stood_before["mode"])
