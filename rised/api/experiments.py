"""Starting, listing, looking at and killing experiments."""

import os
from collections.abc import Iterator

import msgspec
import trio

from rised.api.changes import check_priority
from rised.api.context import Context
from rised.api.pages import in_pages
from rised.api.results import order
from rised.clock import now_ms
from rised.crashpoints import crash_point
from rised.experiments.experiment import Experiment, check_member
from rised.http.request import Answer, Request, Streamed
from rised.log import log
from rised.policy.outcome import KillMode
from rised.policy.resources import ResourceRequest, shortage
from rised.storage.owners import encode
from rised.storage.rows import ExperimentRow
from rised.tensorboard import manager
from rised.users.owner import Owner, of_peer
from rised.users.peer import Peer
from riseml_proto import config as riseml_yml
from riseml_proto.config import Config
from riseml_proto.errors import (
    InvalidInput,
    NoEngine,
    NotFound,
    RisemlError,
    StorageFull,
    Unsatisfiable,
)
from riseml_proto.messages import Kill, Killed, Submission, Submitted, Summary

_ENV = frozenset({"PATH", "VIRTUAL_ENV", "CONDA_PREFIX"})


async def submit(context: Context, request: Request) -> Answer:
    """Start an experiment (`Submission`, answered by `Submitted` when it is on disk)."""
    asked = await request.message(Submission, limit=4 << 20)
    config = await trio.to_thread.run_sync(riseml_yml.parse_config, asked.config, asked.config_file)
    unknown = riseml_yml.check_placeholders(config)
    if asked.strict and unknown:
        raise unknown[0]
    _check(context, config, asked)
    user, owner, admission = request.peer.user, of_peer(request.peer), context.admission
    admission.check_gpus(user, owner, config)
    await admission.check_disk(user, owner)
    if not await context.revisions.exists(user, config.project, asked.revision):
        raise NotFound(f"project {config.project} has no revision {asked.revision}; sync it first")
    image, build = await _image(context, config, asked, user, owner)
    database = context.database
    admission.check_queued(user, owner, context.scheduler.experiments.values())
    with database.transaction():
        number = database.add_experiment(
            user=user,
            uid=request.peer.uid,
            project=config.project,
            revision=asked.revision,
            config=asked.config,
            config_file=asked.config_file,
            env=asked.env,
            members=config.count,
            created_ms=now_ms(),
            image=image,
            build=build,
            owner=encode(owner) if context.settings.system else None,
            priority=asked.priority,
        )
    row = context.views.row(number)
    first = 1 if config.count else 0
    experiment = Experiment(row, config, frontier=first)
    if not (build and config.count):
        experiment.active[first] = row.state
    context.scheduler.add(experiment)  # before anything else can happen: a kill must find it
    await database.sync()
    crash_point("before-acknowledge")
    log.info("experiment submitted", id=number, user=user, project=row.project, count=row.members)
    return Answer(
        Submitted(
            id=str(number),
            count=config.count,
            revision=asked.revision,
            output_dir=context.views.output_dir(row),
            warnings=[
                *riseml_yml.warnings(config),
                *_ignored_image(context, config),
                *_no_board(config),
            ],
        )
    )


def _check(context: Context, config: Config, asked: Submission) -> None:
    """Raise for what can never run here, or not now."""
    if not config.image and context.settings.runner == "docker":
        raise Unsatisfiable(
            f"{config.file}: train.image: is missing, and this daemon runs nothing but containers; name one,"
            " such as image: python:3.11, or start rised with --runner auto"
        )
    check_priority(asked.priority)
    wanted = ResourceRequest(config.cpus, config.mem, config.gpus)
    if lacks := shortage(wanted, context.scheduler.inventory.total, "in this machine"):
        raise Unsatisfiable(f"{config.file}: train.resources: asks for {lacks}; ask for less")
    if odd := set(asked.env) - _ENV:
        raise InvalidInput(
            f"env: {min(odd)} is not taken from the submitter; put it under env: in riseml.yml"
        )
    if any("\0" in value for value in asked.env.values()):
        raise InvalidInput("env: a value holds a NUL byte")
    for directory in (context.settings.state_dir, context.settings.output_dir):
        found = os.statvfs(directory)
        free = found.f_bavail * found.f_frsize >> 20
        needed = max(1, context.settings.min_free)
        if free < needed:
            raise StorageFull(
                f"only {free} MiB are free on the disk of {directory}, and new experiments need"
                f" {needed}; free some"
            )


async def _image(
    context: Context, config: Config, asked: Submission, user: str, owner: Owner
) -> tuple[str | None, bool]:
    """ID of the image to run in, if it is there, and whether it must be made. Raises `Unsatisfiable`."""
    if config.image is None or context.settings.runner == "process":
        return None, False
    recipe = await context.images.recipe(owner, user, config, asked.revision, asked.config_file)
    assert recipe is not None
    try:
        image = await context.images.ready(recipe)
    except NoEngine as error:
        raise Unsatisfiable(
            f"{config.file}: train.image: {config.image} needs a container engine: {error}; start one, leave"
            " image out, or start rised with --runner process, which ignores it"
        ) from error
    return image, image is None


def _ignored_image(context: Context, config: Config) -> list[str]:
    if not config.image or context.settings.runner != "process":
        return []
    return [f"{config.file}: train.image: {config.image} is ignored: this daemon runs processes"]


def _no_board(config: Config) -> list[str]:
    if not config.tensorboard or manager.is_there():
        return []
    return [f"{config.file}: train.tensorboard: {manager.MISSING}"]


async def index(context: Context, request: Request) -> Streamed:
    """List the unfinished ones as `Summary`; with `?all=true` the ended ones, too.
    `?mine=true` leaves out those of others, of which everybody may see that much.
    """
    everything, peer = request.flag("all"), request.peer
    mine = request.flag("mine") and context.settings.system

    def pages() -> Iterator[list[Summary]]:
        for rows in context.views.rows(ended=everything):
            yield [_seen_by(context, peer, row) for row in rows if not mine or row.uid == peer.uid]

    return in_pages([], pages())


def _seen_by(context: Context, peer: Peer, row: ExperimentRow) -> Summary:
    found = context.views.summary(row)
    return found if context.may(peer, row) else msgspec.structs.replace(found, revision="")


async def show(context: Context, request: Request, target: str) -> Streamed:
    """Show one as `Detail`, with all members, or with `?limit=100` around the first unfinished.
    `?sort=accuracy` puts the best by a result first, `?sort=lr` orders by a parameter; `?reverse=true` the other way.
    """
    found, row = context.target(request.peer, target)
    check_member(row.members, row.id, found.member)
    limit, name = request.number("limit"), request.query.get("sort")
    if name and found.member is None:
        members = await order(context, row, name, limit, reverse=request.flag("reverse"))
        return in_pages(context.views.detail(row), context.views.chosen(row, members))
    first, last = context.views.window(row, limit)
    if found.member is not None:
        first = last = found.member
    return in_pages(context.views.detail(row), context.views.pages(row, first, last))


async def kill(context: Context, request: Request) -> Answer:
    """End experiments or members (`Kill`, answered by `Killed` when nothing is left of them).

    All IDs are understood before anything is killed.
    """
    asked = await request.message(Kill)
    mode = KillMode.FORCE if asked.force else KillMode.GRACEFUL
    texts = asked.ids or [str(context.last(request.peer, asked.project))]
    targets = []
    for text in texts:
        found, row = context.target(request.peer, text)
        check_member(row.members, row.id, found.member)
        targets.append((text, row.id, found.member))
    killed: dict[str, bool] = {}
    failed: list[RisemlError] = []

    async def kill_one(text: str, number: int, member: int | None) -> None:
        try:
            killed[text] = await context.scheduler.kill(number, member, mode)
        except RisemlError as error:  # the others are killed all the same
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(kill_one, *target)
    if failed:
        raise failed[0]
    return Answer(
        Killed(
            killed=[text for text in texts if killed[text]],
            ended=[text for text in texts if not killed[text]],
        )
    )
