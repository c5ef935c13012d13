"""One user of a soak, in a process of its own with that user's rights: submits, follows and kills, as a seed has it.

`python soak_user.py SOCKET SEED`: until its standard input ends. Prints `ID MEMBERS KIND` for each experiment that was
acknowledged.
"""

import contextlib
import os
import random
import select
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from riseml.transport.http import Client
from riseml_proto.errors import RisemlError
from riseml_proto.messages import (
    File,
    Kill,
    Killed,
    LogRequest,
    Manifest,
    Received,
    Revision,
    Submission,
    Submitted,
)

# The kernel keeps the lock until the last process that has it open is gone: nobody else can have the GPU before.
_PROOF = (
    'echo "$EXPERIMENT_ID begun" >> $HOME/evidence;'
    ' for g in $CUDA_VISIBLE_DEVICES; do exec 9>> "$LOCKS/$g";'
    ' flock -n 9 || echo "$EXPERIMENT_ID double" >> $HOME/evidence; done;'
)
_DONE = '; echo "$EXPERIMENT_ID done" >> $HOME/evidence'
KINDS = {
    "good": (f"true{_DONE}", ""),
    "bad": (f"echo no{_DONE}; exit 3", ""),
    "burst": (f"seq 1 3000{_DONE}", ""),
    "hang": ("exec sleep 1000", ""),
    "deaf": ("trap '' TERM; sleep 1000; sleep 1000", ""),
    "orphan": (f"(setsid sleep 1000 > /dev/null 2>&1 &){_DONE}", ""),
    "limit": ("sleep 1000", "  time_limit: 1\n"),
    "retry": (f"sleep 0.1{_DONE}; exit 1", "  retries: 1\n"),
}
_EMPTY = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def riseml_yml(kind: str, members: int, gpus: int, concurrency: int, locks: str) -> str:
    """What one of these experiments is made of."""
    run, more = KINDS[kind]
    return (
        f"project: {kind}\ntrain:\n  run: |-\n    {_PROOF} {run}\n{more}"
        f"  env: {{LOCKS: {locks}}}\n  resources: {{gpus: {gpus}, cpus: 0}}\n"
        f"  concurrency: {concurrency}\n  parameters: {{n: {{range: {{min: 1, max: {members}, step: 1}}}}}}\n"
    )


class SoakUser:
    """What one user does."""

    def __init__(self, socket: str, seed: int) -> None:
        """`seed` decides all of it."""
        self._socket = socket
        self._locks = str(Path(socket).parent / "locks")
        self._random = random.Random(seed)
        self._ids: list[str] = []

    def step(self) -> None:
        """Do one thing; what the daemon refuses, or does not live to answer, is tried no more."""
        acts = [self._submit] * 4 + [self._kill] * 2 + [self._follow]
        with contextlib.suppress(RisemlError, OSError):
            self._random.choice(acts)()

    def _submit(self) -> None:
        kind = self._random.choice(list(KINDS))
        members = self._random.choice([1, 2, 5, 20])
        text = riseml_yml(
            kind, members, self._random.choice([0, 0, 1]), self._random.randint(1, 4), self._locks
        )
        with Client(self._socket) as client:
            files = [File("empty", 0o100644, 0, _EMPTY)]
            made = client.post("/v1/revisions", Manifest(project=kind, files=files), Revision)
            if made.revision is None:
                client.send(f"/v1/objects?project={kind}", [f"{_EMPTY} 0\n".encode()], Received)
                made = client.post("/v1/revisions", Manifest(project=kind, files=files), Revision)
            assert made.revision
            asked = Submission(config=text, revision=made.revision)
            submitted = client.post("/v1/experiments", asked, Submitted)
        self._ids.append(submitted.id)
        print(submitted.id, members, kind, flush=True)

    def _kill(self) -> None:
        if not self._ids:
            return
        target = self._random.choice(self._ids[-10:])
        if self._random.random() < 0.5:
            target += ".1"
        with Client(self._socket) as client:
            client.post(
                "/v1/kill",
                Kill(ids=[target], force=self._random.random() < 0.7),
                Killed,
                patient=True,
            )

    def _follow(self) -> None:
        if not self._ids:
            return
        asked = LogRequest(id=self._random.choice(self._ids[-5:]), follow=False, opening=True)
        with Client(self._socket) as client:
            lines: Iterator[bytes] = client.stream("/v1/logs", asked)
            for _ in islice(lines, self._random.choice([1, 100, 10**9])):
                pass


def main() -> None:
    """Go on until nobody holds the other end of standard input."""
    user = SoakUser(sys.argv[1], int(sys.argv[2]))
    os.umask(0o077)
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        user.step()


if __name__ == "__main__":
    main()
