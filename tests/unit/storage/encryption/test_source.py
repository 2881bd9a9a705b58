"""The key ring: where it comes from, what is refused, and that nothing of it is ever told."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from migrator.errors import AlreadyExists, InvalidRequest, MigratorError, NotFound, PermissionDenied, Unavailable
from migrator.settings import Settings
from migrator.storage import open_checkpoints, open_store
from migrator.storage.encryption.opening import open_ring
from migrator.storage.encryption.ring import new_ring, read_ring, write_ring
from migrator.storage.encryption.source import RingFile
from migrator.storage.encryption.store import EncryptedStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    RingFile(path).create(new_ring())
    return path


def refusal(settings: Settings) -> MigratorError:
    with pytest.raises(MigratorError) as caught:
        open_store(settings)
    assert caught.value.remedy
    return caught.value


def secrets_in(text: str) -> list[str]:
    document = json.loads(text)
    return [document["names"], *(key["secret"] for key in document["keys"])]


def test_a_ring_is_written_and_read_again(file: Path) -> None:
    ring = RingFile(file).current()
    assert file.stat().st_mode & 0o777 == 0o600
    assert write_ring(read_ring(file.read_text(), "here")) == write_ring(ring)
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]


def test_a_ring_is_never_overwritten(file: Path) -> None:
    before = file.read_text()
    with pytest.raises(AlreadyExists) as caught:
        RingFile(file).create(new_ring())
    assert caught.value.code == "key_file_exists"
    assert file.read_text() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_file_that_others_may_use_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    error = refusal(Settings(key_file=file))
    assert (type(error), error.code) == (PermissionDenied, "key_file_open")
    assert "chmod 600" in str(error.remedy)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    error = refusal(Settings(key_file=tmp_path / "none.json"))
    assert (type(error), error.code) == (NotFound, "key_file_missing")


def test_a_file_that_was_replaced_is_read_again(file: Path) -> None:
    source = RingFile(file)
    before = source.current()
    assert source.current() is before
    changed, made = before.with_new_key()
    source.replace(changed)
    assert source.current().knows(made.id)


def test_the_environment_and_a_command_give_a_ring(file: Path) -> None:
    text = file.read_text()
    command = shlex.join([sys.executable, "-c", "import sys; print(open(sys.argv[1]).read())", str(file)])
    for settings in (Settings(key=text), Settings(key_command=command)):
        assert write_ring(open_ring(settings).current()) == text
        assert isinstance(open_store(settings), EncryptedStore)


@pytest.mark.parametrize(
    ("program", "code"),
    [("print('SECRET')", "bad_key_ring"), ("print('SECRET'); raise SystemExit(3)", "key_command_failed")],
)
def test_a_command_that_fails_tells_nothing_of_what_it_printed(program: str, code: str) -> None:
    error = refusal(Settings(key_command=shlex.join([sys.executable, "-c", program])))
    assert error.code == code
    assert "SECRET" not in f"{error.to_dict()} {error.__cause__!r} {error.__context__!r}"


@pytest.mark.parametrize("command", ["/nowhere/at/all", "''"])
def test_a_command_that_cannot_be_started(command: str) -> None:
    error = refusal(Settings(key_command=command))
    assert (type(error), error.code) == (Unavailable, "key_command_failed")


def test_two_rings_are_one_too_many(file: Path) -> None:
    error = refusal(Settings(key_file=file, key="x"))
    assert (type(error), error.code) == (InvalidRequest, "bad_configuration")


@pytest.mark.parametrize("change", ["cut", "version", "secret", "active", "twice", "type"])
def test_a_damaged_ring_is_refused_and_not_quoted(file: Path, change: str) -> None:
    text = file.read_text()
    document = json.loads(text)
    if change == "version":
        document["version"] = 2
    elif change == "secret":
        document["keys"][0]["secret"] = document["keys"][0]["secret"][8:]
    elif change == "active":
        document["active"] = "k-000000000000"
    elif change == "twice":
        document["keys"] *= 2
    elif change == "type":
        document["keys"] = 3
    error = refusal(Settings(key=text[:-20] if change == "cut" else json.dumps(document)))
    assert error.code == "bad_key_ring"
    told = f"{error.to_dict()} {error.__cause__!r}"
    assert not [secret for secret in secrets_in(text) if secret[:12] in told or secret[8:] in told]


def test_keys_are_not_printed(file: Path) -> None:
    settings = Settings(key_file=file)
    ring = open_ring(settings).current()
    store = open_checkpoints(settings)
    things = (ring, ring.active, store, store.objects, Settings(key=file.read_text()))
    told = " ".join(f"{thing!r} {thing!s}" for thing in things)
    assert not [secret for secret in secrets_in(file.read_text()) if secret in told]
    assert repr(ring.active.secret) not in told


def test_without_keys_nothing_is_encrypted_or_loaded(tmp_path: Path) -> None:
    assert not isinstance(open_store(Settings(store_url=f"file://{tmp_path}")), EncryptedStore)


def test_an_empty_setting_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEY_FILE", "KEY", "KEY_COMMAND"):
        monkeypatch.setenv(f"MIGRATOR_{name}", "")
    settings = Settings()
    assert (settings.key_file, settings.key, settings.key_command) == (None, None, None)


def test_keys_may_be_for_signatures_alone(file: Path, tmp_path: Path) -> None:
    settings = Settings(key_file=file, encryption=False, store_url=f"file://{tmp_path}")
    assert not isinstance(open_store(settings), EncryptedStore)
    assert open_checkpoints(settings)._signatures is not None
