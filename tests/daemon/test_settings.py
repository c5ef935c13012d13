"""Settings: defaults, then the file, then the flags, and one clear error for whatever is wrong in them."""

import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised import settings as settings_module
from rised.__main__ import parser
from rised.settings import TABLE, load
from riseml_proto.errors import InvalidInput


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a configuration, so that the tester's own counts for nothing."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def refused(text: str, tmp_path: Path) -> str:
    file = write(tmp_path / "config.yml", text)
    with pytest.raises(InvalidInput) as caught:
        load(file, {}, {})
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


def test_without_a_file_there_are_defaults_below_the_home(home: Path) -> None:
    settings = load(None, {}, {"XDG_RUNTIME_DIR": "/run/user/7"})
    assert settings.socket == "/run/user/7/rised/rised.sock"
    assert settings.state_dir == str(home / ".local/state/rised")
    assert settings.output_dir == str(home / "riseml-output")
    assert settings.data_dir == str(home / "riseml-data")
    assert (settings.gpus, settings.runner, settings.kill_grace) == ("auto", "auto", 10.0)


def test_a_flag_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yml", "gpus: 4\nkill-grace: 3\n")
    settings = load(file, {"gpus": "0,2"}, {})
    assert (settings.gpus, settings.kill_grace, settings.max_files) == ("0,2", 3.0, 100_000)


def test_the_file_of_the_user_is_found_where_xdg_says_and_a_servers_is_not(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "xdg" / "rised" / "config.yml", "gpus: 3")
    write(home / ".config" / "rised" / "config.yml", "gpus: 2")
    assert load(None, {}, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).gpus == 3
    monkeypatch.setattr(settings_module, "_SYSTEM_FILE", write(tmp_path / "etc.yml", "gpus: 4"))
    assert load(None, {}, {"XDG_CONFIG_HOME": "/nowhere"}).gpus == "auto"
    assert load(None, {"system": True}, {}).gpus == 4
    assert load(None, {}, {}).gpus == 2


def test_a_file_that_is_named_goes_before_the_users(tmp_path: Path, home: Path) -> None:
    write(home / ".config" / "rised" / "config.yml", "gpus: 2\nmem: 5")
    settings = load(write(tmp_path / "c.yml", "gpus: 1"), {}, {})
    assert (settings.gpus, settings.mem) == (1, None)


def test_paths_are_absolute_and_a_tilde_is_the_home(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {"state-dir": "here", "output-dir": "~/out", "socket": "./s"}, {})
    assert settings.state_dir == str(tmp_path / "here")
    assert settings.output_dir == str(home / "out")
    assert settings.socket == str(tmp_path / "s")


def test_nothing_wrong_in_the_file_keeps_a_daemon_from_being_stopped(
    tmp_path: Path, home: Path
) -> None:
    file = write(home / ".config/rised/config.yml", "gpu: 4\nsocket: s\nstate-dir: ~/state\n")
    assert load(None, {}, {}, for_stop=[]).state_dir == str(home / "state")
    flags = {"state-dir": "/s"}
    for broken in ("state-dir: 5", "state-dir: here", "gpus: ["):
        write(Path(file), broken)
        assert load(file, flags, {}, for_stop=[]).state_dir == "/s"
        with pytest.raises(InvalidInput, match=r"config\.yml: "):
            load(file, {}, {}, for_stop=[])
    assert load(None, {}, {}, for_stop=[]).state_dir == str(home / ".local/state/rised")


def test_an_empty_file_is_no_error(tmp_path: Path) -> None:
    assert load(write(tmp_path / "c.yml", "# nothing\n"), {}, {}).gpus == "auto"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: 4", "gpu: unknown key; did you mean gpus?"),
        ("min_free: 1", "min_free: unknown key; did you mean min-free?"),
        ("3: 4", "3: unknown key; known here: system, group, admin-group, socket, "),
        ("max-files: many", "max-files: must be a whole number, 0 or more, not 'many'"),
        ("max-files: 1.5", "max-files: must be a whole number, 0 or more, not 1.5"),
        ("max-files: yes", "max-files: must be a whole number, 0 or more, not True"),
        ("max-bytes: -1", "max-bytes: must be a whole number, 0 or more, not -1"),
        ("max-bytes:", "max-bytes: must be a whole number, 0 or more, not empty"),
        ("cpus: .nan", "cpus: must be a number, 0 or more, not nan"),
        ("kill-grace: .inf", "kill-grace: must be a number, 0 or more, not inf"),
        ("kill-grace: [1]", "kill-grace: must be a number, 0 or more, not [1]"),
        ("state-dir: 5", "state-dir: must be a text, not 5"),
        ("output-dir: out", "output-dir: must begin with / or ~/, not 'out'"),
        ("socket: ./s", "socket: must begin with / or ~/, not './s'"),
        ("runner: podman", "runner: must be auto, process or docker, not 'podman'"),
        ("gpus: -1", "gpus: must be auto, a number or indices such as 0,2,3, not -1"),
        ("gpus: all", "gpus: must be auto, a number such as 4, or indices such as 0,2,3, not"),
        ("gpus: 0,0", "gpus: 0,0 names an index twice"),
        ("- gpus", "must be keys and values, such as gpus: 4"),
        ("just words", "must be keys and values, such as gpus: 4"),
        ("gpus: [", "not YAML: while parsing a flow node"),
        ("gpus: !!python/name:os.system x", "not YAML: could not determine a constructor"),
        ("gpus: 2024-13-45", "not YAML: month must be in 1..12"),
        (f"max-bytes: {'9' * 5000}", "not YAML: Exceeds the limit"),
        (f"quotas: {'[' * 5000}", "is nested too deeply"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_the_file_and_the_key(
    text: str, message: str, tmp_path: Path
) -> None:
    assert refused(text, tmp_path).startswith(message)


def test_a_file_that_is_no_text_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "c.yml"
    file.write_bytes(b"gpus: \xff\xfe")
    with pytest.raises(InvalidInput, match=r"c\.yml: not YAML: "):
        load(str(file), {}, {})


def test_a_flag_whose_bytes_are_no_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"--cpus: must be a number"):
        load(None, {"cpus": "\udcff"}, {})


def test_a_file_that_cannot_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"/none\.yml: No such file or directory$"):
        load(str(tmp_path / "none.yml"), {}, {})
    with pytest.raises(InvalidInput, match=r": is a directory, not a file$"):
        load(str(tmp_path), {}, {})
    closed = tmp_path / "closed.yml"
    closed.touch()
    closed.chmod(0)
    if os.getuid() and not stat.S_IMODE(closed.stat().st_mode):
        with pytest.raises(InvalidInput, match=r"closed\.yml: Permission denied$"):
            load(str(closed), {}, {})


def test_a_wrong_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yml", "gpus: 4")
    with pytest.raises(InvalidInput) as caught:
        load(file, {"cpus": -2.0}, {})
    assert str(caught.value) == "--cpus: must be a number, 0 or more, not -2.0"


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("mem", "many", "must be a whole number, 0 or more, not 'many'"),
        ("cpus", "null", "must be a number, 0 or more, not 'null'"),
        ("kill-grace", "inf", "must be a number, 0 or more, not 'inf'"),
        ("runner", "podman", "must be auto, process or docker, not 'podman'"),
        ("gpus", "0,0", "0,0 names an index twice"),
        ("group", "no-such-group", "there is no group 'no-such-group' here; make it: "),
    ],
)
def test_a_flag_is_text_and_checked_as_the_key_is(flag: str, text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load("/dev/null", {flag: text}, {})
    assert str(caught.value).startswith(f"--{flag}: {message}")


def test_a_flag_has_the_type_of_its_key() -> None:
    settings = load("/dev/null", {"gpus": "4", "cpus": "1.5", "mem": "9", "half-life": "0"}, {})
    assert (settings.cpus, settings.mem, settings.half_life) == (1.5, 9, 0.0)
    assert settings.gpus == "4"


def test_each_setting_is_a_flag_but_the_quotas(tmp_path: Path) -> None:
    flags = {name for name in vars(parser().parse_args([])) if name.replace("_", "-") in TABLE}
    assert {name.replace("_", "-") for name in flags} == TABLE.keys() - {"quotas"}


def test_the_example_of_the_service_shows_keys_that_there_are_with_their_defaults(
    tmp_path: Path,
) -> None:
    example = (Path(__file__).parents[2] / "systemd/config.yml").read_text()
    keys = {line[1:] for line in example.splitlines() if re.match(r"#[a-z-]+: ", line)}
    settings = {key.partition(":")[0] for key in keys}
    assert settings <= TABLE.keys()
    assert settings >= {"output-dir", "gpus", "group", "runner", "stop-jobs"}
    text = "\n".join(key for key in keys if "group" not in key)  # there may be none of this name
    file = write(tmp_path / "config.yml", text)
    assert load(file, {"system": True}, {}) == load("/dev/null", {"system": True}, {})


_keys = st.sampled_from([*TABLE])
_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
)


@given(st.dictionaries(st.one_of(_keys, st.text()), _values))
def test_whatever_is_given_is_taken_or_refused_in_one_line(flags: dict[str, object]) -> None:
    message = ""
    try:
        assert load("/dev/null", flags, {}).kill_grace >= 0
    except InvalidInput as error:
        message = str(error)
    assert not message or any(message.startswith(f"--{key}: ") for key in flags)
