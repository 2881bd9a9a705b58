"""Arguments and options that several commands have, and how their words are read."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from migrator.errors import InvalidRequest
from migrator.rates import parse_rate

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
ApiAddress = Annotated[str | None, typer.Option("--api", help="unix:///path or host:port of the server.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when the job has ended.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show the progress until the job has ended.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", help="Asking again with it gives the same job.")]
Tcp = Annotated[str, typer.Option("--tcp", help="Open TCP connections: keep, close or refuse.")]
Reference = Annotated[str, typer.Argument(metavar="HOST/CONTAINER", help="What to take, and where it runs.")]

Volumes = Annotated[
    list[str] | None,
    typer.Option("--volume", metavar="DEST=POLICY", help="A bind mount: shared, copy or empty. May be repeated."),
]
ExternalUnix = Annotated[
    bool,
    typer.Option("--external-unix-sockets", help="Let unix sockets through that lead out of the container."),
]

Before = Annotated[
    str | None, typer.Option("--before", metavar="CMD", help="Run this in the container before the freeze.")
]
After = Annotated[
    str | None, typer.Option("--after", metavar="CMD", help="Run this in it when the program runs again.")
]
HookTimeout = Annotated[
    float | None, typer.Option("--hook-timeout", metavar="SECONDS", help="How long each of the two may take; 30.")
]
OnHookFailure = Annotated[
    str,
    typer.Option("--on-hook-failure", metavar="POLICY", help="fail or ignore; for one of them before=ignore."),
]

ModeWord = Annotated[
    str, typer.Option("--mode", help="When the program gets its memory: eager, before it runs; lazy, after; or auto.")
]
Eager = Annotated[bool, typer.Option("--eager", help="Short for --mode eager.")]
Lazy = Annotated[bool, typer.Option("--lazy", help="Short for --mode lazy: it runs at once, its memory follows.")]

MaxDowntime = Annotated[
    str | None,
    typer.Option(
        "--max-downtime", metavar="TIME", help="Refuse if it would be frozen for longer, such as 500ms or 2s."
    ),
]
Bandwidth = Annotated[
    str | None,
    typer.Option("--bandwidth", metavar="RATE", help="Move no more to or from the store, such as 50MiB/s."),
]
InFreeze = Annotated[
    bool, typer.Option("--bandwidth-in-freeze", help="Limits hold also while the program stands still.")
]
PathWord = Annotated[
    str,
    typer.Option(
        "--path", help="How memory goes through the store: chunks, or content: as one archive for every tool."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Go on although the forecast is over --max-downtime.")]

PATHS = ("chunks", "content")
MODES = ("auto", "eager", "lazy")
TCP_WORDS = ("keep", "close", "refuse")


def hook_words(before: str | None, after: str | None, timeout_s: float | None, on_failure: str) -> dict[str, Any]:
    """What runs before and after the freeze, as the API's words.

    Raises:
        InvalidRequest: `bad_hook`; the server would take no time at all for its own default.
    """
    if timeout_s is not None and timeout_s <= 0:
        raise InvalidRequest(f"a hook cannot take {timeout_s:g} s", code="bad_hook", remedy="give it some seconds")
    return {"before": before or "", "after": after or "", "timeout_s": timeout_s or 0, "on_failure": on_failure}


def split_volumes(words: list[str] | None) -> dict[str, str]:
    """Read every DEST=POLICY.

    Raises:
        InvalidRequest: `bad_volume`.
    """
    volumes: dict[str, str] = {}
    for word in words or []:
        destination, equals, policy = word.rpartition("=")
        if not (destination and equals and policy) or destination in volumes:
            raise InvalidRequest(
                f"'{word}' does not say, or says again, what becomes of a volume",
                code="bad_volume",
                remedy="write DESTINATION=POLICY, such as /data=copy",
            )
        volumes[destination] = policy
    return volumes


def split_reference(text: str) -> tuple[str, str]:
    """Read HOST/CONTAINER.

    Raises:
        InvalidRequest: `bad_reference`.
    """
    host, slash, name = text.partition("/")
    if not (host and slash and name) or "/" in name:
        raise InvalidRequest(
            f"'{text}' does not name a container",
            code="bad_reference",
            remedy="write HOST/CONTAINER, such as alpha/web",
        )
    return host, name


def check_namespace(name: str) -> str:
    """Return a namespace; the server would take an empty one for the default.

    Raises:
        InvalidRequest: `bad_name`.
    """
    if not name:
        raise InvalidRequest("the namespace is empty", code="bad_name", remedy="name one, or leave --namespace out")
    return name


def tcp_word(word: str) -> str:
    """Read what becomes of open TCP connections, as the API's word.

    Raises:
        InvalidRequest: `bad_tcp_policy`.
    """
    if word not in TCP_WORDS:
        raise InvalidRequest(
            f"'{word}' is no policy for TCP connections",
            code="bad_tcp_policy",
            remedy=f"one of {', '.join(TCP_WORDS)}",
        )
    return f"TCP_POLICY_{word.upper()}"


def mode_word(mode: str, *, eager: bool, lazy: bool) -> str:
    """Read when the program gets its memory.

    Raises:
        InvalidRequest: `bad_mode`.
    """
    said = {word for word, is_said in (("eager", eager), ("lazy", lazy), (mode, mode != "auto")) if is_said}
    if len(said) > 1 or not said <= set(MODES):
        raise InvalidRequest(
            f"{' and '.join(sorted(said))} does not say when the program gets its memory",
            code="bad_mode",
            remedy=f"one of {', '.join(MODES)}",
        )
    return said.pop() if said else "auto"


def path_word(word: str) -> str:
    """Read in which form memory goes through the store.

    Raises:
        InvalidRequest: `bad_path`.
    """
    if word not in PATHS:
        raise InvalidRequest(
            f"'{word}' is no form in which memory goes through the store",
            code="bad_path",
            remedy=f"one of {', '.join(PATHS)}",
        )
    return word


def bandwidth_words(rate: str | None, in_freeze: bool = False) -> dict[str, Any]:
    """Read how fast a job may move bytes.

    Raises:
        InvalidRequest: `bad_bandwidth`.
    """
    return {"bandwidth_bytes_s": parse_rate(rate) if rate else 0, "bandwidth_in_freeze": in_freeze}


def seconds_of(word: str | None) -> float:
    """Read a time with its unit; 0 if none is given.

    Raises:
        InvalidRequest: `bad_max_downtime`.
    """
    if word is None:
        return 0.0
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", word)
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 0.0
    if not seconds:
        raise InvalidRequest(
            f"'{word}' is no time that a program may be frozen", code="bad_max_downtime", remedy="such as 500ms or 2s"
        )
    return seconds


def state_number(messages: Any, word: str) -> int:
    """Read the name of a state.

    Raises:
        InvalidRequest: `bad_state`.
    """
    known = {key.removeprefix("JOB_STATE_").lower(): number for key, number in messages.JobState.items() if number}
    if word not in known:
        raise InvalidRequest(f"'{word}' is no state of a job", code="bad_state", remedy=f"one of {', '.join(known)}")
    return int(known[word])
