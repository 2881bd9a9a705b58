"""The JSON form of what travels between controller and hosts."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from migrator.models.housekeeping import Clearance, Examination, Question
from migrator.models.values import Outcome, Sight, StepCommand

T = TypeVar("T")


class Form(Generic[T]):
    """How one kind of value travels.

    Args:
        adapter: Knows the kind.
    """

    def __init__(self, adapter: TypeAdapter[T]):
        self._adapter = adapter

    def pack(self, value: T) -> Any:
        """Turn a value into JSON types."""
        return self._adapter.dump_python(value, mode="json")

    def unpack(self, data: Any) -> T:
        """Read a value; a malformed one raises `ValueError`."""
        return self._adapter.validate_python(data)


COMMAND: Form[StepCommand] = Form(TypeAdapter(StepCommand))
OUTCOME: Form[Outcome] = Form(TypeAdapter(Outcome))
SIGHT: Form[Sight] = Form(TypeAdapter(Sight))
QUESTION: Form[Question] = Form(TypeAdapter(Question))
CLEARANCE: Form[Clearance] = Form(TypeAdapter(Clearance))
EXAMINATION: Form[Examination] = Form(TypeAdapter(Examination))
