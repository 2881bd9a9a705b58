"""Where CRIU works on a host, for one job: memory images and logs, in directories that only root can read."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from migrator.criu.lazy.ending import end_server
from migrator.criu.leftovers import end_criu, ending_lost_criu, remove_tree, works_in
from migrator.models.phase import JobKind
from migrator.service.guards import criu_directory
from migrator.service.host import Act, Host
from migrator.service.room import fits_in_memory
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.durable import write_durably

FETCHED = "fetched"
"""The note that says so lies where a reboot forgets it."""

KEPT = "extents"
AHEAD = "ahead-"
"""Begins the name of a directory of images that came ahead of the freeze."""
LAYER = ".layer"
"""Ends the name of the file beside it that says what is where in it."""


def work_directory(host: Host, act: Act) -> Path:
    """Where CRIU leaves its log; the shim would remove it otherwise."""
    directory = _in_memory(host, act)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def new_image_directory(host: Host, act: Act, size_bytes: int) -> Path:
    """Say where images of that size shall lie, and remove what a former attempt left; the directory is not made.

    RUN_DIR is memory, the fastest place, and no page of the program touches a disk. What does not fit there lies below
    STATE_DIR.
    """
    remove_images(host, act)
    place = _in_memory(host, act) if fits_in_memory(host, size_bytes) else _on_disk(host, act)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place / "images"


def ahead_directory(host: Host, act: Act, number: int, size_bytes: int) -> Path:
    """Say where images of that size that come ahead of the freeze shall lie; what a former attempt left is removed."""
    for place in (_in_memory(host, act), _on_disk(host, act)):
        (place / f"{AHEAD}{number}{LAYER}").unlink(missing_ok=True)  # first: they are not whole any more
        shutil.rmtree(place / f"{AHEAD}{number}", ignore_errors=True)
    place = _in_memory(host, act) if fits_in_memory(host, size_bytes) else _on_disk(host, act)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place / f"{AHEAD}{number}"


def newest_ahead(host: Host, act: Act, before: int) -> Path | None:
    """The images that came last ahead of the freeze, and whole: what is where in them is written down beside them.

    Args:
        host: This host.
        act: The job's.
        before: The number of a later round; what an earlier attempt at it has left does not count.
    """
    for number in range(before - 1, 0, -1):
        for place in (_in_memory(host, act), _on_disk(host, act)):
            if (place / f"{AHEAD}{number}{LAYER}").exists():
                return place / f"{AHEAD}{number}"
    return None


def kept_file(host: Host, act: Act, size_bytes: int = 0) -> Path:
    """Where this job keeps the bytes of memory; where it shall, if that much is to come and nothing is there yet."""
    places = [_in_memory(host, act) / KEPT, _on_disk(host, act) / KEPT]
    for place in places:
        if place.exists():
            return place
    place = places[0] if fits_in_memory(host, size_bytes) else places[1]
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


def image_directory(host: Host, act: Act) -> Path:
    """Where this job's images lie."""
    on_disk = _on_disk(host, act) / "images"
    return on_disk if on_disk.exists() else _in_memory(host, act) / "images"


def note_fetched(host: Host, act: Act, size_bytes: int) -> None:
    """Note that all of a checkpoint is here; where there is no room for the note it may be fetched once more."""
    note = _in_memory(host, act) / FETCHED
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(note, str(size_bytes), note.with_suffix(".new"))


def read_fetched(host: Host, act: Act) -> int | None:
    """How many bytes of a checkpoint are here, all that there are; None if it must be fetched."""
    note = _in_memory(host, act) / FETCHED
    return int(note.read_text()) if note.exists() and image_directory(host, act).is_dir() else None


def volume_directory(host: Host, act: Act) -> Path:
    """Where the content of this job's volumes lies: beside the images."""
    return image_directory(host, act).parent / "volumes"


def remove_images(host: Host, act: Act) -> None:
    """Remove this job's images and volumes and leave the logs."""
    (_in_memory(host, act) / FETCHED).unlink(missing_ok=True)  # first: they are not all here any more
    for place in (_in_memory(host, act), _on_disk(host, act)):
        for name in ("images", "volumes"):
            shutil.rmtree(place / name, ignore_errors=True)


def watching_criu(host: Host, act: Act) -> AbstractContextManager[None]:
    """While CRIU works for this job, see to it that its death is noticed."""
    return ending_lost_criu(_in_memory(host, act), _on_disk(host, act))


def criu_works(host: Host, act: Act) -> bool:
    """Whether CRIU is still at work for this job."""
    return works_in(_in_memory(host, act), _on_disk(host, act))


def end_job_criu(host: Host, act: Act) -> None:
    """End what CRIU still does for this job: nobody waits for it any more."""
    end_criu(_in_memory(host, act), _on_disk(host, act))


def remove_work_directory(host: Host, act: Act) -> None:
    """Remove all that CRIU left for this job, processes too."""
    end_job_criu(host, act)
    end_server(_in_memory(host, act))
    shutil.rmtree(_on_disk(host, act), ignore_errors=True)
    remove_tree(_in_memory(host, act))


def hook_directory(host: Host, act: Act) -> Path:
    """Where the hooks of this job have their pipes, and their note; the directory is not made."""
    return _in_memory(host, act) / "hooks"


def remove_hook_directory(host: Host, act: Act) -> None:
    """Remove it, and where CRIU would have worked, if it never did."""
    shutil.rmtree(hook_directory(host, act), ignore_errors=True)
    with suppress(OSError):
        _in_memory(host, act).rmdir()


def _in_memory(host: Host, act: Act) -> Path:
    return criu_directory(host.settings.run_dir, act.command.job_id)


def _on_disk(host: Host, act: Act) -> Path:
    return host.settings.state_dir / "criu" / act.command.job_id


def store_of(host: Host, act: Act) -> CheckpointStore:
    """Where a job writes its checkpoint: one that is kept has a data key of its own.

    That of a migration is gone in a moment, and a key of its own would be what is left of it.
    """
    if act.request.kind is JobKind.MIGRATION and not act.request.keep_checkpoint:
        return host.checkpoints
    return host.checkpoints.writing(str(act.command.checkpoint_id))
