"""The systemd scope of jobs: a unit that systemd does not stop together with the daemon's service.

The scope is delegated, so that the daemon can make a control group in it for each job. There is one scope for all jobs:
systemd takes milliseconds to make a unit, and a control group takes microseconds. A process that only sleeps keeps the
scope alive while no job runs.
"""

import os
import subprocess

from rised.linux.cgroups import cgroup2_mounts, own_cgroup
from riseml_proto.errors import DaemonError

_HOLDER = "echo here; exec sleep infinity"


class Scope:
    """The scope of a service's jobs."""

    def __init__(self, service: str) -> None:
        """`service` is the name of the daemon's own unit, without `.service`."""
        self.unit = f"{service}-jobs.scope"

    def directory(self) -> str:
        """The directory of its control group; makes the scope if there is none. Blocks. Raises `DaemonError`."""
        return self._find() or self._make()

    def _find(self) -> str | None:
        command = ["systemctl", "show", "--property=ControlGroup", "--value", self.unit]
        group = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        paths = (mount + group for mount in cgroup2_mounts() if group)
        return next(filter(os.path.isdir, paths), None)

    def _make(self) -> str:
        with subprocess.Popen(
            [
                *("systemd-run", "--scope", "--quiet", "--collect", f"--unit={self.unit}"),
                *("--slice=rised.slice", "--description=Jobs of rised"),
                *("--property=Delegate=yes", "--property=TasksMax=infinity"),
                *("--property=MemoryLow=infinity", "--", "/bin/sh", "-c", _HOLDER),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            runs = process.stdout.readline()
            process.returncode = 0 if runs else process.wait()  # the holder outlives the daemon
            problem = "" if runs else process.stderr.read()
        if directory := self._find():
            return directory
        raise DaemonError(
            f"systemd made no scope {self.unit} for jobs: {' '.join(problem.split())}"
        )


def of_this_service() -> Scope | None:
    """The scope for the jobs of this process's service; None if it is no service of systemd."""
    own = own_cgroup()
    if not os.path.isdir("/run/systemd/system") or own is None or not own.endswith(".service"):
        return None
    return Scope(os.path.basename(own).removesuffix(".service"))
