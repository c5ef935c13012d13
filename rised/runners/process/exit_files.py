"""The exit files of plain processes: a few of them, used again and again.

There are as many as jobs ever ran at once, for a new file on disk costs more than the start of a job. One is used again
once the end that it holds is in the database.
"""

import itertools
import os
from collections.abc import Mapping

from rised.linux.copy_tree import remove_tree
from rised.runners.base import Job
from rised.runners.shell import reset_exit_file


class ExitFiles:
    """The exit files of one daemon's jobs."""

    def __init__(self, directory: str) -> None:
        """They lie in `directory`, which is there; `retain` comes before the first `take`."""
        self._directory = directory
        self._taken: dict[str, str] = {}
        # By user: whoever ran a job may have kept its exit file open.
        self._free: dict[int, list[str]] = {}

    def take(self, job: Job) -> str:
        """The path of a file for `job`, which says `new`. Raises `OSError`."""
        if free := self._free.get(job.owner.uid):
            path = free.pop()
        else:
            known = {*self._taken.values(), *itertools.chain(*self._free.values())}
            paths = (os.path.join(self._directory, str(number)) for number in itertools.count())
            path = next(path for path in paths if path not in known)
        self._taken[job.key] = path
        reset_exit_file(path, job.key, job.owner)
        return path

    def release(self, job: Job) -> str | None:
        """Let another job have the file of `job`, if that has one; returns its path."""
        if path := self._taken.pop(job.key, None):
            self._free.setdefault(job.owner.uid, []).append(path)
        return path

    def retain(self, taken: Mapping[str, str]) -> None:
        """Note the files that an earlier daemon's jobs have, `Job.key` → path, and remove all others."""
        self._taken = dict(taken)
        for name in os.listdir(self._directory):
            # What lies beside a file has its name, and more: scripts, the FIFO for output.
            exit_file = os.path.join(self._directory, name.partition(".")[0])
            if exit_file not in self._taken.values():
                remove_tree(os.path.join(self._directory, name))
