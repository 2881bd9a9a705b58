"""The wish to be restarted is put aside while a job works on a container, and comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import Container, ContainerdClient
from migrator.errors import NotFound
from migrator.service.steps.restarting import allow_restarts, stop_restarts, with_restart, without_restart

LABELS = {"team": "red", "containerd.io/restart.status": "running", "containerd.io/restart.policy": "always"}


class Records:
    """containerd's records, and how often they were written."""

    def __init__(self, labels: dict[str, str]):
        self.found: dict[str, Container] = {"web": Container("web", labels=labels)}
        self.writes = 0
        self.client = cast(ContainerdClient, SimpleNamespace(containers=self))

    def get(self, name: str) -> Container:
        if name not in self.found:
            raise NotFound(name)
        return self.found[name]

    def update(self, container: Container, *fields: str) -> Any:
        assert fields == ("labels",)
        self.writes += 1
        self.found[container.id] = replace(container)


def test_put_aside_and_back() -> None:
    records = Records(LABELS)
    for _ in range(2):
        stop_restarts(records.client, "web")
        assert "containerd.io/restart.status" not in records.found["web"].labels
    for _ in range(2):
        allow_restarts(records.client, "web")
        assert records.found["web"].labels == LABELS
    assert records.writes == 2


def test_a_container_without_the_wish_is_not_written() -> None:
    records = Records({"team": "red"})
    stop_restarts(records.client, "web")
    allow_restarts(records.client, "web")
    assert records.writes == 0


def test_a_container_that_is_gone() -> None:
    records = Records({})
    records.found.clear()
    allow_restarts(records.client, "web")
    with pytest.raises(NotFound):
        stop_restarts(records.client, "web")


def test_labels_alone() -> None:
    assert with_restart(without_restart(LABELS)) == LABELS
    assert with_restart(LABELS) == LABELS
