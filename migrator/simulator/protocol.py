"""The decision protocol of a migration, checked exhaustively: owner, promise, commit, epoch, guard.

A model, small enough to visit every state that it can come into: two hosts, two controllers that share one job row, up
to `crashes` crashes (a worker forgets everything but what is on its disk; a controller forgets what it was about to do)
and up to `tricks` lost or doubled messages. Messages are a set: any may arrive next, so
every order is tried.

What is modelled is what decides who runs: the job row with its compare-and-set, the owner with its epoch, the freeze
with its guard, the promise, the restore with its look, and the three undos. What only takes time is left out.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

T = TypeVar("T")
RUNNING, FROZEN, ABSENT = "running", "frozen", "absent"
NO_GUARD, ARMED, PROMISED, RESUMED = "none", "armed", "promised", "resumed"
SOURCE, TARGET = "source", "target"
FORWARD = ("freeze", "promise", "restore", "prove", "remove")
"""The steps on hosts; the commit is decided in the transaction that begins `restore`."""
BACKWARD = ("undo-restore", "undo-freeze")
HOST = {
    "freeze": SOURCE,
    "promise": SOURCE,
    "remove": SOURCE,
    "undo-freeze": SOURCE,
    "restore": TARGET,
    "prove": TARGET,
    "undo-restore": TARGET,
    "look": TARGET,
}
SUCCEEDED, FAILED, OPERATOR = "succeeded", "failed", "needs operator"
ENDS = (SUCCEEDED, FAILED, OPERATOR)

Message = tuple[str, str, int, str]
"""`(kind, step, epoch, result)`; kind is `do` or `done`, a command has no result."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything there is."""

    step: str = "freeze"
    """What the job's row waits for."""
    owner: str = SOURCE
    epoch: int = 1
    source: str = RUNNING
    target: str = ABSENT
    guard: str = NO_GUARD
    seen: tuple[int, int] = (0, 0)
    """The highest epochs on the disks of source and target."""
    undone: tuple[bool, bool] = (False, False)
    """What the workers of source and target remember of undos; gone after a crash."""
    messages: tuple[Message, ...] = (("do", "freeze", 1, ""),)
    stale: tuple[tuple[str, int], ...] = ()
    """What the other controller has read and not yet written: step and epoch."""
    crashes: int = 0
    tricks: int = 0
    given_away: bool = False
    """The target has run."""


@dataclass(frozen=True, slots=True)
class Protections:
    """What a mutant of the model takes away."""

    fence: bool = True
    epoch_at_turn: bool = True
    epoch_at_look: bool = True
    compare: bool = True
    promise: bool = True
    guard: bool = True
    look_first: bool = True
    undo_order: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search found."""

    states: int
    broken: str | None
    trail: tuple[str, ...] = ()


def search(protections: Protections = Protections(), *, crashes: int = 3, tricks: int = 2) -> Verdict:
    """Visit every state, breadth first.

    Args:
        protections: What the protocol relies on.
        crashes: How many crashes there may be.
        tricks: How many lost or doubled messages.
    """
    model = Model(protections, crashes, tricks)
    first = State()
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    leads_to: defaultdict[State, list[State]] = defaultdict(list)
    todo = deque([first])
    while todo:
        state = todo.popleft()
        broken = _broken(state)
        moves = [] if broken else list(model.moves(state))
        if not broken and not moves and state.step not in ENDS:
            broken = "the job never ends"
        if not broken and state.source == FROZEN and state.guard == ARMED and not _has_rescue(moves):
            broken = "the source stays frozen when everything else dies"
        if not broken and not _can_end(state):
            broken = "the job ended and nothing runs"
        if broken:
            return Verdict(len(came_from), broken, _trail(state, came_from))
        for name, after in moves:
            after = _tidied(after, fenced=protections.fence)
            leads_to[after].append(state)
            if after not in came_from:
                came_from[after] = (state, name)
                todo.append(after)
    ending = _all_before(leads_to, came_from)
    stuck = next((state for state in came_from if state not in ending), None)
    if stuck is not None:
        return Verdict(len(came_from), "the job can end no more", _trail(stuck, came_from))
    return Verdict(len(came_from), None)


def _all_before(leads_to: dict[State, list[State]], states: Iterable[State]) -> set[State]:
    """Every state from which an end can be reached: the protocol has no dead end and no endless circle."""
    todo = [state for state in states if state.step in ENDS]
    found = set(todo)
    while todo:
        for before in leads_to.get(todo.pop(), ()):
            if before not in found:
                found.add(before)
                todo.append(before)
    return found


def _has_rescue(moves: list[tuple[str, State]]) -> bool:
    return any(name.startswith("the guard") for name, _ in moves)


def _tidied(state: State, *, fenced: bool) -> State:
    """Drop what nobody will ever heed: answers to other questions, commands that the fence will refuse."""
    kept = tuple(
        (kind, step, epoch, result)
        for kind, step, epoch, result in state.messages
        if (kind == "done" and (step, epoch) == (state.step, state.epoch))
        or (kind == "do" and not (fenced and epoch < state.seen[0 if HOST[step] == SOURCE else 1]))
    )
    return state if kept == state.messages else replace(state, messages=kept)


def _broken(state: State) -> str | None:
    if state.source == RUNNING and state.target == RUNNING:
        return "two copies run"
    if state.given_away and state.source == RUNNING:
        return "given away and resumed"
    return None


def _can_end(state: State) -> bool:
    """Whether an ended job, all of whose messages have arrived, has left a program that runs."""
    if state.step == SUCCEEDED:
        return state.target == RUNNING
    if state.step == FAILED:
        return state.source == RUNNING or bool(state.messages)
    return True


class Model:
    """What may happen next."""

    def __init__(self, protections: Protections, crashes: int, tricks: int):
        self._with = protections
        self._crashes = crashes
        self._tricks = tricks

    def moves(self, state: State) -> Iterator[tuple[str, State]]:
        """Every event and the state after it."""
        for message in state.messages:
            yield from self._arrivals(state, message)
        if state.step not in ENDS:
            yield from self._controller(state)
        yield from self._guard(state)
        if state.crashes < self._crashes:
            yield from self._crash(replace(state, crashes=state.crashes + 1))

    # ---- messages

    def _arrivals(self, state: State, message: Message) -> Iterator[tuple[str, State]]:
        rest = _without(state.messages, message)
        name = " ".join(map(str, message))
        yield f"arrives: {name}", self._arrive(replace(state, messages=rest), message)
        if state.tricks < self._tricks:
            yield f"lost: {name}", replace(state, messages=rest, tricks=state.tricks + 1)
            doubled = self._arrive(replace(state, messages=rest, tricks=state.tricks + 1), message)
            yield f"arrives, and stays: {name}", replace(doubled, messages=_with(doubled.messages, message))

    def _arrive(self, state: State, message: Message) -> State:
        kind, step, epoch, result = message
        if kind == "done":
            return self._conclude(state, step, epoch, result)
        place = 0 if HOST[step] == SOURCE else 1
        if self._with.fence and epoch < state.seen[place]:
            return state
        state = replace(state, seen=_put(state.seen, place, max(epoch, state.seen[place])))
        undo = step.startswith("undo")
        if not undo and step != "look" and state.undone[place]:
            return state
        if undo:
            state = replace(state, undone=_put(state.undone, place, value=True))
        state, result = self._perform(state, step)
        return replace(state, messages=_with(state.messages, ("done", step, epoch, result)))

    def _perform(self, state: State, step: str) -> tuple[State, str]:
        acts: dict[str, Callable[[State], tuple[State, str]]] = {
            "freeze": self._freeze,
            "promise": self._promise,
            "restore": self._restore,
            "prove": lambda s: (s, "ok" if s.target == RUNNING else "failed"),
            "look": lambda s: (s, "there" if s.target == RUNNING else "absent"),
            "remove": lambda s: (replace(s, source=ABSENT, guard=NO_GUARD), "ok"),
            "undo-restore": lambda s: (replace(s, target=ABSENT), "ok"),
            "undo-freeze": self._resume,
        }
        return acts[step](state)

    def _freeze(self, state: State) -> tuple[State, str]:
        if state.source == ABSENT or state.guard in (PROMISED, RESUMED):
            return state, "failed"
        return replace(state, source=FROZEN, guard=ARMED), "ok"

    def _promise(self, state: State) -> tuple[State, str]:
        if state.source != FROZEN or state.guard not in (ARMED, PROMISED):
            return state, "failed"
        return (replace(state, guard=PROMISED) if self._with.promise else state), "ok"

    def _restore(self, state: State) -> tuple[State, str]:
        return replace(state, target=RUNNING, given_away=True), "ok"

    def _resume(self, state: State) -> tuple[State, str]:
        if state.guard == NO_GUARD or state.source == ABSENT:
            return state, "ok"
        return replace(state, source=RUNNING, guard=NO_GUARD), "ok"

    # ---- the guard

    def _guard(self, state: State) -> Iterator[tuple[str, State]]:
        if self._with.guard and state.guard == ARMED and state.source == FROZEN:
            yield "the guard resumes the source", replace(state, source=RUNNING, guard=RESUMED)

    # ---- controllers

    def _controller(self, state: State) -> Iterator[tuple[str, State]]:
        """Send again, give up where that is allowed, or act on what was read before somebody else wrote."""
        command = ("do", state.step, state.epoch, "")
        if command not in state.messages:
            yield f"sends {state.step} again", replace(state, messages=_with(state.messages, command))
        if state.step == "restore" and self._with.look_first:
            epoch = self._raised(state) if self._with.epoch_at_look else state.epoch
            yield "doubts the restore", _send(replace(state, epoch=epoch), "look")
        may_give_up = state.step in ("freeze", "promise") or (state.step == "restore" and not self._with.look_first)
        if may_give_up:
            yield f"gives {state.step} up", self._turn_back(state)
        if self._with.compare:
            return  # whatever another controller writes late is refused and changes nothing
        if not state.stale:
            yield "another controller reads", replace(state, stale=((state.step, state.epoch),))
        for step, epoch in state.stale:
            rest = replace(state, stale=())
            if step != state.step and step in ("freeze", "promise"):
                yield "it writes what it had decided", self._turn_back(replace(rest, epoch=epoch))
            yield "it is told that it was too late", rest

    def _conclude(self, state: State, step: str, epoch: int, result: str) -> State:
        """Take an answer: it counts if the row waits for it."""
        if step == "look":
            return self._conclude_look(state, epoch, result)
        if step != state.step or epoch != state.epoch:
            return state
        if result == "failed":
            return self._fail(state)
        if step == "promise":  # the commit: owner, epoch and row in one transaction
            return _send(replace(state, owner=TARGET, epoch=state.epoch + 1), "restore")
        if step in FORWARD:
            following = FORWARD.index(step) + 1
            return _send(state, FORWARD[following]) if following < len(FORWARD) else _end(state, SUCCEEDED)
        if step == self._undos()[0]:  # the commit is taken back together with the row
            return _send(replace(state, owner=SOURCE, epoch=state.epoch + 1), self._undos()[1])
        return _end(state, FAILED)

    def _conclude_look(self, state: State, epoch: int, result: str) -> State:
        if state.step != "look" or epoch != state.epoch:
            return state
        return _send(state, "prove") if result == "there" else self._turn_back(state)

    def _raised(self, state: State) -> int:
        return state.epoch + 1 if self._with.epoch_at_turn else state.epoch

    def _fail(self, state: State) -> State:
        if state.step == "prove":
            return _end(state, OPERATOR)
        return self._turn_back(state)

    def _turn_back(self, state: State) -> State:
        touched = state.step in ("restore", "look", "prove", "remove")
        return _send(replace(state, epoch=self._raised(state)), self._undos()[0] if touched else "undo-freeze")

    def _undos(self) -> tuple[str, str]:
        return ("undo-restore", "undo-freeze") if self._with.undo_order else ("undo-freeze", "undo-restore")

    # ---- crashes

    def _crash(self, state: State) -> Iterator[tuple[str, State]]:
        for place, name in enumerate((SOURCE, TARGET)):
            if state.undone[place]:  # before that its worker has nothing to forget
                yield f"the {name}'s worker crashes", replace(state, undone=_put(state.undone, place, value=False))
        if state.stale:
            yield "the other controller crashes", replace(state, stale=())


def _send(state: State, step: str) -> State:
    """Write the row and send what it waits for now."""
    message = ("do", step, state.epoch, "")
    return replace(state, step=step, messages=_with(state.messages, message))


def _end(state: State, how: str) -> State:
    return replace(state, step=how, stale=())


def _with(messages: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    return messages if message in messages else tuple(sorted((*messages, message)))


def _without(messages: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    place = messages.index(message)
    return messages[:place] + messages[place + 1 :]


def _put(pair: tuple[T, T], place: int, value: T) -> tuple[T, T]:
    return (value, pair[1]) if place == 0 else (pair[0], value)


def _trail(state: State, came_from: dict[State, tuple[State, str] | None]) -> tuple[str, ...]:
    names: list[str] = []
    while (step := came_from[state]) is not None:
        state, name = step
        names.append(name)
    return tuple(reversed(names))


def told(verdict: Verdict) -> Iterable[str]:
    """A verdict in words."""
    yield f"{verdict.states} states: {verdict.broken or 'nothing broken'}"
    yield from verdict.trail
