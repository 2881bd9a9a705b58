"""What a job or a container's labels say of commands before and after the freeze."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.errors import InvalidRequest
from migrator.models.hooks import Hooks, labelled_hooks
from migrator.models.preflight import Finding
from migrator.service.preflight.subject import Subject


def check_hooks(subject: Subject) -> Iterator[Finding]:
    """The container's labels about hooks must make sense."""
    try:
        hooks_of(subject)
    except InvalidRequest as error:
        yield subject.refusal("hooks", "bad_hook", f"has a bad label: {error.message}", str(error.remedy))


def hooks_of(subject: Subject) -> Hooks:
    """The hooks of a job: its own word first, then the container's labels.

    Raises:
        InvalidRequest: `bad_hook`, a label makes no sense.
    """
    return subject.request.hooks.or_else(labelled_hooks(subject.container.labels))
