"""`--help` works everywhere and loads nothing that it does not need."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

from migrator.cli.app import list_exit_codes
from migrator.errors import KINDS
from tests.servers.command_line import run_migrator
from tests.unit.cli.commands import COMMANDS

HEAVY = (
    "grpc",
    "celery",
    "kombu",
    "sqlalchemy",
    "boto3",
    "alembic",
    "pydantic_settings",
    "migrator.gen",
    "migrator.wiring",
)
WITHOUT_JSON = {("server",), ("controller",), ("worker",), ("lab", "exec"), ("lab", "shell")}
ASK_ALL = """
import contextlib, io, json, sys
from migrator.__main__ import main
commands, heavy = json.loads(sys.argv[1])
for words in commands:
    sys.argv = ["migrator", *words, "--help"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            main()
    except SystemExit as end:
        assert end.code == 0, words
    assert "Usage: migrator" in said.getvalue(), words
    loaded = [name for name in heavy if name in sys.modules]
    assert not loaded, f"{words} --help loads {loaded}"
"""
"""One process for all: what an earlier command loads would only be blamed on it."""


def test_help_loads_nothing_heavy() -> None:
    asked = json.dumps([[(), ("lab",), ("jobs",), *COMMANDS], HEAVY])
    done = subprocess.run([sys.executable, "-c", ASK_ALL, asked], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_is_quick() -> None:
    """By the processor's time: a busy machine makes everybody wait."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "migrator", "--help"], capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 2.0


def test_every_command_that_answers_has_json() -> None:
    with_json = {path for path, command in COMMANDS.items() if any("--json" in item.opts for item in command.params)}
    assert with_json == set(COMMANDS) - WITHOUT_JSON


def test_every_command_and_option_says_what_it_does() -> None:
    for path, command in COMMANDS.items():
        assert command.help, path
        for parameter in command.params:
            assert parameter.help, (path, parameter.name)


def test_groups_without_a_command_print_their_help() -> None:
    for words in ((), ("hosts",), ("containers",), ("jobs",), ("checkpoints",), ("schedules",), ("lab",)):
        answer = run_migrator(*words)
        assert answer.code == 2
        assert "Usage:" in answer.out + answer.err


def test_the_exit_codes_are_in_the_help() -> None:
    said = list_exit_codes()
    for name, kind in KINDS.items():
        if not kind.__subclasses__():
            assert name in said
            assert f"{kind.exit_code} " in said


def test_the_version() -> None:
    answer = run_migrator("--version")
    assert answer.code == 0
    assert answer.out.strip()[0].isdigit()
