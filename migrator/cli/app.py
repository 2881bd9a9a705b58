"""The command line put together; each group of commands has a file of its own."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from migrator.cli.asking import tell
from migrator.cli.checkpoints import backup, checkpoints_app
from migrator.cli.drains import drain
from migrator.cli.hosts import containers_app, doctor, hosts_app
from migrator.cli.jobs import jobs_app
from migrator.cli.moves import migrate, preflight
from migrator.cli.reports import report
from migrator.cli.restores import drill, restore
from migrator.cli.retention import catalog_app, forget, prune, verify
from migrator.cli.schedules import schedules_app
from migrator.errors import KINDS, MigratorError


def list_exit_codes() -> str:
    """The exit codes in one sentence."""
    kinds = {kind.exit_code: "" for kind in sorted(KINDS.values(), key=lambda kind: kind.exit_code)}
    for name, kind in KINDS.items():
        if not kind.__subclasses__():
            kinds[kind.exit_code] += f" or {name}" if kinds[kind.exit_code] else name
    return "Exit codes: 0 fine, " + ", ".join(f"{code} {names}" for code, names in kinds.items()) + ", 130 interrupted."


app = typer.Typer(
    name="migrator",
    help="Live migration and running-state backup for containers under containerd.",
    epilog=list_exit_codes(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (migrate, preflight, backup, restore, drill, report, drain, forget, prune, verify, doctor):
    app.command()(command)
for name, group in (
    ("hosts", hosts_app),
    ("containers", containers_app),
    ("jobs", jobs_app),
    ("checkpoints", checkpoints_app),
    ("catalog", catalog_app),
    ("schedules", schedules_app),
):
    app.add_typer(group, name=name)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version

        typer.echo(version("migrator"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Live migration and running-state backup for containers under containerd."""
    del version


def run() -> None:
    """Run the command line; our errors become a message and an exit code."""
    try:
        app()
    except MigratorError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.to_dict()}, indent=2))
        else:
            tell(error.to_dict())
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
