"""Commands and environment of a job. Pure, but for a look into the user database."""

import functools
import pwd
from collections.abc import Mapping

from rised.experiments.experiment import Experiment
from rised.policy.resources import Grant
from rised.runners.shell import WORKING_DIRECTORY
from riseml_proto import ids, placeholders


def commands(experiment: Experiment, member: int) -> list[str]:
    """The commands with this member's parameters in place of the placeholders."""
    params = experiment.params(member)
    return [placeholders.render(command, params) for command in experiment.config.run]


def visible_gpus(grant: Grant) -> str:
    """The value of CUDA_VISIBLE_DEVICES. An empty text hides every GPU; without the variable a job would see all."""
    return ",".join(map(str, grant.gpus))


def environment(
    experiment: Experiment, member: int, *, output_dir: str, data_dir: str, client_dir: str
) -> dict[str, str]:
    """The whole environment of a job but its GPUs, which come with the start signal.

    A later name wins over an earlier one, and the daemon's own names come last. `client_dir` holds the package
    `riseml`, so that every Python of the job can import it; a container gets it from its runner.
    """
    image = experiment.row.image
    if image:
        output_dir, data_dir = "/output", "/data"
    path = experiment.config.env.get("PYTHONPATH")
    client = {} if image else {"PYTHONPATH": f"{path}:{client_dir}" if path else client_dir}
    return {
        **(_in_container(experiment.row.uid) if image else _login(experiment.row.uid)),
        "PYTHONUNBUFFERED": "1",
        **({} if image else experiment.env),
        **placeholders.environment(experiment.params(member)),
        **experiment.config.env,
        **client,
        "EXPERIMENT_ID": ids.experiment_id(experiment.number, member),
        "OUTPUT_DIR": output_dir,
        "DATA_DIR": data_dir,
        "CUDA_VISIBLE_DEVICES": "",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def bare_environment(uid: int) -> dict[str, str]:
    """The environment of a job that no experiment describes, such as a TensorBoard: no parameters, no GPUs."""
    return {**_login(uid), "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}


def _in_container(uid: int) -> Mapping[str, str]:
    """Variables of a user whose home is the working directory: the image knows no other place where they may write."""
    name = _login(uid).get("USER", str(uid))
    return {"HOME": WORKING_DIRECTORY, "USER": name, "LOGNAME": name}


@functools.cache
def _login(uid: int) -> Mapping[str, str]:
    facts = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",  # not that of whichever shell the daemon was started from
    }
    try:
        user = pwd.getpwuid(uid)
    except KeyError:  # a uid without an entry, as containers have
        return facts
    return {
        **facts,
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell or "/bin/sh",
    }
