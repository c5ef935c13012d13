"""The configuration of a job's container, as the engine's API takes it: functions over plain data."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rised.runners.base import Container, Job, JobResources
from rised.runners.client_package import client_package
from rised.runners.docker.engine import EngineInfo
from rised.runners.docker.handle import OUTPUT, START
from rised.runners.shell import OUTLIVE, SCRIPT, SHELL, WORKING_DIRECTORY
from riseml_proto.errors import StartFailed

INSIDE = "/.riseml"
"""Where the job's directory is mounted in its container."""
_OPEN = f"exec 1<>{INSIDE}/{OUTPUT} 2>&1 <{INSIDE}/{START} || exit 0\n"
_TAKE_ENV = f". {INSIDE}/env\n"
# The first step of a build: an image that is built gets the project's files from the job's directory.
_COPY = f"cp -a {INSIDE}/code/. ."
ASKS_FOR_GPUS = "NVIDIA_VISIBLE_DEVICES"
"""A variable that images made for GPUs set to `all`; the nvidia runtime gives a container the GPUs that it names."""
_WHOLE_GROUP = "TINI_KILL_PROCESS_GROUP"
"""Makes the engine's init hand a signal on to the program, too, and not to the shell alone."""
_LEAST_MEMORY = 6  # MiB; the engine takes no less


def configure(
    job: Job,
    container: Container,
    info: EngineInfo,
    image_env: Mapping[str, str],
    directory: str,
    instance: str,
    commands: Sequence[str],
) -> tuple[dict[str, Any], str | None]:
    """The container as the engine's API takes it, and the value that CUDA_VISIBLE_DEVICES needs in it, if any.

    `directory` is the job's own; `commands` are as the shell takes them. Raises `StartFailed` where the engine cannot
    give it GPUs.
    """
    uid, gid = job.owner.uid, job.owner.gid
    user = "0:0" if container.build or (info.rootless and not info.podman) else f"{uid}:{gid}"
    if container.build:
        commands = [_COPY, *commands, f"chown -R {uid}:{gid} ."]
    env = {} if container.build else environment(job, image_env)
    requests, visible = _devices(container, info)
    if not container.gpus and (ASKS_FOR_GPUS in image_env or not container.build):
        env[ASKS_FOR_GPUS] = "void"
    env[_WHOLE_GROUP] = "1"
    host: dict[str, Any] = {
        "Mounts": _mounts(job, container, directory),
        "Init": True,
        "LogConfig": {"Type": "none"},
        "DeviceRequests": requests,
        "GroupAdd": [str(group) for group in job.owner.groups if group != gid],
        **_limits(job.resources, container.shm),
    }
    if not container.build:
        host["SecurityOpt"] = ["no-new-privileges"]
    if info.remaps:
        host["UsernsMode"] = "host"
    elif info.podman and info.rootless:
        host["UsernsMode"] = "keep-id"
    return {
        "Image": container.image,
        "User": user,
        "WorkingDir": WORKING_DIRECTORY,
        "Entrypoint": [SHELL],
        "Cmd": [
            *("-c", _OPEN + (_TAKE_ENV if container.build else "") + SCRIPT + OUTLIVE, "sh"),
            *(f"{INSIDE}/exit", "", WORKING_DIRECTORY, "", *commands),
        ],
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {"riseml.instance": instance, "riseml.job": job.id},
        "StopSignal": job.stop_signal,
        **({} if job.kill_grace is None else {"StopTimeout": math.ceil(job.kill_grace)}),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }, visible


def _mounts(job: Job, container: Container, directory: str) -> list[dict[str, Any]]:
    mounts = [
        _mount(directory, INSIDE),
        _mount(_client(directory), f"{INSIDE}/python/riseml", read_only=True),
    ]
    if container.build:
        return mounts
    mounts += [
        _mount(container.data, "/data", read_only=True),
        _mount(container.output, "/output"),
    ]
    if not container.has_code:
        mounts.append(_mount(f"{directory}/code", WORKING_DIRECTORY))
    elif container.config_file:
        path = os.path.join(job.files, container.config_file)
        if os.path.isfile(path):
            to = f"{WORKING_DIRECTORY}/{container.config_file}"
            mounts.append(_mount(path, to, read_only=True))
    return mounts


def _client(directory: str) -> str:
    """The package `riseml` in the state directory that the job's `directory` lies in; else the installed one."""
    copy = os.path.join(os.path.dirname(os.path.dirname(directory)), "python", "riseml")
    return os.path.realpath(copy) if os.path.isdir(copy) else client_package()


def _mount(path: str, to: str, *, read_only: bool = False) -> dict[str, Any]:
    return {"Type": "bind", "Source": path, "Target": to, "ReadOnly": read_only}


def environment(job: Job, image_env: Mapping[str, str]) -> dict[str, str]:
    """The job's environment, in which `import riseml` works."""
    path = job.env.get("PYTHONPATH", image_env.get("PYTHONPATH"))
    inside = f"{INSIDE}/python"
    return {**job.env, "PYTHONPATH": f"{path}:{inside}" if path else inside}


def _limits(asked: JobResources, shm: int) -> dict[str, int]:
    limits = {
        "CpuShares": max(2, round(asked.cpus * 1024)) if asked.cpus else 0,
        "MemoryReservation": max(_LEAST_MEMORY, asked.mem) << 20 if asked.mem else 0,
        # The engine refuses more CPUs than the machine has.
        "NanoCpus": round(min(asked.cpus_limit, os.cpu_count() or 1) * 1e9),
        "Memory": max(_LEAST_MEMORY, asked.mem_limit) << 20 if asked.mem_limit else 0,
        "ShmSize": shm << 20,
    }
    if asked.mem_limit:
        limits["MemorySwap"] = limits["Memory"]
    return {name: limit for name, limit in limits.items() if limit}


def _devices(container: Container, info: EngineInfo) -> tuple[list[dict[str, Any]], str | None]:
    """Device requests for its GPUs, and its CUDA_VISIBLE_DEVICES; nothing for GPUs that are only declared."""
    uuids = [uuid for _, uuid in container.gpus if uuid]
    if not uuids:
        return [], None
    visible = ",".join(map(str, range(len(uuids))))
    if info.nvidia:
        request = {"Driver": "nvidia", "DeviceIDs": uuids, "Capabilities": [["gpu"]]}
        return [request], visible
    if info.cdi:
        return [{"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={u}" for u in uuids]}], visible
    raise StartFailed(
        "the container engine has neither the nvidia runtime nor a CDI specification of the GPUs;"
        " install the NVIDIA container toolkit"
    )
