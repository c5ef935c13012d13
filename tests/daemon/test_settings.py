"""Settings: defaults, then the file, then the flags, and one clear error for whatever is wrong in them."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rised.settings import Settings, load
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
    found = load(None, {}, {"XDG_RUNTIME_DIR": "/run/user/7"})
    assert found.socket == "/run/user/7/rised/rised.sock"
    assert found.state_dir == str(home / ".local/state/rised")
    assert found.output_dir == str(home / "riseml-output")
    assert found.data_dir == str(home / "riseml-data")
    assert (found.gpus, found.runner, found.kill_grace) == ("auto", "auto", 10.0)


def test_a_flag_goes_before_the_file_and_the_file_before_the_default(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yml", "gpus: 4\nkill-grace: 3\n")
    found = load(file, {"gpus": "0,2"}, {})
    assert (found.gpus, found.kill_grace, found.max_files) == ("0,2", 3.0, 100_000)


def test_the_file_of_the_user_is_found_where_xdg_says(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "xdg" / "rised" / "config.yml", "gpus: 3")
    write(home / ".config" / "rised" / "config.yml", "gpus: 2")
    assert load(None, {}, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).gpus == 3
    assert load(None, {}, {}).gpus == 2


def test_a_file_that_is_named_goes_before_the_users(tmp_path: Path, home: Path) -> None:
    write(home / ".config" / "rised" / "config.yml", "gpus: 2\nmem: 5")
    found = load(write(tmp_path / "c.yml", "gpus: 1"), {}, {})
    assert (found.gpus, found.mem) == (1, None)


def test_paths_are_absolute_and_a_tilde_is_the_home(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = load(None, {"state-dir": "here", "output-dir": "~/out", "socket": "./s"}, {})
    assert found.state_dir == str(tmp_path / "here")
    assert found.output_dir == str(home / "out")
    assert found.socket == str(tmp_path / "s")


def test_an_empty_file_is_no_error(tmp_path: Path) -> None:
    assert load(write(tmp_path / "c.yml", "# nothing\n"), {}, {}).gpus == "auto"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: 4", "gpu: there is no such key; there is gpus"),
        ("min_free: 1", "min_free: there is no such key; there is min-free"),
        ("3: 4", "3: there is no such key; there is admin-group, cpus, data-dir, "),
        ("max-files: many", "max-files: must be a whole number, 0 or more, not 'many'"),
        ("max-files: 1.5", "max-files: must be a whole number, 0 or more, not 1.5"),
        ("max-files: yes", "max-files: must be a whole number, 0 or more, not True"),
        ("max-bytes: -1", "max-bytes: must be a whole number, 0 or more, not -1"),
        ("max-bytes:", "max-bytes: must be a whole number, 0 or more, not empty"),
        ("cpus: .nan", "cpus: must be a number, 0 or more, not nan"),
        ("kill-grace: .inf", "kill-grace: must be a number, 0 or more, not inf"),
        ("kill-grace: [1]", "kill-grace: must be a number, 0 or more, not [1]"),
        ("state-dir: 5", "state-dir: must be a text, not 5"),
        ("runner: podman", "runner: must be auto, process or docker, not 'podman'"),
        ("gpus: -1", "gpus: must be auto, a number or indices such as 0,2,3, not -1"),
        ("gpus: all", "gpus: must be auto, a number such as 4, or indices such as 0,2,3, not"),
        ("gpus: 0,0", "gpus: 0,0 names an index twice"),
        ("- gpus", "must be keys and values, such as gpus: 4"),
        ("just words", "must be keys and values, such as gpus: 4"),
        ("gpus: [", "not YAML: while parsing a flow node"),
        ("gpus: !!python/name:os.system x", "not YAML: could not determine a constructor"),
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


def test_a_file_that_cannot_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"/none\.yml: No such file or directory$"):
        load(str(tmp_path / "none.yml"), {}, {})
    with pytest.raises(InvalidInput, match=r": Is a directory$"):
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


_keys = st.sampled_from([name.replace("_", "-") for name in Settings.__struct_fields__])
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
    told = ""
    try:
        assert load("/dev/null", flags, {}).kill_grace >= 0
    except InvalidInput as error:
        told = str(error)
    assert not told or any(told.startswith(f"--{key}: ") for key in flags)
