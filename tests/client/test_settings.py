"""~/.config/riseml/config.yml: read when nobody names a host, and wrong in one clear way."""

import os
from pathlib import Path

import pytest

from riseml.settings import config_file, configured_host, remote_command
from riseml.transport import daemon
from riseml.transport.address import SshAddress
from riseml_proto.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "riseml" / "config.yml"
    path.parent.mkdir()
    return path


def host(config: Path) -> str | SshAddress | None:
    return configured_host({"XDG_CONFIG_HOME": str(config.parent.parent)})


@pytest.mark.parametrize("text", ["", "\n# host: ssh://box\n", "  \n"])
def test_a_file_that_says_nothing_names_nobody(config: Path, text: str) -> None:
    assert host(config) is None
    config.write_text(text)
    assert host(config) is None


def test_it_names_a_host(config: Path) -> None:
    config.write_text("# our server\nhost: ssh://paul@box:2022\n")
    assert host(config) == SshAddress("box", "paul", 2022)
    config.write_text("host: unix:///run/s\n")
    assert host(config) == "/run/s"


def test_what_is_typed_and_what_is_in_the_environment_come_first(config: Path) -> None:
    config.write_text("hots: broken\n")
    environ = {"XDG_CONFIG_HOME": str(config.parent.parent)}
    assert daemon.configured_address("unix:///a", environ) == "/a"
    assert daemon.configured_address(None, {**environ, "RISEML_HOST": "ssh://b"}) == SshAddress("b")
    with pytest.raises(ConfigError):
        daemon.configured_address(None, environ)


def command(config: Path, wanted: SshAddress) -> str | None:
    return remote_command({"XDG_CONFIG_HOME": str(config.parent.parent)}, wanted).text


def test_it_says_how_riseml_is_called_on_a_host(config: Path) -> None:
    box = SshAddress("box")
    assert command(config, box) is None
    config.write_text("host: broken\n")  # is not asked for
    assert command(config, box) is None
    config.write_text(
        "remote-command:\n  box: ~/venv/bin/riseml\n  eve@box: conda run -n x riseml\n"
    )
    assert command(config, box) == "~/venv/bin/riseml"
    assert command(config, SshAddress("box", "paul", 22, "/s")) == "~/venv/bin/riseml"
    assert command(config, SshAddress("box", "eve")) == "conda run -n x riseml"
    assert command(config, SshAddress("bo")) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("~/venv/bin/riseml", "1: remote-command: must be a map (name: value)"),
        ("{a: ''}", "1: remote-command.a: must be a path or a few words"),
        ("{a: 'x; rm'}", "1: remote-command.a: must be a path or a few words"),
        ('{a: "it\'s"}', "1: remote-command.a: must be a path or a few words"),
        ("{box: [x]}", "1: remote-command.box: must be a single value"),
        ("", "1: remote-command: must be a map"),
    ],
)
def test_what_no_shell_can_be_given_is_told_with_the_way_out(
    config: Path, text: str, error: str
) -> None:
    config.write_text(f"remote-command: {text}\n")
    with pytest.raises(ConfigError) as caught:
        command(config, SshAddress("box"))
    assert str(caught.value).startswith(f"{config}:{error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"hots: ssh://box\n", ":1: hots: unknown key; did you mean host?"),
        (b"\nhost: box\n", ":2: host: 'box' is no daemon's address"),
        (b"host:\n", ":1: host: has no value"),
        (b"host: [a]\n", ":1: host: must be a single value"),
        (b"- host\n", ":1: must be a map"),
        (b"host: a\nhost: b\n", ":2: host: is there twice"),
        (b"host: 'a\n", ":2: is not YAML"),
        (b"\thost: a\n", ":1: is indented with a tab"),
        (b"\n\xff\n", ":2: is not UTF-8 text"),
        (b"#" * 70_000, ": is too large"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(config: Path, text: bytes, error: str) -> None:
    config.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        host(config)
    assert str(caught.value).startswith(f"{config}{error}")
    assert "riseml init" not in str(caught.value)


def test_one_that_cannot_be_read_is_told(config: Path) -> None:
    config.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        host(config)


def test_it_lies_in_the_home_where_no_other_place_is_named() -> None:
    path = os.path.expanduser("~/.config/riseml/config.yml")
    assert config_file({}) == config_file({"XDG_CONFIG_HOME": "relative"}) == path
