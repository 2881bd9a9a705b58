"""A container's interface on its target: made before the freeze, taken by the restore, joined when the task runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from migrator.errors import MigratorError
from migrator.models.phase import JobKind
from migrator.models.values import Facts
from migrator.service.host import Act, Host
from migrator.service.network import handover
from migrator.service.network.attachment import Attachment, pack_attachment, read_attachment
from migrator.service.network.links import drop_namespace
from migrator.service.network.plugins import plugin_for
from migrator.service.preflight.network import wanted_attachment
from migrator.service.steps.restored_spec import Spec, with_hook
from migrator.service.steps.work import work_directory

TARGET_NETWORK = "target_network"
ROOMS = "network"
"""What each job has of a network here: noted below STATE_DIR, held below RUN_DIR, which a reboot empties."""


def prepare_interface(host: Host, act: Act) -> Facts:
    """Make the interface in the job's waiting room.

    Raises:
        PreconditionFailed: The network cannot have it; of a restore also `address_in_use`.
    """
    wanted = wanted_attachment(act)
    if wanted is None:
        return {}
    if act.request.kind is JobKind.REWIND:  # what runs has it still: it is made anew once that is displaced
        return {TARGET_NETWORK: pack_attachment(wanted)}
    made = handover.prepare(_room(host, act, wanted), wanted)
    if act.request.kind is JobKind.RESTORE:  # in a migration it is the source that answers
        handover.check_unanswered(made)
    return {TARGET_NETWORK: pack_attachment(made)}


def drop_interface(host: Host, act: Act) -> None:
    """Take back what this job made of the network here."""
    wanted = wanted_attachment(act)
    if wanted is not None:
        handover.give_back(_room(host, act, wanted), wanted)


def waiting_interface(host: Host, act: Act, waiting: Attachment | None) -> Attachment | None:
    """Return the interface that waits for the container, made anew if a former restore has used it up."""
    if waiting is None:
        return None
    room = _room(host, act, waiting)
    made = handover.prepare(room, waiting)
    if room.is_the_containers:
        handover.furnish(room, made)
    return made


def with_interface(host: Host, act: Act, spec: Spec, waiting: Attachment | None) -> Spec:
    """Have the restored container take the interface before its program runs."""
    if waiting is None or waiting.namespace_path:
        return spec
    commands = work_directory(host, act) / "interface.ip"
    return with_hook(spec, handover.interface_hook(_room(host, act, waiting), waiting, commands))


def join_restored(attachment: Attachment | None, pid: int) -> None:
    """Let the restored task be reached."""
    if attachment is not None:
        handover.join(attachment, pid)
        plugin_for(attachment).adopt(attachment, handover.namespace_of(pid))


def cut_off_restored(act: Act) -> None:
    """Silence a restored task that is about to be taken back."""
    attachment = read_attachment(act.facts.get(TARGET_NETWORK))
    if attachment is not None:
        with suppress(MigratorError, OSError):  # its end follows
            handover.cut_off(attachment)


def leave_room(host: Host, act: Act, waiting: Attachment | None) -> None:
    """Forget the waiting room, which has served since the restore."""
    if waiting is not None:
        handover.leave(_room(host, act, waiting))


def detach_source(act: Act, pid: int | None) -> None:
    """Give back what the source had of its network; plug-ins know more of it while its task is there."""
    attachment = read_attachment(act.facts.get("network"))
    if attachment is not None:
        plugin_for(attachment).detach(attachment, handover.namespace_of(pid) if pid else None)
        if attachment.namespace_path:
            drop_namespace(Path(attachment.namespace_path))


def _room(host: Host, act: Act, attachment: Attachment) -> handover.Room:
    marker = host.settings.state_dir / ROOMS / f"{act.command.job_id}.json"
    return handover.Room.of(marker, host.settings.run_dir / ROOMS, attachment)
