"""Where CRIU works on a host, for one job: memory images and logs, in a directory only root can read."""

from __future__ import annotations

import shutil
from pathlib import Path

from migrator.service.host import Act, Host


def work_directory(host: Host, act: Act) -> Path:
    """Where CRIU leaves its log; the shim would remove it otherwise."""
    directory = _job_directory(host, act)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def image_directory(host: Host, act: Act) -> Path:
    """Where CRIU's images lie for a restore. RUN_DIR is memory: no page of the program touches a disk."""
    return _job_directory(host, act) / "images"


def remove_work_directory(host: Host, act: Act) -> None:
    """Remove all that CRIU left for this job."""
    shutil.rmtree(_job_directory(host, act), ignore_errors=True)


def _job_directory(host: Host, act: Act) -> Path:
    return host.settings.run_dir / "criu" / act.command.job_id
