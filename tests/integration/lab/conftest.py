"""Fixtures of the lab's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.lab.recipes import shell_image


@pytest.fixture(scope="session")
def counter_image(lab_root: Path) -> Path:
    return shell_image(lab_root, "counter.sh")
