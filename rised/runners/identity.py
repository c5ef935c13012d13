"""The identity of a job: what its runner needs to find it after a restart of the daemon.

The database keeps it as JSON. The field `runner` names the runner, so that no other one takes the job for its own.
"""

import msgspec


class ProcessIdentity(msgspec.Struct, frozen=True, tag_field="runner", tag="process"):
    """The shell of a job. A pid alone proves nothing: the start time and the boot belong to it."""

    pid: int
    start: int
    """Start time of the shell, in clock ticks since the boot."""
    boot: str
    cgroup: str | None
    exit_file: str


class ContainerIdentity(msgspec.Struct, frozen=True, tag_field="runner", tag="docker"):
    """The container of a job, and its first process as this machine numbers it."""

    container: str
    pid: int
    start: int
    boot: str
    exit_file: str
    visible: str | None = None
    """Its CUDA_VISIBLE_DEVICES, if the engine shows it its own GPUs only; else None."""


JobIdentity = ProcessIdentity | ContainerIdentity

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[JobIdentity] = msgspec.json.Decoder(JobIdentity)


def encode(identity: JobIdentity) -> str:
    """The text that the database keeps."""
    return _encoder.encode(identity).decode()


def decode(text: str) -> JobIdentity:
    """The identity in a text from the database."""
    return _decoder.decode(text)
