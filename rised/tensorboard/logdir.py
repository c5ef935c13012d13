"""An experiment's outputs as TensorBoard wants to see them: a directory for each run, named as the sub-experiment is.

In it are links to the event files and directories that the job wrote, and an event file of our own with its parameters
and results. Nothing is written where the outputs are.
"""

import os
from typing import Any, NamedTuple

import yaml

from rised.experiments.results import FILE
from rised.tensorboard.event_file import Recorder

_CONFIGURATION = "riseml-configuration.yml"


class Look(NamedTuple):
    """What a run's directory looked like."""

    mtime_ns: int
    results_bytes: int


class Mirror:
    """One experiment or set."""

    def __init__(self, name: str, place: str, logs: str) -> None:
        """`place` is its output directory, `logs` the directory for runs."""
        self.name = name
        self._place = place
        self._logs = logs
        self._runs: dict[str, Run] = {}
        self._seen = 0

    def refresh(self) -> None:
        """Take in what is new."""
        try:
            changed = os.stat(self._place).st_mtime_ns
        except OSError:  # nothing has begun yet
            return
        if changed != self._seen:
            self._seen = changed
            for run, place in self._places():
                if run not in self._runs:
                    self._runs[run] = Run(place, os.path.join(self._logs, run))
        for known in self._runs.values():
            known.refresh()

    def _places(self) -> list[tuple[str, str]]:
        """Run and output directory of each member that has begun, or of the experiment itself."""
        if os.path.exists(os.path.join(self._place, _CONFIGURATION)):
            return [(self.name, self._place)]
        members = sorted((name for name in os.listdir(self._place) if name.isdigit()), key=int)
        return [(f"{self.name}.{name}", os.path.join(self._place, name)) for name in members]


class Run:
    """One run."""

    def __init__(self, place: str, directory: str) -> None:
        """`place` is its output, `directory` what TensorBoard sees."""
        self._place = place
        self._directory = directory
        self._look: Look | None = None
        self._recorder: Recorder | None = None

    def refresh(self) -> None:
        """Take in what is new."""
        look = self._now()
        if look == self._look:
            return
        first, self._look = self._look is None, look
        if first:
            os.makedirs(self._directory, exist_ok=True)
            self._recorder = Recorder(self._directory, _parameters(self._place))
        self._link()
        assert self._recorder is not None
        self._recorder.follow(os.path.join(self._place, FILE))

    def _now(self) -> Look | None:
        try:
            mtime = os.stat(self._place).st_mtime_ns
        except OSError:
            return self._look
        try:
            size = os.lstat(os.path.join(self._place, FILE)).st_size
        except OSError:
            size = 0
        return Look(mtime, size)

    def _link(self) -> None:
        with os.scandir(self._place) as entries:
            for entry in entries:
                wanted = entry.is_dir(follow_symlinks=False) or "tfevents" in entry.name
                link = os.path.join(self._directory, entry.name)
                if wanted and not os.path.lexists(link):
                    os.symlink(entry.path, link)


def _parameters(place: str) -> dict[str, Any]:
    """The parameters that the output's configuration names, as they were written."""
    try:
        with open(os.path.join(place, _CONFIGURATION), encoding="utf-8") as file:
            found = yaml.load(file, yaml.BaseLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    params = found.get("params") if isinstance(found, dict) else None
    return params if isinstance(params, dict) else {}
