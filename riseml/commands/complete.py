"""Print how an unfinished command line may go on, a word a line with what it means, for shells."""

import argparse
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from riseml.completion.candidates import Candidate, candidates
from riseml_proto.errors import RisemlError

if TYPE_CHECKING:
    from riseml.transport.http import Client

_HURRY = 0.3
"""Seconds that a daemon of this machine may take: a person waits, with a finger on the key."""
_MEMBERS = 1000
_HURRY_FAR = 1.0  # one behind ssh, whose connection must be kept already


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the words typed so far."""
    parser.add_argument("words", nargs="*", help="after --, what was typed after riseml")


def run(args: argparse.Namespace) -> int:
    """Print them. Errors are not worth a word here: the finished command will tell them."""
    try:
        words = candidates(args.words, _ids)
    except (RisemlError, OSError):
        return 0
    for word, text in words:
        plain = " ".join(text.split())
        sys.stdout.write(f"{word}\t{plain}\n" if plain else f"{word}\n")
    return 0


def _ids(command: str, host: str | None, typed: str) -> Iterator[Candidate]:
    """The newest first. Behind a dot follow sub-experiments."""
    from riseml_proto import ids
    from riseml_proto.ids import CanonicalId
    from riseml_proto.messages import Detail, Summary

    head = typed.rpartition(".")[0]
    whole = ids.parse(head) if head else CanonicalId(None)
    if whole.member is not None:
        yield Candidate(f"{head}.train", "its job")
        return
    with _client(host) as client:
        if whole.experiment is not None:
            detail = client.get(f"/v1/experiments/{head}?limit={_MEMBERS}", Detail)
            for member in detail.experiments if detail.count else ():
                params = ", ".join(f"{name}={value}" for name, value in member.params.items())
                number = ids.parse(member.id).member
                yield Candidate(f"{head}.{number}", f"{member.state} {params}")
            return
        for experiment in reversed(client.get("/v1/experiments?all=true", list[Summary])):
            if command != "kill" or not experiment.state.ended:
                yield Candidate(experiment.id, f"{experiment.project} {experiment.state}")


def _client(host: str | None) -> "Client":
    from riseml.transport.address import SshAddress
    from riseml.transport.daemon import found_here, named
    from riseml.transport.http import Client
    from riseml.transport.unix import UnixSocket

    location = named(host, os.environ)
    if isinstance(location, SshAddress):
        from riseml.ssh.host import SshHost

        return Client(SshHost(location, os.environ, hurry=_HURRY_FAR), timeout=_HURRY_FAR)
    return Client(UnixSocket(location or found_here(os.environ)[0]), timeout=_HURRY)
