"""Which database URLs are taken, and that a password never comes out again."""

from __future__ import annotations

import pytest

from migrator.errors import InvalidRequest
from migrator.models.engines import describe, parse_url
from migrator.models.session import Database


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:////var/lib/m.db", "SQLite file /var/lib/m.db"),
        ("sqlite:///m.db", "SQLite file m.db"),
        ("postgresql+psycopg://u:hunter2@db.example:5433/prod", "PostgreSQL database 'prod' on db.example:5433"),
        ("postgresql://u:hunter2@/prod?host=/run/pg", "PostgreSQL database 'prod' on /run/pg"),
        ("postgresql:///prod?password=hunter2", "PostgreSQL database 'prod' on local socket"),
    ],
)
def test_taken(url: str, place: str) -> None:
    parsed = parse_url(url)
    assert describe(parsed) == place
    assert parsed.drivername in ("sqlite", "postgresql+psycopg")
    Database(url).close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "mysql://u:hunter2@db/prod",
        "postgresql+psycopg2://u:hunter2@db/prod",
        "postgresql://u:hunter2/x@db:hunter2/prod",
        "postgresql://u@db:hunter2/prod",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite://hunter2/var/lib/m.db",
        "sqlite:///m.db?key=hunter2",
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="database URL") as caught:
        Database(url)
    error = caught.value
    assert error.code == "bad_configuration"
    assert "MIGRATOR_DATABASE_URL" in str(error.remedy)
    assert "hunter2" not in f"{error} {error.remedy} {error.__cause__}"
