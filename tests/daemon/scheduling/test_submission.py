"""Submissions that are refused before anything is written: the machine could never run them, or they hold a mistake."""

from pathlib import Path

import pytest

from rised.policy.resources import Capacity
from rised.scheduling import submission
from riseml_proto.config import Config, parse_config
from riseml_proto.errors import ConfigError, InvalidInput, RisemlError, Unsatisfiable
from riseml_proto.messages import Submission

TOTAL = Capacity(8, 16_000, 2)


def config(train: str = "") -> Config:
    return parse_config(f"project: x\ntrain:\n  run: 'true'\n{train}", "riseml.yml")


def asking(**fields: object) -> Submission:
    return Submission(config="", revision="0" * 40, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("runner", ["auto", "process"])
def test_what_fits_into_the_machine_is_taken(runner: str) -> None:
    train = "  resources:\n    gpus: 2\n    cpus: 8\n    mem: 16000\n"
    env = {"PATH": "/bin", "VIRTUAL_ENV": "/v", "CONDA_PREFIX": "/c"}
    submission.check(config(train), asking(env=env, priority=100), runner, TOTAL)


@pytest.mark.parametrize(
    ("train", "fields", "runner", "kind", "text"),
    [
        ("", {}, "docker", Unsatisfiable, "train.image: is missing"),
        ("  resources: {gpus: 3}\n", {}, "auto", Unsatisfiable, r"3 GPUs \(2 in this machine\)"),
        ("", {"priority": 101}, "auto", InvalidInput, "from -100 to 100, not 101"),
        ("", {"env": {"HOME": "/"}}, "auto", InvalidInput, "HOME is not taken"),
        ("", {"env": {"PATH": "a\0b"}}, "auto", InvalidInput, "NUL"),
    ],
)
def test_what_can_never_run_is_refused(
    train: str, fields: dict[str, object], runner: str, kind: type[RisemlError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        submission.check(config(train), asking(**fields), runner, TOTAL)


def test_a_placeholder_without_a_parameter_is_an_error_only_where_asked_for() -> None:
    odd = parse_config("project: x\ntrain:\n  run: echo {{lr}}\n", "riseml.yml")
    submission.check(odd, asking(), "auto", TOTAL)
    with pytest.raises(ConfigError, match=r"\{\{lr\}\} is not a parameter"):
        submission.check(odd, asking(strict=True), "auto", TOTAL)


def test_an_image_that_is_ignored_is_a_warning() -> None:
    with_image = config("  image: python:3.11\n")
    assert any("is ignored" in text for text in submission.warnings(with_image, "process"))
    assert not any("is ignored" in text for text in submission.warnings(with_image, "auto"))


@pytest.mark.parametrize(
    ("train", "is_said"),
    [
        ("run: a | b", True),
        ("run: python train.py", False),
        ('run: "#!/bin/sh\\na | b"', False),
        ("run: a | b\n  shell: zsh", False),
        ("run: a | b\n  image: x", False),
    ],
)
def test_a_script_that_gets_a_plain_sh_is_a_warning(
    train: str, is_said: bool, tmp_path: Path
) -> None:
    asked = parse_config(f"project: x\ntrain:\n  {train}\n")
    texts = list(submission.warnings(asked, "auto", str(tmp_path)))
    assert any("there is no bash on this machine" in text for text in texts) is is_said
    (tmp_path / "bash").write_text("")
    (tmp_path / "bash").chmod(0o700)
    assert list(submission.warnings(asked, "auto", str(tmp_path))) == []
