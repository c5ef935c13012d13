"""The directory that TensorBoard reads: a directory for each run, and a run is named as its sub-experiment is.

A run's directory holds links to the event files and directories that the job wrote, and an event file of our own with
the run's parameters and results. Nothing is written where the outputs are.
"""

import os
from typing import Any

import yaml

from rised.experiments.results import FILE
from rised.tensorboard.event_file import EventFile

_CONFIGURATION = "riseml-configuration.yml"


class ExperimentRuns:
    """The runs of one experiment or set."""

    def __init__(self, name: str, output: str, logdir: str) -> None:
        """`output` is its output directory. A directory in `logdir` is made for each run."""
        self.name = name
        self._output = output
        self._logdir = logdir
        self._runs: dict[str, RunDirectory] = {}
        self._mtime_ns = 0

    def refresh(self) -> None:
        """Take in what is new."""
        try:
            mtime_ns = os.stat(self._output).st_mtime_ns
        except OSError:  # nothing has begun yet
            return
        if mtime_ns != self._mtime_ns:
            self._mtime_ns = mtime_ns
            for name, output in self._outputs():
                if name not in self._runs:
                    self._runs[name] = RunDirectory(output, os.path.join(self._logdir, name))
        for run in self._runs.values():
            run.refresh()

    def _outputs(self) -> list[tuple[str, str]]:
        """Name and output directory of each member that has begun, or of the experiment itself."""
        if os.path.exists(os.path.join(self._output, _CONFIGURATION)):
            return [(self.name, self._output)]
        members = sorted((name for name in os.listdir(self._output) if name.isdigit()), key=int)
        return [(f"{self.name}.{name}", os.path.join(self._output, name)) for name in members]


class RunDirectory:
    """What TensorBoard sees of one run."""

    def __init__(self, output: str, directory: str) -> None:
        """`output` is the run's output directory; `directory` is made for TensorBoard."""
        self._output = output
        self._directory = directory
        self._version: tuple[int, int] | None = None
        self._event_file: EventFile | None = None

    def refresh(self) -> None:
        """Link what is new, and take over what was reported."""
        version = self._read_version()
        if version == self._version:
            return
        self._version = version
        if self._event_file is None:
            os.makedirs(self._directory, exist_ok=True)
            self._event_file = EventFile(self._directory, _parameters(self._output))
        self._link()
        self._event_file.follow(os.path.join(self._output, FILE))

    def _read_version(self) -> tuple[int, int] | None:
        """The directory's time and the size of the results: they differ when something may have changed."""
        try:
            mtime_ns = os.stat(self._output).st_mtime_ns
        except OSError:
            return self._version
        try:
            size = os.lstat(os.path.join(self._output, FILE)).st_size
        except OSError:
            size = 0
        return mtime_ns, size

    def _link(self) -> None:
        with os.scandir(self._output) as entries:
            for entry in entries:
                wanted = entry.is_dir(follow_symlinks=False) or "tfevents" in entry.name
                link = os.path.join(self._directory, entry.name)
                if wanted and not os.path.lexists(link):
                    os.symlink(entry.path, link)


def _parameters(output: str) -> dict[str, Any]:
    """The parameters in the output's configuration file, as they were written."""
    try:
        with open(os.path.join(output, _CONFIGURATION), encoding="utf-8") as file:
            content = yaml.load(file, yaml.BaseLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    params = content.get("params") if isinstance(content, dict) else None
    return params if isinstance(params, dict) else {}
