"""Thousands of runs in one process."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import structlog

from migrator.service import identifiers
from migrator.simulator.quiet import be_quiet


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    config, threshold, chance = structlog.get_config(), gc.get_threshold(), identifiers.chance
    be_quiet()
    yield
    structlog.configure(**config)
    gc.set_threshold(*threshold)
    gc.unfreeze()
    identifiers.chance = chance
