from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.servers.api import ServedApi, served_api
from tests.servers.command_line import Answer, run_migrator

Cli = Callable[..., Answer]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ServedApi]:
    """A server with two live hosts."""
    with served_api(tmp_path) as api, capture_logs():  # the server's words are not the command's
        api.beat("alpha", "beta")
        yield api


@pytest.fixture
def cli(api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line, told where the server is."""
    monkeypatch.setenv("MIGRATOR_API", api.address)
    return run_migrator
