"""For shells: print the words that can complete a command line, one a line, each with its meaning."""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from riseml.completion.candidates import Candidate, candidates
from riseml_proto.errors import RisemlError

if TYPE_CHECKING:
    from riseml.transport.http import Client

_TIMEOUT = 0.3
"""Seconds that a daemon of this machine may take to answer: a person has pressed Tab and waits."""
_SSH_TIMEOUT = 1.0  # for a daemon behind ssh; only a connection that is open already is used
_MEMBERS = 1000
_FILES = 1000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", help="after --, what was typed after riseml")


def run(args: argparse.Namespace) -> int:
    """Print the words. Errors are not shown: the finished command will show them."""
    try:
        words = candidates(args.words, _Daemon())
    except (RisemlError, OSError):
        return 0
    for word, text in words:
        plain = " ".join(text.split())
        sys.stdout.write(f"{word}\t{plain}\n" if plain else f"{word}\n")
    return 0


class _Daemon:
    """Asks the daemon, and takes no answer for none."""

    def ids(self, command: str, host: str | None, typed: str) -> Iterator[Candidate]:
        """IDs that begin with what was `typed`: experiments, the newest first, or the members of one."""
        from riseml.commands.results_view import show_params
        from riseml_proto.ids import CanonicalId, parse
        from riseml_proto.messages import Detail, Summary

        head = typed.rpartition(".")[0]
        whole = parse(head) if head else CanonicalId(None)
        if whole.member is not None:
            yield Candidate(f"{head}.train", "its job")
            return
        with _client(host) as client:
            if whole.experiment is not None:
                detail = client.get(f"/v1/experiments/{head}", Detail, {"limit": _MEMBERS})
                for member in detail.experiments if detail.count else ():
                    number = parse(member.id).member
                    yield Candidate(
                        f"{head}.{number}", f"{member.state} {show_params(member.params)}"
                    )
                return
            for experiment in reversed(
                client.get("/v1/experiments", list[Summary], {"all": "true"})
            ):
                if command != "kill" or not experiment.state.ended:
                    yield Candidate(experiment.id, f"{experiment.project} {experiment.state}")

    def names(self, host: str | None, experiment: str, *, params: bool) -> Iterator[Candidate]:
        """Names of results of an experiment; with `params`, of its parameters, too."""
        from riseml_proto.messages import Detail

        with _client(host) as client:
            detail = client.get(f"/v1/experiments/{experiment}", Detail, {"limit": _MEMBERS})
        members = detail.experiments
        for name in dict.fromkeys(name for member in members for name in member.results):
            yield Candidate(name, "a result")
        if params:
            for name in dict.fromkeys(name for member in members for name in member.params):
                yield Candidate(name, "a parameter")

    def files(self, host: str | None, typed: str) -> Iterator[Candidate]:
        """URIs that may complete the one that was `typed`; those of directories end with `/`."""
        from riseml.transfer.download import listing
        from riseml_proto import paths, uris
        from riseml_proto.file_messages import List

        folder, slash, _ = typed.rpartition("/")
        if folder == "output:/":
            for one in self.ids("ls", host, typed.removeprefix("output://")):
                if not one.word.endswith(".train"):
                    yield Candidate(f"output://{one.word}/", one.help)
            return
        uri = uris.parse(folder + slash)
        with _client(host) as client:
            for info in islice(listing(client, List(uri=str(uri))), _FILES):
                if info.path and info.error is None:
                    end = "/" if info.type == "directory" else ""
                    yield Candidate(f"{uri.below(paths.unquote(info.path))}{end}", info.type)


def _client(host: str | None) -> "Client":
    from riseml.transport.address import SshAddress
    from riseml.transport.daemon import configured_address, local_socket
    from riseml.transport.http import Client
    from riseml.transport.unix import UnixSocket

    address = configured_address(host, os.environ)
    if isinstance(address, SshAddress):
        from riseml.ssh.host import SshHost

        return Client(SshHost(address, os.environ, hurry=_SSH_TIMEOUT), timeout=_SSH_TIMEOUT)
    return Client(UnixSocket(address or local_socket(os.environ)[0]), timeout=_TIMEOUT)
