"""Commands that run in a container before its freeze and after it, for programs that want to flush first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from migrator.errors import InvalidRequest

HOOKS = "hooks"
"""Fact of the inspection, or of a checkpoint: what runs before and after."""
RAN_BEFORE = "ran_before"
"""Fact of a job, or of a checkpoint: the hook before the freeze was begun, so the one after it is owed."""
AFTER_FAILED = "after_hook_failed"
"""Fact of a rollback: what went wrong with the hook after the freeze."""
LABEL = "io.migrator.hook/"
"""A label of this and `before`, `after`, `timeout` or `on-failure` says what a job does not."""
DEFAULT_TIMEOUT_S = 30.0
LONGEST_TIMEOUT_S = 300.0
COMMAND_LIMIT = 8192
SHELL = ("/bin/sh", "-c")
HOW = 'write a line for /bin/sh, or the words as a JSON array: ["/bin/flush", "--all"]'


class OnFailure(StrEnum):
    """What a hook that fails means for its job."""

    FAIL = "fail"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a job or a container's labels say; nothing where nothing is said."""

    before: str = ""
    after: str = ""
    timeout_s: float | None = None
    """For each of them."""
    on_before_failure: OnFailure | None = None
    on_after_failure: OnFailure | None = None

    def to_facts(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @property
    def limit_s(self) -> float:
        """How long each of them may take."""
        return self.timeout_s or DEFAULT_TIMEOUT_S

    @property
    def policies(self) -> str:
        """What a failure of each means, as `read_policies` reads it."""
        told = {"before": self.on_before_failure, "after": self.on_after_failure}
        return ",".join(f"{hook}={policy}" for hook, policy in told.items() if policy)

    def or_else(self, other: Hooks) -> Hooks:
        """What others say where these say nothing."""
        told = {name: value for name, value in asdict(self).items() if value}
        return replace(other, **told)


def read_hooks(facts: Mapping[str, Any] | None) -> Hooks:
    """Read what `Hooks.to_facts` wrote."""
    told = dict(facts or {})
    for name in ("on_before_failure", "on_after_failure"):
        told[name] = OnFailure(told[name]) if told.get(name) else None
    return Hooks(**told)


def labelled_hooks(labels: Mapping[str, str]) -> Hooks:
    """Read what a container's labels say.

    Raises:
        InvalidRequest: `bad_hook`.
    """
    told = {name.removeprefix(LABEL): word for name, word in labels.items() if name.startswith(LABEL)}
    if unknown := sorted(told.keys() - {"before", "after", "timeout", "on-failure"}):
        remedy = "one of before, after, timeout, on-failure"
        raise InvalidRequest(f"{LABEL}{unknown[0]} is no label of a hook", code="bad_hook", remedy=remedy)
    before, after = read_policies(told.get("on-failure", ""))
    hooks = Hooks(
        before=told.get("before", ""),
        after=told.get("after", ""),
        timeout_s=read_timeout(told["timeout"]) if "timeout" in told else None,
        on_before_failure=before,
        on_after_failure=after,
    )
    check_hooks(hooks)
    return hooks


def read_policies(text: str) -> tuple[OnFailure | None, OnFailure | None]:
    """Read `ignore`, or `before=ignore,after=fail`, as what each hook's failure means.

    Raises:
        InvalidRequest: `bad_hook`.
    """
    told: dict[str, OnFailure] = {}
    for word in filter(None, (item.strip() for item in text.split(","))):
        hook, equals, policy = word.rpartition("=")
        if policy not in set(OnFailure) or hook not in (("before", "after") if equals else ("",)):
            raise InvalidRequest(
                f"'{word[:100]}' does not say what becomes of a job whose hook fails",
                code="bad_hook",
                remedy="write fail or ignore, or for one of them before=ignore, after=ignore",
            )
        told[hook] = OnFailure(policy)
    return told.get("before", told.get("")), told.get("after", told.get(""))


def read_timeout(text: str) -> float:
    """Read a number of seconds.

    Raises:
        InvalidRequest: `bad_hook`.
    """
    try:
        return float(text.removesuffix("s"))
    except ValueError as error:
        raise InvalidRequest(f"'{text[:100]}' is no number of seconds", code="bad_hook", remedy="such as 30") from error


def check_hooks(hooks: Hooks) -> None:
    """Refuse what cannot be run.

    Raises:
        InvalidRequest: `bad_hook`.
    """
    for command in filter(None, (hooks.before, hooks.after)):
        command_words(command)
    if hooks.timeout_s is not None:
        check_timeout("hook", hooks.timeout_s)


def check_timeout(what: str, timeout_s: float) -> None:
    """Refuse a time that is none, or for which nobody waits.

    Raises:
        InvalidRequest: `bad_hook` or `bad_probe`.
    """
    if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise InvalidRequest(
            f"a {what} cannot take {timeout_s:g} s",
            code=f"bad_{what}",
            remedy=f"give more than 0 and up to {LONGEST_TIMEOUT_S:.0f} s",
        )


def command_words(command: str, code: str = "bad_hook") -> list[str]:
    """The words of a command: a JSON array is taken as it is, all else is a line for the container's shell.

    Raises:
        InvalidRequest: It is neither.
    """
    if len(command) > COMMAND_LIMIT or "\0" in command or not command.strip():
        raise InvalidRequest(f"{command[:100]!r} is no command", code=code, remedy=HOW)
    if not command.lstrip().startswith("["):
        return [*SHELL, command]
    try:
        words = json.loads(command)
    except ValueError:
        return [*SHELL, command]  # such as [ -e /file ] && …
    if not words or not all(isinstance(word, str) for word in words) or not words[0]:
        raise InvalidRequest(f"{command[:100]!r} is no command", code=code, remedy=HOW)
    return list(words)
