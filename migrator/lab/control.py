"""What runs in a full lab: the control host's servers, and the project's own processes on all hosts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from migrator.errors import InvalidRequest
from migrator.lab.layout import CONTROL, address_of
from migrator.lab.secrets import LabSecrets
from migrator.lab.services import SHELL_ENVIRONMENT, Probe, ServiceSpec

ADDRESS = address_of(CONTROL)
BUCKET = "migrator"
REDIS_PORT, S3_PORT, FILER_PORT, POSTGRESQL_PORT = 6379, 8333, 8888, 5432
DATABASES = ("sqlite", "postgresql")
STATE_DIR = "/var/lib/migrator"
API_DIR = "/run/migrator-api"
"""Where the control host sees the machine's directory of the API's socket."""
KEY_FILE = "/run/lab/keys.json"
REDIS_CONFIG = """\
bind {address} 127.0.0.1
port {port}
requirepass {password}
dir {state}/redis
appendonly yes
appendfsync everysec
save ""
"""
POSTGRESQL_SCRIPT = """\
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
data={state}/postgresql/data
if [ ! -e "$data/ready" ]; then
  rm -rf "$data"
  "$bin/initdb" --no-sync --auth=scram-sha-256 --username=migrator --pwfile=/run/lab-postgresql/password "$data"
  echo "host all all {subnet} scram-sha-256" >> "$data/pg_hba.conf"
  echo 'CREATE DATABASE migrator' | "$bin/postgres" --single -D "$data" postgres
  touch "$data/ready"
fi
exec "$bin/postgres" -D "$data" -h {address},127.0.0.1 -k /tmp
"""


def check_database(name: str) -> str:
    """Return `name` if the lab can run that database.

    Raises:
        InvalidRequest: It is neither sqlite nor postgresql.
    """
    if name not in DATABASES:
        raise InvalidRequest(
            f"the lab knows no database {name!r}",
            code="bad_database",
            remedy=f"give --database {' or '.join(DATABASES)}",
        )
    return name


def control_services(secrets: LabSecrets, database: str) -> tuple[ServiceSpec, ...]:
    """Describe everything on the control host, servers first."""
    environment = {
        "MIGRATOR_DATABASE_URL": database_url(secrets, database),
        "MIGRATOR_API_SOCKET": f"{API_DIR}/api.sock",
    }
    servers = (redis(secrets), object_store(secrets), *((postgresql(secrets),) if database == "postgresql" else ()))
    controller = product("controller", secrets, environment)
    server = product("server", secrets, environment, Probe(path=f"{API_DIR}/api.sock"))
    return *servers, controller, server


def host_worker(secrets: LabSecrets, host: str) -> ServiceSpec:
    """Describe the worker of one host."""
    return product("worker", secrets, {}, arguments=("--host", host))


def product(
    command: str,
    secrets: LabSecrets,
    environment: Mapping[str, str],
    *probes: Probe,
    arguments: tuple[str, ...] = (),
) -> ServiceSpec:
    """Describe one of the project's own processes; `environment` is what it needs beside what all of them do."""
    argv = ("python3", "-m", "migrator", command, *arguments)
    files = {KEY_FILE: secrets.key_ring} if secrets.key_ring else {}
    whole = {**product_environment(secrets), **environment}
    return ServiceSpec(command, argv, whole, probes, deadline_s=120.0, files=files, product=True)


def product_environment(secrets: LabSecrets) -> dict[str, str]:
    """Return the settings that every process of the project needs; the database's address is not among them."""
    keys = {"MIGRATOR_KEY_FILE": KEY_FILE} if secrets.key_ring else {}
    return (
        dict(SHELL_ENVIRONMENT)
        | keys
        | {
            "MIGRATOR_BROKER_URL": f"redis://:{secrets.broker_password}@{ADDRESS}:{REDIS_PORT}/0",
            "MIGRATOR_STORE_URL": f"s3://{BUCKET}",
            "MIGRATOR_S3_ENDPOINT": f"http://{ADDRESS}:{S3_PORT}",
            "MIGRATOR_S3_ACCESS_KEY": secrets.s3_access_key,
            "MIGRATOR_S3_SECRET_KEY": secrets.s3_secret_key,
        }
    )


def database_url(secrets: LabSecrets, database: str) -> str:
    """Return the SQLAlchemy URL of the lab's database."""
    if database == "sqlite":
        return f"sqlite:///{STATE_DIR}/migrator.db"
    return f"postgresql+psycopg://migrator:{secrets.database_password}@{ADDRESS}:{POSTGRESQL_PORT}/migrator"


def redis(secrets: LabSecrets) -> ServiceSpec:
    """Describe the broker: append-only, so that a kill loses at most a second of messages."""
    config = REDIS_CONFIG.format(address=ADDRESS, port=REDIS_PORT, password=secrets.broker_password, state=STATE_DIR)
    return ServiceSpec(
        name="redis",
        argv=("redis-server", "/run/lab/redis.conf"),
        # While it loads its file it answers LOADING instead.
        probes=(
            Probe(address=(ADDRESS, REDIS_PORT), send=f"AUTH {secrets.broker_password}\r\nPING\r\n", expect="+PONG"),
        ),
        files={"/run/lab/redis.conf": config},
        directories=(f"{STATE_DIR}/redis",),
    )


def object_store(secrets: LabSecrets) -> ServiceSpec:
    """Describe the S3 server, with its telemetry, web pages and lenient defaults switched off."""
    directory = f"{STATE_DIR}/s3"
    options = {
        "dir": directory, "ip": ADDRESS, "ip.bind": ADDRESS, "bucket": BUCKET,
        "master.telemetry": "false", "admin.ui": "false", "webdav": "false",
        "s3.port": S3_PORT, "filer.port": FILER_PORT, "s3.port.iceberg": 0, "s3.port.lance": 0,
        "s3.allowDeleteBucketNotEmpty": "false", "s3.autoCreateBucket": "false", "s3.config": "/run/lab/s3.json",
    }  # fmt: skip
    identity = {
        "name": "migrator",
        "credentials": [{"accessKey": secrets.s3_access_key, "secretKey": secrets.s3_secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    bucket_there = Probe(None, (ADDRESS, FILER_PORT), f"GET /buckets/{BUCKET}/ HTTP/1.0\r\n\r\n", " 200 OK")
    return ServiceSpec(
        name="s3",
        argv=("weed", "mini", *(f"-{key}={value}" for key, value in options.items())),
        # Without the limit it keeps a gigabyte after a gigabyte of traffic; near the limit, or with Go's usual 100,
        # half of its time goes into collecting garbage.
        environment=dict(SHELL_ENVIRONMENT) | {"GOMEMLIMIT": "1GiB", "GOGC": "400"},
        probes=(Probe(address=(ADDRESS, S3_PORT)), bucket_there),
        deadline_s=120.0,
        files={"/run/lab/s3.json": json.dumps({"identities": [identity]})},
        directories=(directory,),
    )


STARTUP_PACKET = "\0\0\0\x17\0\x03\0\0user\0migrator\0\0"
"""Length, protocol 3.0, parameters (PostgreSQL's documentation, "Message Formats", StartupMessage)."""


def postgresql(secrets: LabSecrets) -> ServiceSpec:
    """Describe PostgreSQL, which makes its cluster at the first start."""
    script = POSTGRESQL_SCRIPT.format(state=STATE_DIR, address=ADDRESS, subnet=f"{ADDRESS}/24")
    return ServiceSpec(
        name="postgresql",
        argv=("sh", "-c", script),
        # It listens before it has recovered, and then refuses; ready is who asks for a password.
        probes=(Probe(address=(ADDRESS, POSTGRESQL_PORT), send=STARTUP_PACKET, expect="SCRAM-SHA-256"),),
        deadline_s=60.0,
        files={"/run/lab-postgresql/password": secrets.database_password},
        directories=(f"{STATE_DIR}/postgresql",),
        user="postgres",
    )
