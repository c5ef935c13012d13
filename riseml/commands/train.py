"""Run the experiment that `riseml.yml` describes: sync the files, start it, follow it to its end.

The project is the current directory, without `.git`, what git ignores and `.risemlignore` names, and
what tools make by themselves (`.venv`, `__pycache__`, `wandb`; the guide has the list). Only files that
the daemon lacks travel, and large ones are named before. The states and the output are shown until the experiment has
ended.

    $ riseml train
    Syncing project (2.4 KB, 2 files)...done
    144             | [2017-08-30T09:59:06Z] --> PENDING
    144.1           | [2017-08-30T09:59:06Z] --> PENDING
    144.2           | [2017-08-30T09:59:06Z] --> CREATED

Ctrl+C leaves the experiment running and names the command to come back with. A closed terminal leaves
it running, too. A daemon that is restarted meanwhile is waited for, up to 30 seconds.

The exit code is 0 if the experiment finished and no sub-experiment failed, 1 if not, 2 if it could not
be started. After Ctrl+C and with `-d`, which do not wait for the outcome, it is 0.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from riseml.commands import add_json, add_priority, show
from riseml.commands.results_view import show_params, shown
from riseml.progress import plural
from riseml.screen import notice
from riseml.settings import read_config
from riseml.transport.daemon import connect
from riseml_proto.config import doubts, parse_config, warnings
from riseml_proto.errors import ConfigError, DaemonError, InvalidInput, NotFound
from riseml_proto.messages import Best, EndEntry, LogRequest, Submission, Submitted, System
from riseml_proto.objective import Objective
from riseml_proto.states import State
from riseml_proto.value import encodable

if TYPE_CHECKING:
    from riseml.sync.scan import Scan

_FILE = "riseml.yml"
_LARGEST = 1 << 22  # bytes of a riseml.yml, so that /dev/zero is not read for ever
_ENV = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--file", default=_FILE, metavar="FILE", help=f"read FILE instead of ./{_FILE}"
    )
    parser.add_argument(
        "-d", "--detach", action="store_true", help="start it and come back at once"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only show which sub-experiments there would be and what they would run; needs no daemon",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse what is only warned of otherwise: placeholders that no parameter defines, "
        "parameters named as variables that programs act upon",
    )
    add_priority(parser, default=0)
    add_json(parser, "with --detach or --dry-run: print JSON, for programs")


def run(args: argparse.Namespace) -> int:
    if args.json and not (args.detach or args.dry_run):
        raise InvalidInput(
            "--json goes with --detach or --dry-run; riseml logs -f --json follows in JSON"
        )
    name = os.fsencode(args.file).decode("utf-8", "replace")
    try:
        text = read_config(args.file, name, _LARGEST, remedy="-f FILE names another")
    except (FileNotFoundError, NotADirectoryError):
        remedy = _elsewhere(args.file) or "riseml init writes a first one, -f FILE names another"
        raise ConfigError(f"there is no such file; {remedy}", file=name) from None
    config = parse_config(text, name)
    if args.strict and (doubtful := doubts(config)):
        raise doubtful[0]
    warned = warnings(config)
    for warning in warned:
        _warn(warning)
    if args.dry_run:
        from riseml.commands import dry_run

        (dry_run.show_json if args.json else dry_run.show)(config, sys.stdout)
        return 0
    submission = partial(
        Submission, config=text, config_file=name, strict=args.strict, priority=args.priority
    )
    submitted = _submit(config.project, submission, args.host, quiet=args.json)
    for warning in submitted.warnings:
        if warning not in warned:
            _warn(warning)
    if args.detach:
        return show(args, submitted, _report(submitted))
    return _follow(submitted, args.host, config.objective)


def _elsewhere(path: str) -> str | None:
    """The remedy where riseml.yml is in a directory above; None where it is not."""
    directory = os.path.dirname(os.getcwd())
    while path == _FILE and directory != "/":
        if os.path.isfile(os.path.join(directory, _FILE)):
            return f"there is one in {directory}: cd there"
        directory = os.path.dirname(directory)
    return None


def submitted_env(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the submitter's environment that a process job gets."""
    # A value that is not UTF-8 cannot be sent as JSON. It is left out, and the job fails with an
    # error of its own if it needs the variable.
    values = {name: environ.get(name, "") for name in _ENV}
    return {name: value for name, value in values.items() if value and encodable(value)}


def exit_code(end: EndEntry) -> int:
    """0 if it finished and no sub-experiment failed, otherwise 1. A killed sub-experiment has not failed."""
    return 0 if end.state is State.FINISHED and not end.counts.get(State.FAILED) else 1


def _submit(
    project: str, submission: partial[Submission], host: str | None, *, quiet: bool
) -> Submitted:
    """Sync the current directory and start the experiment on that revision."""
    from riseml.progress import SyncLine
    from riseml.sync.place import check_project
    from riseml.sync.scan import special_text
    from riseml.sync.upload import sync

    root = os.fsencode(os.getcwd())
    check_project(root, os.environ)
    scanned = _scan(root, host)
    for text in scanned.notes:
        notice(text)
    if scanned.special:
        _warn(special_text(scanned.special))
    # The first look at the project is the one just taken; another follows where a file changed meanwhile.
    looks = chain([scanned], iter(partial(_scan, root, host), None))
    with connect(host) as client:
        out = sys.stderr if quiet else sys.stdout
        with SyncLine(scanned.size, scanned.number, out) as line:
            revision = sync(client, root, project, partial(next, looks), line)
        # A laptop's PATH has no meaning on another machine.
        env = {} if client.endpoint.remote else submitted_env(os.environ)
        request = submission(revision=revision, env=env)
        try:
            return client.post("/v1/experiments", request, Submitted)
        except KeyboardInterrupt:
            _warn(
                "interrupted while the experiment was being started; riseml status tells if it was"
            )
            raise


def _scan(root: bytes, host: str | None) -> "Scan":
    """The project's files. Only where they exceed the default limits is the daemon asked for its own."""
    from riseml.sync.scan import ProjectLimits, scan
    from riseml_proto.errors import ProjectTooLarge

    try:
        return scan(root, ProjectLimits())
    except ProjectTooLarge as error:
        try:
            with connect(host) as client:
                system = client.get("/v1/system", System)
        except DaemonError:
            raise error from None
    return scan(root, ProjectLimits(system.max_files, system.max_bytes))


def _follow(submitted: Submitted, host: str | None, objective: Objective | None) -> int:
    from riseml.follow import follow

    name = submitted.id
    request = LogRequest(id=name, follow=True, opening=True)
    try:
        end = follow(partial(connect, host), request)
        if submitted.count:
            _conclude(submitted, end, host, objective)
        return exit_code(end)
    except KeyboardInterrupt:
        after_echo = "\n" if sys.stderr.isatty() else ""  # the terminal has just shown ^C
        print(
            f"{after_echo}Job will continue in background.\n"
            f"Run `riseml logs {name}` to see it again, `riseml logs -f {name}` to follow it.",
            file=sys.stderr,
        )
        return 0


def _conclude(
    submitted: Submitted, end: EndEntry, host: str | None, objective: Objective | None
) -> None:
    """Say how many of a set failed, and which was the best where riseml.yml has an objective."""
    if failed := end.counts.get(State.FAILED):
        of = plural(submitted.count, "sub-experiment")
        notice(f"{failed:,} of {of} failed; riseml status {submitted.id} shows which")
    if objective:
        with connect(host) as client:
            try:
                best = client.get(f"/v1/experiments/{submitted.id}/best", Best)
            except NotFound:
                return  # nothing was reported
        for member, value in zip(best.experiments, best.values, strict=False):
            way = "lowest" if best.lowest else "highest"
            notice(
                f"{member.id} is the best: {way} {best.by}, {shown(value)},"
                f" of {best.reported:,} that reported it ({show_params(member.params)})"
            )


def _report(submitted: Submitted) -> Iterator[str]:
    name = submitted.id
    members = f" with {plural(submitted.count, 'sub-experiment')}" if submitted.count else ""
    yield f"Started experiment {name}{members}."
    yield (
        f"Run `riseml status {name}` to see where it stands, `riseml logs -f {name}` to follow it."
    )


def _warn(text: str) -> None:
    notice(f"warning: {text}")
