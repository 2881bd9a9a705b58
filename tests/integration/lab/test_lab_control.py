"""The control host's servers: there, guarded by credentials, and still the same after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from migrator.errors import NotFound
from migrator.lab.control import database_url
from migrator.lab.host import Host
from migrator.lab.lab import Lab, Shape
from migrator.lab.secrets import LabSecrets, ensure_secrets

pytestmark = pytest.mark.real
LabFactory = Callable[[str, Shape], AbstractContextManager[Lab]]

S3_PROGRAM = """
import boto3, botocore, sys
from botocore.config import Config
key, secret, what = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url="http://control:8333", aws_access_key_id=key, aws_secret_access_key=secret,
                  region_name="us-east-1", config=Config(signature_version="s3v4", retries={"max_attempts": 1}))
try:
    if what == "put":
        s3.put_object(Bucket="migrator", Key="some/key", Body=b"kept")
    else:
        print(s3.get_object(Bucket="migrator", Key="some/key")["Body"].read().decode())
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
"""


@pytest.fixture(scope="module")
def full_lab(lab_factory: LabFactory) -> Iterator[Lab]:
    with lab_factory("full", Shape(hosts=1, database="postgresql")) as lab:
        yield lab


@pytest.fixture(scope="module")
def secrets(full_lab: Lab) -> LabSecrets:
    return ensure_secrets(full_lab.layout.secrets_file)


def run_python(host: Host, program: str, *arguments: str) -> str:
    done = host.exec(["python3", "-c", program, *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def redis(host: Host, password: str, *command: str) -> str:
    done = host.exec(["redis-cli", "-h", "control", *command], environment={"REDISCLI_AUTH": password})
    return (done.stdout + done.stderr).strip()


def test_the_object_store_wants_its_credentials_and_keeps_objects_over_a_kill(
    full_lab: Lab, secrets: LabSecrets
) -> None:
    alpha, keys = full_lab.host("alpha"), (secrets.s3_access_key, secrets.s3_secret_key)
    assert run_python(alpha, S3_PROGRAM, keys[0], "wrong", "put") == "SignatureDoesNotMatch"
    assert run_python(alpha, S3_PROGRAM, *keys, "put") == ""
    service = full_lab.control.service("s3")
    service.kill()
    service.start()
    assert run_python(alpha, S3_PROGRAM, *keys, "get") == "kept"


def test_the_broker_wants_its_password_and_keeps_messages_over_a_stop(full_lab: Lab, secrets: LabSecrets) -> None:
    alpha = full_lab.host("alpha")
    assert "NOAUTH" in redis(alpha, "", "GET", "word")
    assert redis(alpha, secrets.broker_password, "SET", "word", "kept").endswith("OK")
    service = full_lab.control.service("redis")
    before = service.pid
    service.stop()
    assert (service.pid, service.exit_status) == (None, 0)
    service.start()
    assert service.pid not in (None, before)
    assert redis(alpha, secrets.broker_password, "GET", "word") == "kept"


def test_the_database_is_postgresql_and_comes_back_after_a_kill(full_lab: Lab, secrets: LabSecrets) -> None:
    url = database_url(secrets, "postgresql")
    program = (
        "import sqlalchemy, sys; print(sqlalchemy.create_engine(sys.argv[1]).connect().dialect.server_version_info)"
    )
    assert run_python(full_lab.control, program, url).startswith("(1")
    service = full_lab.control.service("postgresql")
    service.kill()
    service.start()
    assert run_python(full_lab.control, program, url).startswith("(1")


def test_secrets_are_for_root_alone(full_lab: Lab) -> None:
    assert full_lab.layout.secrets_file.stat().st_mode & 0o777 == 0o600
    assert full_lab.layout.run_dir.stat().st_mode & 0o777 == 0o700


def test_an_unknown_service_names_those_there_are(full_lab: Lab) -> None:
    with pytest.raises(NotFound, match="'nginx', only redis, s3, postgresql"):
        full_lab.control.service("nginx")
