"""The identity of a job: what its runner needs to find it after a restart of the daemon.

The database keeps it as JSON. The field `runner` names the runner, so that no other one takes the job for its own.
"""

import msgspec


class ProcessIdentity(msgspec.Struct, frozen=True, tag_field="runner", tag="process"):
    """Where a job's shell runs. A pid alone proves nothing: the start time and the boot belong to it."""

    pid: int
    start: int
    """Start time of the shell, in clock ticks since the boot."""
    boot: str
    cgroup: str | None
    exit_file: str


class ContainerIdentity(msgspec.Struct, frozen=True, tag_field="runner", tag="docker"):
    """Which container a job runs in, and as which process this machine sees the container's first one."""

    container: str
    pid: int
    start: int
    boot: str
    exit_file: str
    visible: str | None = None
    """What CUDA_VISIBLE_DEVICES has to be in it, where it sees no other GPUs than its own."""


JobIdentity = ProcessIdentity | ContainerIdentity

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[JobIdentity] = msgspec.json.Decoder(JobIdentity)


def encode(identity: JobIdentity) -> str:
    """The text that the database keeps."""
    return _encoder.encode(identity).decode()


def decode(text: str) -> JobIdentity:
    """The identity that `text` from the database tells."""
    return _decoder.decode(text)
