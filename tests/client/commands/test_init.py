"""`riseml init` writes a riseml.yml that is valid and runs, and overwrites nobody's."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml.commands.init import first_config, project_name
from riseml_proto.config import parse_config, warnings
from riseml_proto.placeholders import render


def init(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "riseml", "init", *options]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", [True, False])
def test_the_first_riseml_yml_is_valid_and_without_warnings(script: bool) -> None:
    config = parse_config(first_config("toaster", script=script, python="python"))
    assert (config.project, warnings(config)) == ("toaster", [])
    assert config.count == (0 if script else 6)


@pytest.mark.parametrize("script", [True, False])
def test_it_is_still_valid_when_every_comment_with_a_key_is_made_one(script: bool) -> None:
    lines = []
    for line in first_config("toaster", script=script, python="python").splitlines():
        bare = line.replace("# ", "", 1)
        is_key = line.lstrip().startswith("# ") and bare.strip().split(" ")[0].endswith((":", ">-"))
        is_command = "# " in line and "--lr {{lr}}" in line
        lines.append(bare if is_key or is_command else line)
    text = "\n".join(line for line in lines if not line.startswith("  run: python train.py"))
    config = parse_config(text)
    assert (config.gpus, config.retries, config.time_limit) == (1, 1, 7200)
    assert (config.count, config.concurrency, warnings(config)) == (6, 2, [])


def test_its_command_runs_anywhere() -> None:
    config = parse_config(first_config("toaster", script=False, python="python"))
    command = render(config.run[0], config.parameters.params(1))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "training with lr=0.001 for 10 epochs\n"


@given(st.text(max_size=150))
def test_any_directory_has_a_valid_project_name(directory: str) -> None:
    name = project_name(directory)
    assert parse_config(first_config(name, script=True, python="python")).project == name


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("toaster", "toaster"),
        ("My Project!", "My-Project"),
        (".hidden", "hidden"),
        ("日本", "project"),
    ],
)
def test_the_project_is_named_after_the_directory(directory: str, name: str) -> None:
    assert project_name(directory) == name


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path: Path) -> None:
    directory = tmp_path / "toaster"
    directory.mkdir()
    done = init(directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Wrote riseml.yml for the project toaster.\n")
    assert "riseml train --dry-run" in done.stdout
    assert parse_config((directory / "riseml.yml").read_text()).project == "toaster"


def test_a_train_py_is_what_it_runs(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    init(tmp_path)
    [command] = parse_config((tmp_path / "riseml.yml").read_text()).run
    assert command in ("python train.py", "python3 train.py")


def test_an_existing_riseml_yml_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "riseml.yml").write_text("mine")
    done = init(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "riseml: there is a riseml.yml already; riseml init --force overwrites it\n"
    )
    assert (tmp_path / "riseml.yml").read_text() == "mine"
    assert init(tmp_path, "--force").returncode == 0
    parse_config((tmp_path / "riseml.yml").read_text())
