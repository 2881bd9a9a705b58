"""The checks of the machine, on the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from migrator.lab import machine

pytestmark = pytest.mark.real


def test_this_machine_can_carry_a_lab() -> None:
    machine.check_machine()


@pytest.mark.parametrize("command", [["up"], ["down"], ["status"], ["build"], ["exec", "alpha", "--", "true"]])
def test_another_user_than_root_is_told_in_one_line(command: list[str]) -> None:
    # In a user namespace without a mapping the process is nobody, whoever started it.
    argv = ["unshare", "--user", sys.executable, "-m", "migrator.lab", *command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 7, done.stderr
    assert "needs root" in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
