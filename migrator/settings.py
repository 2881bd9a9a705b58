"""Configuration: one frozen object, read once from `MIGRATOR_*` variables and an optional TOML file.

Nobody else in the project reads the environment. Precedence: environment, then the file named by `MIGRATOR_CONFIG`
(default `/etc/migrator/migrator.toml`, may be absent), then the defaults below.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from migrator.errors import InvalidRequest, PermissionDenied
from migrator.rates import parse_rate

DEFAULT_CONFIG = Path("/etc/migrator/migrator.toml")
DEFAULT_API_SOCKET = Path("/run/migrator/api.sock")
LAB_RUN_DIR = Path("/run/migrator-lab")
"""A running lab NAME has its API at `LAB_RUN_DIR/NAME/api/api.sock`: how clients on the machine find it."""


class Settings(BaseSettings):
    """All settings with their defaults; each is `MIGRATOR_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="MIGRATOR_", frozen=True, extra="forbid")

    api: str | None = None
    """Where clients find the API: `unix:///path` or `host:port`. None: the local socket, or a running lab's."""
    api_listen: str | None = None
    """Extra TCP address the server listens on, `host:port`; the unix socket is always there."""
    api_socket: Path = DEFAULT_API_SOCKET

    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    database_url: SecretStr = SecretStr("sqlite:////var/lib/migrator/migrator.db")
    """SQLAlchemy URL: `sqlite:////path` or `postgresql+psycopg://user:password@host/name`."""

    store_url: str = "file:///var/lib/migrator/store"
    """`s3://bucket[/prefix]` or `file:///directory`."""
    s3_endpoint: str | None = None
    s3_region: str = "us-east-1"
    s3_access_key: SecretStr | None = None
    s3_secret_key: SecretStr | None = None

    key_file: Path | None = None
    """The key ring, as `migrator keys init` writes it. With one, everything in the store is encrypted and signed."""
    key: SecretStr | None = None
    """The text of the key ring itself, instead of a file."""
    key_command: str | None = None
    """A command that prints the key ring: a plug-in for vaults. It is run without a shell."""
    encryption: bool = True
    """False: a deployment with keys signs its checkpoints and leaves the objects readable."""
    accept_unprotected: bool = False
    """Read also what was written before there were keys: plain objects, checkpoints without a signature."""

    containerd_socket: Path = Path("/run/containerd/containerd.sock")
    criu_path: str = "criu"
    state_dir: Path = Path("/var/lib/migrator")
    """Survives a reboot: the highest epochs a host has seen."""
    run_dir: Path = Path("/run/migrator")
    """Does not survive a reboot: pause guards, sockets."""

    freeze_budget_s: float = Field(30.0, gt=0)
    """A source frozen longer than this before the promise resumes by itself."""
    guard_patience_s: float = Field(3.0, gt=0, le=5.0)
    """How long a pause guard lets a frozen task wait after its worker died."""
    heartbeat_s: float = Field(1.0, gt=0)
    sight_s: float = Field(5.0, gt=0)
    """How often a worker tells what it sees on its host."""
    host_silent_s: float = Field(4.0, gt=0)
    """A host without a heartbeat for this long counts as without a live worker."""
    freezes_per_host: int = Field(2, ge=1)
    """Jobs that may dump, move or restore memory on one host at the same time; the others queue."""
    leftover_age_s: float = Field(600.0, gt=0)
    """What no job accounts for is removed from a host only when it has lain about for so long."""
    worker_slots: int = Field(8, ge=1)
    """Acts a worker performs at the same time."""
    bandwidth: str | None = None
    """So fast may a host's worker send to the store, and fetch from it, for all its jobs together: `50MiB/s`."""

    log_level: str = "info"
    log_json: bool = False

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if not value.startswith(("s3://", "file:///")):
            raise ValueError("must begin with s3:// or file:///")
        return value

    @field_validator("key_file", "key", "key_command", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("bandwidth")
    @classmethod
    def _known_bandwidth(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            parse_rate(value)
        except InvalidRequest as error:
            raise ValueError(error.message) from error
        return value

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in ("debug", "info", "warning", "error"):
            raise ValueError("must be debug, info, warning or error")
        return value.lower()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file over defaults."""
        del dotenv_settings, file_secret_settings
        file = Path(os.environ.get("MIGRATOR_CONFIG", DEFAULT_CONFIG))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


def load_settings(**overrides: object) -> Settings:
    """Read the configuration.

    Raises:
        InvalidRequest: A value is malformed or a setting is unknown; the message names each one.
        PermissionDenied: The configuration file may not be read.
    """
    named = os.environ.get("MIGRATOR_CONFIG")
    if named and not Path(named).is_file():
        raise InvalidRequest(
            f"configuration file {named} does not exist",
            code="bad_configuration",
            remedy="create it or unset MIGRATOR_CONFIG",
        )
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InvalidRequest(
            f"bad configuration: {faults}",
            code="bad_configuration",
            remedy="correct the MIGRATOR_* variable or the configuration file",
        ) from error
    except OSError as error:
        raise PermissionDenied(
            f"the configuration file cannot be read: {error}",
            code="bad_configuration",
            remedy="read it as root, or name another with MIGRATOR_CONFIG",
        ) from error
    except ValueError as error:  # a TOML file that does not parse
        raise InvalidRequest(
            f"bad configuration file: {error}", code="bad_configuration", remedy="correct the TOML file"
        ) from error
