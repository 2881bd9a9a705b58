"""`migrator lab`: several hosts on one machine."""
# ruff: noqa: PLC0415 - every `migrator` command loads this file: what only a lab needs is imported when it is used

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from migrator.lab.host import Host

lab_app = typer.Typer(
    name="lab", help="Several hosts with containerd on this one machine, to try and to test.", no_args_is_help=True
)
Name = Annotated[str, typer.Option("--name", envvar="MIGRATOR_LAB", help="Which lab; several may run at once.")]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="alpha, beta, … or control.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEFAULT_NAME = "lab"
PASS_THROUGH = {"allow_interspersed_args": False, "ignore_unknown_options": True}


def show_progress(line: str) -> None:
    """Print one line of progress on stderr, so that stdout stays for results."""
    print(f"· {line}", file=sys.stderr, flush=True)


@lab_app.command()
def up(
    hosts: Annotated[int, typer.Option(help="How many hosts: alpha, beta, gamma, …")] = 2,
    database: Annotated[str, typer.Option(help="sqlite or postgresql.")] = "sqlite",
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="With a key ring: the store holds nothing readable.")
    ] = False,
    name: Name = DEFAULT_NAME,
    as_json: AsJson = False,
) -> None:
    """Start a lab, or mend and enlarge the one that runs."""
    from migrator.lab.control import check_database
    from migrator.lab.lab import Lab, Shape
    from migrator.lab.layout import host_names
    from migrator.lab.status import describe

    host_names(hosts)
    lab = Lab(name)
    lab.up(Shape(hosts, check_database(database), encrypted=encrypted), show_progress)
    show_progress(f"lab {name} is up: {', '.join(lab.all_hosts)}")
    if as_json:
        print(json.dumps(describe(lab), indent=2))


@lab_app.command()
def down(name: Name = DEFAULT_NAME, as_json: AsJson = False) -> None:
    """Stop a lab and leave nothing behind."""
    from migrator.lab.lab import Lab
    from migrator.lab.machine import check_root

    lab = Lab(name)
    check_root()
    was_there = lab.down()
    show_progress(f"lab {name} is down" if was_there else f"there was no lab {name}")
    if as_json:
        print(json.dumps({"name": name, "was_there": was_there}, indent=2))


@lab_app.command()
def build(as_json: AsJson = False) -> None:
    """Build the root file system of the hosts. `up` does so by itself when it is missing."""
    from migrator.lab.machine import check_machine
    from migrator.lab.rootfs import ensure_root

    check_machine()
    root = str(ensure_root(show_progress))
    print(json.dumps({"root": root}, indent=2) if as_json else root)


@lab_app.command()
def status(
    name: Name = DEFAULT_NAME,
    as_json: AsJson = False,
) -> None:
    """Show every host and service of a lab; exit status 1 when one that should run does not."""
    from migrator.lab.lab import Lab
    from migrator.lab.machine import check_root
    from migrator.lab.status import describe, show_status

    check_root()
    view = describe(Lab(name))
    if as_json:
        print(json.dumps(view, indent=2))
    else:
        show_status(view)
    raise typer.Exit(0 if view["healthy"] else 1)


@lab_app.command(name="exec", context_settings=PASS_THROUGH)
def execute(
    host: HostName,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="The command and its arguments.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Run a command inside a host, on this terminal; its exit status is passed on."""
    become(find_host(name, host), command[1:] if command[0] == "--" else command)


@lab_app.command()
def shell(host: HostName, name: Name = DEFAULT_NAME) -> None:
    """Open a shell inside a host."""
    become(find_host(name, host), ["bash", "-l"])


@lab_app.command()
def logs(
    host: HostName,
    service: Annotated[str, typer.Argument(help="containerd, worker, redis, s3, server, controller, …")],
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many lines from the end.")] = 1000,
    name: Name = DEFAULT_NAME,
    as_json: AsJson = False,
) -> None:
    """Print what a service wrote."""
    text = find_host(name, host).service(service).log_tail(lines)
    if as_json:
        print(json.dumps({"host": host, "service": service, "lines": text.splitlines()}, indent=2))
    elif text:
        print(text)


@lab_app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the container running on the target.")] = False,
    name: Name = DEFAULT_NAME,
    as_json: Annotated[bool, typer.Option("--json", help="Print that line alone.")] = False,
) -> None:
    """Move a running program to another host and show the proof; the last line is one JSON object."""
    from migrator.lab.demo import run_demo

    said = io.StringIO()
    with redirect_stdout(said) if as_json else nullcontext():
        status = run_demo(name, keep=keep)
    if as_json:
        print(said.getvalue().splitlines()[-1])
    raise typer.Exit(status)


def find_host(lab_name: str, host: str) -> Host:
    """Return a host of a lab, or fail by saying which there are."""
    from migrator.lab.lab import Lab
    from migrator.lab.machine import check_root

    check_root()
    return Lab(lab_name).host(host)


def become(host: Host, command: list[str]) -> None:
    """Become the command inside the host: terminal, signals and exit status are then simply its own."""
    from migrator.errors import InvalidRequest
    from migrator.lab.host import terminal_environment

    if not command:
        raise InvalidRequest("no command given", remedy="write: migrator lab exec HOST -- COMMAND")
    argv = host.enter_command(command, terminal_environment())
    os.execv(argv[0], argv)
