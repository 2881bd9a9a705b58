"""Which containers are meant, by schedules as by drains: label selectors, as kubectl has them, and namespaces.

Terms are separated by commas and must all hold: `app=web`, `app==web`, `app!=web`, `app in (web, api)`,
`app notin (web)`, `app` (the label is there), `!app` (it is not). `!=` and `notin` also hold where the label is absent.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from migrator.errors import InvalidRequest
from migrator.models.values import ContainerView

KEY = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?"
VALUE = r"[^\s,()=!]*"
_SPLIT = re.compile(r",(?![^(]*\))")
_EQUAL = re.compile(rf"({KEY})\s*(==?|!=)\s*({VALUE})")
_SET = re.compile(rf"({KEY})\s+(in|notin)\s*\(([^()]*)\)")
_PRESENT = re.compile(rf"(!?)\s*({KEY})")
LENGTH_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Term:
    """One condition on one label."""

    key: str
    values: frozenset[str] | None
    """None: any value will do."""
    wanted: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it."""
        found = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return found is self.wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """All conditions; none is fulfilled by everything."""

    terms: tuple[Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil all conditions."""
        return all(term.matches(labels) for term in self.terms)


def parse_selector(text: str) -> Selector:
    """Read a selector; an empty one means everything.

    Raises:
        InvalidRequest: `bad_selector`.
    """
    if not text.strip():
        return Selector()
    if len(text) > LENGTH_LIMIT:
        raise _bad(f"a selector of {len(text)} signs is too long")
    return Selector(tuple(_term(part.strip()) for part in _SPLIT.split(text)))


def select(
    views: Iterable[ContainerView], selector: str, namespaces: Container[str] | None = None
) -> list[ContainerView]:
    """Pick the containers that are meant.

    Args:
        views: Containers as their hosts saw them.
        selector: Conditions on their labels.
        namespaces: containerd's namespaces; None means all.

    Raises:
        InvalidRequest: `bad_selector`.
    """
    wanted = parse_selector(selector)
    return [
        view for view in views if (namespaces is None or view.namespace in namespaces) and wanted.matches(view.labels)
    ]


def _term(text: str) -> Term:
    if found := _EQUAL.fullmatch(text):
        return Term(found[1], frozenset({found[3]}), wanted=found[2] != "!=")
    if found := _SET.fullmatch(text):
        values = frozenset(value.strip() for value in found[3].split(","))
        return Term(found[1], values, wanted=found[2] == "in")
    if found := _PRESENT.fullmatch(text):
        return Term(found[2], None, wanted=not found[1])
    raise _bad(f"{text[:100]!r} is no condition on a label")


def _bad(fault: str) -> InvalidRequest:
    return InvalidRequest(
        fault, code="bad_selector", remedy="write conditions such as app=web,tier!=db,env in (test,dev),!pinned"
    )
