"""The machine and what is handed out of it, draining, unused images, and the caller."""

import os
import socket
from dataclasses import asdict

from rised.api.context import Context
from rised.gpus.health import explain
from rised.http.request import Answer, Request
from rised.log import log
from rised.storage.experiments import owner_of
from rised.storage.rows import ExperimentRow
from rised.users.impersonation import impersonating
from rised.users.peer import user_name
from riseml_proto import API_VERSION, VERSION
from riseml_proto.errors import InvalidInput
from riseml_proto.ids import experiment_id
from riseml_proto.messages import Amount, Drain, Drained, Gpu, Prune, Pruned, System, Whoami

_LONGEST_REASON = 200


async def system(context: Context, request: Request) -> Answer:
    """Show the machine, and what of it is handed out (`System`)."""
    await context.gpus.monitor.refresh()
    inventory, settings = context.scheduler.inventory, context.services.settings
    total, free = inventory.total, inventory.free
    unavailable = context.gpus.monitor.unavailable
    states = context.scheduler.unfinished.states
    holders = {}
    for holder, grant in inventory.grants():
        number, member = holder  # type: ignore[misc]  # holders are (experiment, member)
        state = states.get(number)  # type: ignore[has-type]
        user = state.experiment.row.user if state else None
        held = experiment_id(number, member), user  # type: ignore[has-type]
        holders.update(dict.fromkeys(grant.gpus, held))
    return Answer(
        System(
            hostname=socket.gethostname(),
            version=VERSION,
            api_version=API_VERSION,
            pid=os.getpid(),
            runner=settings.runner,
            isolation=context.services.runner.isolation,
            cpus=Amount(total=total.cpus, used=round(total.cpus - free.cpus, 3)),
            memory=Amount(total=total.mem, used=total.mem - free.mem),
            gpus=[
                Gpu(
                    **asdict(gpu),
                    used_by=holders.get(gpu.index, (None, None))[0],
                    user=holders.get(gpu.index, (None, None))[1],
                    out=explain(why, _process) if (why := unavailable.get(gpu.index)) else None,
                )
                for gpu in context.gpus.devices
            ],
            state_dir=settings.state_dir,
            output_dir=settings.output_dir,
            data_dir=settings.data_dir,
            max_files=settings.max_files,
            max_bytes=settings.max_bytes,
            drained=context.scheduler.accounting.drained,
        )
    )


async def drain(context: Context, request: Request) -> Answer:
    """Let nothing new start, or undo that (`Drain`, answered by `Drained`); for administrators."""
    message = await request.message(Drain)
    context.check_admin(request.peer)
    if not message.reason.isprintable() or len(message.reason) > _LONGEST_REASON:
        raise InvalidInput(f"reason: must be one line of at most {_LONGEST_REASON} characters")
    if not message.gpus:
        await context.scheduler.drain(message.reason if message.drained else None)
    elif message.drained:
        await context.gpus.monitor.take_out(message.gpus, message.reason)
    else:
        await context.gpus.monitor.bring_back(message.gpus)
    context.scheduler.unfinished.wake()
    event = "drained" if message.drained else "undrained"
    log.info(event, by=request.peer.user, why=message.reason, gpus=message.gpus or "all")
    reason = message.reason if message.drained else ""
    return Answer(Drained(drained=message.drained, reason=reason, gpus=message.gpus))


def _process(pid: int) -> str:
    """A process as text: pid, user and program, such as `4711 paul python`; the pid alone where it is gone."""
    try:
        user = user_name(os.stat(f"/proc/{pid}").st_uid)
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"{pid} {user} {file.read().strip()}"
    except OSError:
        return str(pid)


async def prune(context: Context, request: Request) -> Answer:
    """Remove built images that no experiment needs any more (`Prune`, answered by `Pruned`).

    An experiment needs its image until it has ended and its output directory was removed.
    """
    await request.message(Prune)
    context.check_admin(request.peer)
    return Answer(Pruned(images=await context.images.prune(_needed_images(context))))


def _needed_images(context: Context) -> set[str]:
    unfinished = context.scheduler.experiments
    return {
        row.image
        for rows in context.views.rows()
        for row in rows
        if row.image and (row.id in unfinished or _has_output(context, row))
    }


def _has_output(context: Context, row: ExperimentRow) -> bool:
    with impersonating(owner_of(row)):
        return os.path.isdir(context.services.layout.output(row))


async def whoami(context: Context, request: Request) -> Answer:
    """Show which user the kernel says that the caller is (`Whoami`)."""
    peer = request.peer
    return Answer(Whoami(user=peer.user, uid=peer.uid, host=socket.gethostname()))
