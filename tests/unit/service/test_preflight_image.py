"""The base image: what is known of it here, and who lacks which blobs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from migrator.containerd import Container
from migrator.models.descriptors import Descriptor
from migrator.models.phase import JobKind
from migrator.models.preflight import Grade
from migrator.models.values import JobRequest
from migrator.service.preflight import image
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.subject import Subject

BLOBS = [Descriptor("layer", f"sha256:{number}", 10**number) for number in (1, 2, 3)]


def request(kind: JobKind = JobKind.PREFLIGHT) -> JobRequest:
    return JobRequest(kind, source_host="alpha", container="web", target_host="beta")


def runtime(*here: str) -> Any:
    return SimpleNamespace(content=SimpleNamespace(exists=lambda digest: digest in here))


def subject(here: list[str], store: list[str], kind: JobKind = JobKind.PREFLIGHT) -> Subject:
    host: Any = SimpleNamespace(checkpoints=SimpleNamespace(has_blob=lambda digest, _: digest in store))
    task: Any = None
    return Subject(host, request(kind), runtime(*here), Container(id="web", image="web:1"), task)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "find_manifest", lambda *_: BLOBS[0])
    monkeypatch.setattr(image, "image_blobs", lambda *_: BLOBS)


def test_a_layer_that_nobody_has_is_told() -> None:
    (found,) = image.check_image(subject(["sha256:1"], ["sha256:2"]))
    assert (found.grade, found.code, found.kind) == (Grade.FAIL, "content_not_found", "NotFound")
    assert "blobs of image 'web:1'" in found.message
    assert "(1 of 3, 0.0 MB)" in found.message
    assert list(image.check_image(subject(["sha256:1", "sha256:3"], ["sha256:2"]))) == []


def test_a_forecast_counts_what_the_store_and_the_target_lack() -> None:
    facts = image.image_sizes(subject([], ["sha256:2"]), BLOBS[0])
    assert facts["image_upload_bytes"] == 10 + 1000
    host: Any = None
    arrival = Arrival(host, request(), runtime("sha256:3"), facts)
    assert image.missing_image_bytes(arrival) == {"image_download_bytes": 10 + 100}
    (found,) = image.check_base_image(arrival)
    assert (found.grade, found.message) == (Grade.PASS, "0.0 MB come by way of the object store")


def test_a_migration_does_not_ask_for_every_blob_twice() -> None:
    assert image.image_sizes(subject([], [], JobKind.MIGRATION), BLOBS[0]) == {}
    host: Any = None
    arrival = Arrival(host, request(JobKind.MIGRATION), runtime(), {"image_blobs": [["sha256:1", 10]]})
    assert image.missing_image_bytes(arrival) == {}
    assert list(image.check_base_image(arrival)) == []
