"""The JSON form of what travels between controller and hosts."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from migrator.models.housekeeping import Clearance, Examination, Question
from migrator.models.values import ContainerView, Outcome, StepCommand

_COMMAND: TypeAdapter[StepCommand] = TypeAdapter(StepCommand)
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)
_VIEWS: TypeAdapter[list[ContainerView]] = TypeAdapter(list[ContainerView])
_QUESTION: TypeAdapter[Question] = TypeAdapter(Question)
_CLEARANCE: TypeAdapter[Clearance] = TypeAdapter(Clearance)
_EXAMINATION: TypeAdapter[Examination] = TypeAdapter(Examination)


def pack_command(command: StepCommand) -> dict[str, Any]:
    """Turn a command into JSON types."""
    packed: dict[str, Any] = _COMMAND.dump_python(command, mode="json")
    return packed


def unpack_command(data: dict[str, Any]) -> StepCommand:
    """Read a command; a malformed one raises `ValueError`."""
    return _COMMAND.validate_python(data)


def pack_outcome(outcome: Outcome) -> dict[str, Any]:
    """Turn an outcome into JSON types."""
    packed: dict[str, Any] = _OUTCOME.dump_python(outcome, mode="json")
    return packed


def unpack_outcome(data: dict[str, Any]) -> Outcome:
    """Read an outcome; a malformed one raises `ValueError`."""
    return _OUTCOME.validate_python(data)


def pack_views(views: list[ContainerView]) -> list[dict[str, Any]]:
    """Turn container views into JSON types."""
    packed: list[dict[str, Any]] = _VIEWS.dump_python(views, mode="json")
    return packed


def unpack_views(data: list[dict[str, Any]]) -> list[ContainerView]:
    """Read container views; a malformed one raises `ValueError`."""
    return _VIEWS.validate_python(data)


def pack_question(question: Question) -> dict[str, Any]:
    """Turn a question into JSON types."""
    packed: dict[str, Any] = _QUESTION.dump_python(question, mode="json")
    return packed


def unpack_question(data: dict[str, Any]) -> Question:
    """Read a question; a malformed one raises `ValueError`."""
    return _QUESTION.validate_python(data)


def pack_clearance(clearance: Clearance) -> dict[str, Any]:
    """Turn an answer to a question into JSON types."""
    packed: dict[str, Any] = _CLEARANCE.dump_python(clearance, mode="json")
    return packed


def unpack_clearance(data: dict[str, Any]) -> Clearance:
    """Read an answer to a question; a malformed one raises `ValueError`."""
    return _CLEARANCE.validate_python(data)


def pack_examination(examination: Examination) -> dict[str, Any]:
    """Turn an examination into JSON types."""
    packed: dict[str, Any] = _EXAMINATION.dump_python(examination, mode="json")
    return packed


def unpack_examination(data: dict[str, Any]) -> Examination:
    """Read an examination; a malformed one raises `ValueError`."""
    return _EXAMINATION.validate_python(data)
