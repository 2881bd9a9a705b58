"""See `steps.ahead`."""

from __future__ import annotations

from migrator.models.phase import JobKind
from migrator.service.catalogue import release_chunks
from migrator.service.host import Act
from migrator.service.steps.ahead import AHEAD, FETCHED_AHEAD
from migrator.service.steps.chunked import PACK_INDEXES, owner_of, written_before
from migrator.simulator import programs
from migrator.simulator.steps.step import Acts, Here, SimulatedStep
from migrator.storage.chunks.recipes import parse_recipe


class Precopy(SimulatedStep):
    """See `steps.ahead`; the round counts, so that each sends something new."""

    def run(self, here: Here, act: Act) -> Acts:
        """Send what a dump may find."""
        name = str(act.request.container)
        yield "read the memory"
        task = here.machine.tasks.get(name)
        if task is None:
            return {}
        if act.request.kind is JobKind.BACKUP:
            yield "copy it"
            here.machine.need_disk()
            here.machine.world.rules.effect(here.machine, act, "ahead")
            here.machine.ahead[act.command.job_id] = task.memory.to_bytes()
            return {}
        rounds = [*act.facts.get(AHEAD, ())]
        guess = [task.memory.to_bytes(), f"changes soon {act.command.job_id} {len(rounds)}".encode()]
        yield "send it ahead"
        with here.checkpoints.chunks.writing(owner_of(act), written_before(act)) as writer:
            note = writer.add_note(writer.add_part(programs.memory_part(), guess).to_bytes())
        act.check_aborted()
        indexes = [*written_before(act), *filter(None, [writer.written.index])]
        return {AHEAD: [*rounds, note.hex()], PACK_INDEXES: indexes}

    def undo(self, here: Here, act: Act) -> Acts:
        """Take it out of the store again."""
        yield "discard what went ahead"
        here.machine.remove_ahead(act)
        release_chunks(here.checkpoints, act.command.job_id, act.facts)
        return {}


class Prefetch(SimulatedStep):
    """See `steps.ahead`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Bring it to this host."""
        yield "read the recipe"
        rounds = act.facts.get(AHEAD, ())
        if not rounds:
            return {}
        recipe = parse_recipe(here.checkpoints.chunks.read_note(bytes.fromhex(rounds[-1])))
        yield "fetch what went ahead"
        data = b"".join(here.checkpoints.chunks.read(recipe))
        here.machine.need_disk()
        act.check_aborted()
        here.machine.world.rules.effect(here.machine, act, "ahead")
        here.machine.ahead[act.command.job_id] = data
        return {FETCHED_AHEAD: len(data)}

    def undo(self, here: Here, act: Act) -> Acts:
        """Remove it."""
        yield "remove what came ahead"
        here.machine.remove_ahead(act)
        return {}


class Again(SimulatedStep):
    """See `steps.ahead`."""

    def __init__(self, first: SimulatedStep):
        self._first = first

    def run(self, here: Here, act: Act) -> Acts:
        """Once more."""
        return self._first.run(here, act)
