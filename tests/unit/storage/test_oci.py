"""Documents from anywhere: read, or refused with an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.errors import IntegrityError
from migrator.models.descriptors import Descriptor, Platform, digest_bytes
from migrator.models.roles import Role
from migrator.storage.oci import (
    DOCUMENT_LIMIT_BYTES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    PARTS_LIMIT,
    children,
    parse_index,
    with_role,
)
from tests.unit.storage.samples import Sample, blob

GOOD = blob(b"x").to_oci()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(GOOD["digest"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("manifests", "config", "layers", "annotations", "mediaType", "digest", "size", "platform", "os", "architecture", "variant"), inner),
        )
    ),
    max_leaves=30,
)  # fmt: skip


def read_anything(data: bytes) -> None:
    try:
        index = parse_index(data)
    except IntegrityError:
        return
    for part in index.parts:
        assert part.digest.startswith("sha256:")
        assert len(part.digest) == 71
        assert type(part.size_bytes) is int
        assert 0 <= part.size_bytes < 2**63
        assert isinstance(part.media_type, str)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    read_anything(json.dumps(value).encode())
    read_anything(json.dumps({"manifests": [value], "annotations": {}}).encode())


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read_anything(data)


@given(st.data())
def test_an_index_with_a_part_torn_out_is_read_or_refused(data: st.DataObject) -> None:
    index = Sample().index
    start = data.draw(st.integers(0, len(index)))
    end = data.draw(st.integers(start, len(index)))
    read_anything(index[:start] + index[end:])


@given(JSON, st.sampled_from([*INDEX_TYPES, *MANIFEST_TYPES]))
def test_any_manifest_is_read_or_refused(value: Any, media_type: str) -> None:
    try:
        found = children(Descriptor(media_type, digest_bytes(b""), 0), json.dumps(value).encode())
    except IntegrityError:
        return
    assert all(isinstance(part, Descriptor) for part in found)


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:abc"}, {"digest": "md5:" + "0" * 32}, {"digest": GOOD["digest"] + "\n"}, {"digest": None},
        {"digest": GOOD["digest"].upper()}, {"size": -1}, {"size": "1"}, {"size": True}, {"size": 1.5}, {"size": 2**63},
        {"mediaType": ""}, {"mediaType": 7}, {"annotations": []}, {"annotations": {"a": 1}}, {"platform": "linux"},
        {"platform": {"os": "linux"}},
    ],
)  # fmt: skip
def test_malformed_descriptors_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        Descriptor.from_oci(GOOD | change)


@pytest.mark.parametrize("data", [b"[" * 100_000, b"9" * 10_000, b" " * (DOCUMENT_LIMIT_BYTES + 1), b"{}", b"null"])
def test_documents_out_of_bounds_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_index(data)
    assert caught.value.code == "bad_index"


def test_too_many_parts_are_refused() -> None:
    read = json.dumps({"manifests": [GOOD] * PARTS_LIMIT}).encode()
    assert len(parse_index(read).parts) == PARTS_LIMIT
    with pytest.raises(IntegrityError):
        parse_index(json.dumps({"manifests": [GOOD] * (PARTS_LIMIT + 1)}).encode())


def test_a_role_is_held_by_one_part_exactly() -> None:
    sample = Sample()
    sample.parts.append(with_role(blob(b"second"), Role.MEMORY))
    index = parse_index(sample.index)
    for role in (Role.MEMORY, Role.SPEC):
        with pytest.raises(IntegrityError, match=role.value):
            index.part(role)
    assert index.part(Role.RW_DIFF).digest == digest_bytes(sample.diff)


def test_a_descriptor_survives_its_oci_form() -> None:
    full = Descriptor("a/b", digest_bytes(b""), 3, {"k": "v"}, Platform("linux", "arm", "v7"))
    assert Descriptor.from_oci(json.loads(json.dumps(full.to_oci()))) == full
