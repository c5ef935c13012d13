"""The identities of jobs as the database keeps them."""

import json

import msgspec
import pytest

from rised.runners.identity import (
    ContainerIdentity,
    JobIdentity,
    ProcessIdentity,
    decode,
    encode,
)


@pytest.mark.parametrize(
    ("identity", "runner"),
    [
        (ProcessIdentity(1, 2, "boot", None, "/run/0"), "process"),
        (ProcessIdentity(1, 2, "boot", "/sys/fs/cgroup/x", "/run/0"), "process"),
        (ContainerIdentity("c0ffee", 1, -1, "boot", "/containers/1.train.1/exit"), "docker"),
        (ContainerIdentity("c0ffee", 1, 2, "boot", "/exit", visible=""), "docker"),
    ],
)
def test_an_identity_is_read_back_and_names_its_runner(identity: JobIdentity, runner: str) -> None:
    text = encode(identity)
    assert json.loads(text)["runner"] == runner
    assert decode(text) == identity


@pytest.mark.parametrize("text", ['{"runner": "other"}', '{"pid": 1}', "[1, 2]", "null"])
def test_an_identity_without_a_known_runner_is_an_error(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(text)
