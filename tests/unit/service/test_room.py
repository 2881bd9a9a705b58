"""Room in containerd's content store is looked at before anything is touched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import ContainerdClient
from migrator.errors import ResourceExhausted
from migrator.service.room import check_content_room

HUGE = 1 << 60


def client(*roots: str) -> ContainerdClient:
    plugins: Any = [SimpleNamespace(exports={"root": root} if root else {}) for root in roots]
    return cast(ContainerdClient, SimpleNamespace(introspection=SimpleNamespace(plugins=lambda _: plugins)))


def test_what_fits_is_let_through(tmp_path: Path) -> None:
    check_content_room(client(str(tmp_path)), 1000)


def test_what_does_not_fit_is_refused_with_the_estimate(tmp_path: Path) -> None:
    with pytest.raises(ResourceExhausted, match=str(tmp_path)) as caught:
        check_content_room(client(str(tmp_path)), HUGE)
    assert caught.value.code == "no_room"
    assert f"{HUGE / 1e6:.0f} MB" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("root", ["", "relative", "/no/such/place"])
def test_a_daemon_that_does_not_tell_is_believed(root: str) -> None:
    check_content_room(client(root), HUGE)
