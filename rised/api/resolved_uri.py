"""A URI that a client names, as the directory it means and the rights with which it may be touched."""

import os
from typing import NamedTuple

import msgspec

from rised.api.context import Context
from rised.storage.experiments import owner_of
from rised.users.owner import Owner, of_peer, own
from rised.users.peer import Peer
from riseml_proto import uris


class ResolvedUri(NamedTuple):
    """What a URI means to the user who names it."""

    uri: uris.Remote
    top: str
    """The directory that nothing may lead out of."""
    prefix: bytes
    """The path from there to the directory in which the URI's path begins."""
    owner: Owner
    """The user with whose rights its files are touched."""

    @property
    def path(self) -> bytes:
        """The path from the top to what the URI names."""
        return b"/".join(part for part in (self.prefix, self.uri.path) if part)


def resolve(context: Context, peer: Peer, text: str) -> ResolvedUri:
    """What the URI `text` means to `peer`. Raises `InvalidInput`, `NotFound`, `Forbidden`."""
    uri = uris.parse(text)
    owner, settings = of_peer(peer), context.services.settings
    if not settings.system:
        # Root sees the files of a person's own daemon with that person's rights.
        owner = msgspec.structs.replace(own(), umask=owner.umask)
    if uri.experiment is None:
        return ResolvedUri(uri, settings.data_dir, b"", owner)
    target, row = context.target(peer, str(uri.experiment))
    # An administrator, whom the kernel does not know as one, gets the rights of the experiment's owner.
    if row.uid != peer.uid and settings.system:
        owner = owner_of(row)
    top = os.path.join(settings.output_dir, row.user)
    prefix = os.path.relpath(context.services.layout.output(row, target.member or 0), top)
    return ResolvedUri(uri, top, os.fsencode(prefix), owner)
