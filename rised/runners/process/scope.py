"""The scope that jobs are in under systemd: a unit of processes that systemd did not start and does not stop with the
daemon, delegated, so that the daemon may divide it among jobs.

One scope for all jobs, made once, and not one for each: systemd takes some milliseconds for a unit, and a job's control
group can be made in microseconds. A process that only waits keeps it alive while no job runs.
"""

import os
import subprocess

from rised.linux.cgroups import cgroup2_mounts, own_cgroup
from riseml_proto.errors import DaemonError

_RUNS = "/run/systemd/system"
_HOLDER = "echo here; exec sleep infinity"


class Scope:
    """The scope of a service's jobs."""

    def __init__(self, service: str) -> None:
        """`service` is the name of the daemon's own unit, without `.service`."""
        self.unit = f"{service}-jobs.scope"

    def directory(self) -> str:
        """The directory of its control group; the scope is made if it is not there. Blocks. Raises `DaemonError`."""
        return self._find() or self._make()

    def _find(self) -> str | None:
        """Where it is, if it is there."""
        asked = ["systemctl", "show", "--property=ControlGroup", "--value", self.unit]
        told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        for mount in cgroup2_mounts() if told else ():
            if os.path.isdir(path := mount + told):
                return path
        return None

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
            came = process.stdout.readline()
            process.returncode = 0 if came else process.wait()  # the holder outlives us
            told = "" if came else process.stderr.read()
        if found := self._find():
            return found
        raise DaemonError(f"systemd made no scope {self.unit} for jobs: {' '.join(told.split())}")


def of_this_service() -> Scope | None:
    """The scope for the jobs of the service that this process is, if it is one of systemd's."""
    own = own_cgroup()
    if not os.path.isdir(_RUNS) or own is None or not own.endswith(".service"):
        return None
    return Scope(os.path.basename(own).removesuffix(".service"))
