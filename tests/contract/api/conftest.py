from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.api import ServedApi, served_api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ServedApi]:
    with served_api(tmp_path) as api:
        yield api


@pytest.fixture
def two_hosts(api: ServedApi) -> ServedApi:
    """alpha and beta have live workers."""
    api.beat("alpha", "beta")
    return api
