"""The command `migrator`: the client's commands, the processes, and the lab."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli.app import app, run
from migrator.cli.keys import keys_app
from migrator.lab.commands import lab_app

PROCESSES = "Processes"


@app.command(rich_help_panel=PROCESSES)
def server() -> None:
    """Serve the gRPC API (control plane)."""
    from migrator.settings import load_settings
    from migrator.wiring import serve_api

    raise typer.Exit(serve_api(load_settings()))


@app.command(rich_help_panel=PROCESSES)
def controller() -> None:
    """Plan and drive jobs (control plane)."""
    from migrator.settings import load_settings
    from migrator.wiring import run_controller

    raise typer.Exit(run_controller(load_settings()))


@app.command(rich_help_panel=PROCESSES)
def worker(host: Annotated[str, typer.Option(help="The name of this host.")]) -> None:
    """Perform what the controller asks of this host (every host)."""
    from migrator.settings import load_settings
    from migrator.wiring import run_host_worker

    raise typer.Exit(run_host_worker(load_settings(), host))


app.add_typer(keys_app, name="keys", rich_help_panel=PROCESSES)
app.add_typer(lab_app, name="lab", rich_help_panel=PROCESSES)


def main() -> None:
    """Run the command line and exit with its status."""
    run()


if __name__ == "__main__":
    main()
