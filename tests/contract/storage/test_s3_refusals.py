"""A store that cannot be used: each reason has its own error, said in time, with a remedy and without a secret."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from migrator.errors import InvalidRequest, MigratorError, NotFound, PermissionDenied, PreconditionFailed, Unavailable
from migrator.settings import Settings
from migrator.storage import open_store
from tests.servers.s3 import S3Server

SECRET = "a-secret-nobody-may-see"
WITHIN_S = 5.0


def settings(endpoint: str, **overrides: object) -> Settings:
    wanted: dict[str, object] = {
        "store_url": "s3://bucket", "s3_endpoint": endpoint, "s3_access_key": "key", "s3_secret_key": SECRET,
    }  # fmt: skip
    return Settings(**(wanted | overrides))  # type: ignore[arg-type]


def refusal(wanted: Settings) -> MigratorError:
    store = open_store(wanted)
    started_s = time.monotonic()
    with pytest.raises(MigratorError) as caught:
        store.probe()
    assert time.monotonic() - started_s < WITHIN_S
    error = caught.value
    assert store.location in error.message
    assert error.remedy
    assert error.__cause__ is not None or isinstance(error, PreconditionFailed)
    assert SECRET not in f"{error.to_dict()} {error.__cause__}"
    return error


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        yield place


@contextmanager
def answering(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class Server(http.server.BaseHTTPRequestHandler):
    """Says the same to every request."""

    status = 200
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET = do_PUT = do_DELETE = do_POST = answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        """Quietly."""


@pytest.mark.servers
def test_wrong_secret(s3_server: S3Server) -> None:
    error = refusal(s3_server.settings(s3_secret_key=SECRET))
    assert (type(error), error.code) == (PermissionDenied, "store_credentials")


@pytest.mark.servers
def test_unknown_access_key(s3_server: S3Server) -> None:
    error = refusal(s3_server.settings(s3_access_key="nobody"))
    assert (type(error), error.code) == (PermissionDenied, "store_credentials")


@pytest.mark.servers
def test_unknown_bucket(s3_server: S3Server) -> None:
    error = refusal(s3_server.settings(store_url="s3://no-such-bucket/deep"))
    assert (type(error), error.code) == (NotFound, "bucket_not_found")


@pytest.mark.servers
def test_an_unknown_bucket_is_named_by_every_verb(s3_server: S3Server) -> None:
    store = open_store(s3_server.settings(store_url="s3://no-such-bucket"))
    for use in (lambda: store.put("a", b""), lambda: store.get("a"), lambda: list(store.scan(""))):
        with pytest.raises(NotFound, match="no-such-bucket") as caught:
            use()
        assert caught.value.code == "bucket_not_found"


def test_nobody_listens() -> None:
    with listener() as place:  # bound and not listening: connections are refused
        error = refusal(settings(f"http://127.0.0.1:{place.getsockname()[1]}"))
    assert (type(error), error.code) == (Unavailable, "store_unavailable")


def test_packets_vanish() -> None:
    with listener() as place, suppress(OSError):
        place.listen(0)
        callers = [socket.socket() for _ in range(4)]
        try:
            for caller in callers:  # who calls when the queue is full gets no answer at all
                caller.setblocking(False)
                caller.connect_ex(place.getsockname())
            error = refusal(settings(f"http://127.0.0.1:{place.getsockname()[1]}"))
        finally:
            for caller in callers:
                caller.close()
    assert (type(error), error.code) == (Unavailable, "store_unavailable")


def test_a_server_that_accepts_and_is_silent() -> None:
    with listener() as place:
        place.listen(20)
        error = refusal(settings(f"http://127.0.0.1:{place.getsockname()[1]}"))
    assert (type(error), error.code) == (Unavailable, "store_unavailable")


def test_a_server_in_trouble() -> None:
    class Trouble(Server):
        status = 503

    with answering(Trouble) as endpoint:
        error = refusal(settings(endpoint))
    assert (type(error), error.code) == (Unavailable, "store_unavailable")


def test_a_server_of_another_kind() -> None:
    class Other(Server):
        status = 404

    with answering(Other) as endpoint:
        error = refusal(settings(endpoint))
    assert error.code == "bucket_not_found"
    assert "MIGRATOR_S3_ENDPOINT" in str(error.remedy)


def test_a_store_that_ignores_conditions_is_refused() -> None:
    with answering(Server) as endpoint:
        error = refusal(settings(endpoint))
    assert (type(error), error.code) == (PreconditionFailed, "store_unfit")


@pytest.mark.parametrize("url", ["s3://", "s3:///"])
def test_a_url_without_a_bucket(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_store(settings("http://127.0.0.1:1", store_url=url))
    assert caught.value.code == "bad_configuration"


def test_a_proxy_of_the_environment_is_not_for_ones_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as nobody, answering(Server) as endpoint:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert refusal(settings(endpoint)).code == "store_unfit"
