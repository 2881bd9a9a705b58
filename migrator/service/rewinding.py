"""A rewind has two containers of one name on one host: what runs, and what an old checkpoint holds.

To its steps it is a migration from this host to this host. Those of the source see the job as it is: what runs is
frozen, dumped and sealed under the job's own checkpoint. Those of the target see another job beside it, which restores
the old checkpoint: `JOB-rewind`, with a work directory, a lease and marks of its own, so that neither half can take
what is the other's for its own. What they found out lies apart among the job's facts.
"""

from __future__ import annotations

from dataclasses import replace

from migrator.models.phase import JobKind
from migrator.models.values import Facts, StepCommand
from migrator.service.host import Act
from migrator.service.plans import Where, line_named

REWOUND = "rewound"
"""Among the facts of a rewind: what its target half knows."""
REPLACED = "replaced"
"""Among the facts that its target half sees: what the source half knows."""
BESIDE = "-rewind"


def job_beside(job_id: str) -> str:
    """What the target half of a rewind is called."""
    return f"{job_id}{BESIDE}"


def rewound_key(container: str, job_id: str) -> str:
    """The key of the rw snapshot that the rewound container gets: the one that runs still has its own."""
    return f"{container}-{job_id}"


def as_seen(act: Act) -> Act:
    """The act as its step is to see it."""
    return as_target(act) if is_target_half(act.command) else act


def as_target(act: Act) -> Act:
    """The act as the target half of a rewind sees it."""
    command = act.command
    source = {name: value for name, value in command.facts.items() if name != REWOUND}
    beside = replace(
        command,
        job_id=job_beside(command.job_id),
        checkpoint_id=command.request.checkpoint_id,
        facts={**command.facts.get(REWOUND, {}), REPLACED: source},
    )
    return replace(act, command=beside)


def as_told(command: StepCommand, facts: Facts) -> Facts:
    """What a step found out, where the steps after it look for it."""
    if not is_target_half(command):
        return facts
    return {**facts, REWOUND: {**command.facts.get(REWOUND, {}), **facts}}


def is_target_half(command: StepCommand) -> bool:
    """Whether a command is about what a rewind brings back."""
    request = command.request
    return request.kind is JobKind.REWIND and line_named(request.kind, command.step).where is Where.TARGET
