import pytest
from hypothesis import given
from hypothesis import strategies as st

from riseml_proto.errors import SyncError
from riseml_proto.paths import check, quote, unquote


@given(st.binary())
def test_every_path_travels_as_utf8_text_and_comes_back(path: bytes) -> None:
    text = quote(path)
    assert unquote(text.encode().decode()) == path


def test_every_single_byte_comes_back() -> None:
    for byte in range(256):
        assert unquote(quote(bytes([byte]))) == bytes([byte])


def test_a_usual_path_is_its_own_text() -> None:
    assert quote("src/größe 1.py".encode()) == "src/größe 1.py"


def test_what_is_not_utf8_and_the_percent_sign_are_escaped() -> None:
    assert quote(b"50%\xff") == "50%25%FF"


@pytest.mark.parametrize("text", ["%", "%2", "%zz", "%ff", "a%25%", "\ud800"])
def test_a_text_that_stands_for_no_path_is_refused(text: str) -> None:
    with pytest.raises(SyncError):
        unquote(text)


@pytest.mark.parametrize(
    "path",
    [
        *(b"", b"/", b"/etc/passwd", b"..", b"a/../b", b"./a", b"a//b", b"a/", b"a\0b"),
        *(b".git", b"a/.GIT/x"),
    ],
)
def test_a_path_that_leaves_the_project_or_hides_in_git_is_refused(path: bytes) -> None:
    with pytest.raises(SyncError):
        check(path)


@pytest.mark.parametrize(
    "path", [b"a", b"a/b.py", b"...", b".gitignore", b"a\n\xff", b" ", b"git/.gitx"]
)
def test_an_odd_name_inside_the_project_is_allowed(path: bytes) -> None:
    check(path)
