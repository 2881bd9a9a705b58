"""`migrator keys`: the deployment's key ring. They work on this machine's key file and store, without the server.

No key goes over the API, and none is printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from migrator.cli.arguments import AsJson
from migrator.cli.asking import show

if TYPE_CHECKING:
    from migrator.storage.encryption.rotation import KeyKeeper, Rewrapped
    from migrator.storage.encryption.source import RingFile

keys_app = typer.Typer(help="The key ring: what encrypts and signs checkpoints.", no_args_is_help=True)
KeyFile = Annotated[
    Path | None, typer.Option("--file", help="The key file; the one of MIGRATOR_KEY_FILE when not given.")
]
DEFAULT_FILE = Path("/etc/migrator/keys.json")


@keys_app.command("init")
def make_ring(file: KeyFile = None, as_json: AsJson = False) -> None:
    """Make a key ring in a new file, which root alone can read. Keep a copy elsewhere: without it backups are lost."""
    from migrator.settings import load_settings
    from migrator.storage.encryption.ring import new_ring
    from migrator.storage.encryption.source import RingFile

    path = file or load_settings().key_file or DEFAULT_FILE
    ring = new_ring()
    RingFile(path).create(ring)
    show({"file": str(path), "id": ring.active_id}, as_json, _tell_made)


@keys_app.command("list")
def list_keys(
    usage: Annotated[bool, typer.Option("--usage", help="Count in the store what needs each key.")] = False,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the keys of the ring, oldest first, with their public halves."""
    from migrator.storage.encryption.opening import open_ring

    ring = open_ring(_settings(file)).current()
    counted = _keeper(file).usage() if usage else None
    keys = [
        {
            "id": key.id,
            "created_at": key.created_at.isoformat(),
            "active": key.id == ring.active_id,
            "public_key": key.public_text,
            "data_keys": counted.data_keys[key.id] if counted else None,
            "signatures": counted.signatures[key.id] if counted else None,
        }
        for key in ring.keys
    ]
    show(keys, as_json, _tell_keys)


@keys_app.command("rotate")
def rotate(
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only add the next key, so that it can be given to all hosts first.")
    ] = False,
    file: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make the next key active, the prepared one or a new one, and bring what there is under it."""
    from migrator.storage.encryption.rotation import activate_key, prepare_key

    ring_file = _file(file)
    if prepare:
        show({"id": prepare_key(ring_file).id}, as_json, lambda made: typer.echo(f"prepared {made['id']}"))
        return
    keeper = _keeper(file)
    keeper.usage()  # a store that cannot be used is noticed before anything changes
    activate_key(ring_file)
    show(_report(keeper.rewrap()), as_json, _tell_rewrapped)


@keys_app.command("rewrap")
def rewrap(file: KeyFile = None, as_json: AsJson = False) -> None:
    """Bring all data keys and signatures under the active key: finishes a rotation that was interrupted."""
    show(_report(_keeper(file).rewrap()), as_json, _tell_rewrapped)


@keys_app.command("sweep")
def sweep(file: KeyFile = None, as_json: AsJson = False) -> None:
    """Remove data keys that no object has needed for a week: of checkpoints that are gone."""
    from datetime import UTC, datetime

    removed = _keeper(file).sweep(datetime.now(UTC))
    show({"removed": removed}, as_json, lambda done: typer.echo(f"{done['removed']} data keys removed"))


@keys_app.command("retire")
def retire(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id.")], file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Remove a key from the ring; refused while it is active or anything in the store needs it."""
    from migrator.storage.encryption.rotation import retire_key

    retire_key(_file(file), key, _keeper(file))
    show({"id": key}, as_json, lambda gone: typer.echo(f"retired {gone['id']}"))


def _settings(file: Path | None) -> Any:
    from migrator.settings import load_settings

    return load_settings(**{"key_file": file, "key": None, "key_command": None} if file else {})


def _file(file: Path | None) -> RingFile:
    """The ring as a file that can be changed."""
    from migrator.errors import InvalidRequest
    from migrator.storage.encryption.opening import open_ring
    from migrator.storage.encryption.source import RingFile

    source = open_ring(_settings(file))
    if not isinstance(source, RingFile):
        raise InvalidRequest(
            f"the key ring comes from {source.place}, which this cannot change",
            code="key_ring_elsewhere",
            remedy="put its text into a file, change that (--file), and put the new text back",
        )
    return source


def _keeper(file: Path | None) -> KeyKeeper:
    from migrator.storage import open_checkpoints
    from migrator.storage.encryption.opening import open_ring
    from migrator.storage.encryption.rotation import KeyKeeper

    settings = _settings(file)
    return KeyKeeper(open_ring(settings), open_checkpoints(settings))


def _report(done: Rewrapped) -> dict[str, Any]:
    return {
        "active": done.active_id,
        "data_keys_rewrapped": done.data_keys,
        "signatures_renewed": done.signatures,
        "refused": list(done.refused),
    }


def _tell_made(made: dict[str, Any]) -> None:
    typer.echo(f"{made['file']}: key ring with key {made['id']}")
    typer.echo("Copy it to every host and to a safe place: what it encrypts cannot be read without it.", err=True)


def _tell_keys(keys: list[dict[str, Any]]) -> None:
    for key in keys:
        counts = "" if key["data_keys"] is None else f"  {key['data_keys']} data keys, {key['signatures']} signatures"
        state = "active" if key["active"] else "      "
        typer.echo(f"{key['id']}  {state}  {key['created_at']}  {key['public_key']}{counts}")


def _tell_rewrapped(done: dict[str, Any]) -> None:
    typer.echo(
        f"active key {done['active']}: {done['data_keys_rewrapped']} data keys wrapped anew, "
        f"{done['signatures_renewed']} checkpoints signed anew"
    )
    if done["refused"]:
        typer.echo(f"without a good signature, left as they are: {', '.join(done['refused'])}", err=True)
