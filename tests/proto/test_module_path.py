"""Whose modules the client and the daemon use."""

import pytest

from riseml_proto.module_path import own_module_path

STANDARD = ["/usr/lib/python311.zip", "/usr/lib/python3.11", "/usr/lib/python3.11/lib-dynload"]
SITE = "/venv/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("added", "site", "home", "expected"),
    [
        ([], [SITE], SITE, [*STANDARD, SITE]),
        (["/venv/bin", "/modules"], [SITE], SITE, [*STANDARD, SITE]),
        (["/here", "/modules", "/code"], [SITE], "/code", [*STANDARD, SITE, "/here", "/modules", "/code"]),
        (["/modules", SITE], ["/code"], "/code", [*STANDARD, "/code", SITE]),
        (["/code"], [SITE, "/code"], "/code", [*STANDARD, SITE, "/code"]),
    ],
)  # fmt: skip
def test_what_a_shell_adds_stays_out(
    added: list[str], site: list[str], home: str, expected: list[str]
) -> None:
    path = [*added, *STANDARD, *site]
    assert own_module_path(path, home, "/venv", (3, 11)) == expected


def test_a_path_without_a_standard_library_stays_as_it_is() -> None:
    assert own_module_path(["/a", "/b"], "/a", "/venv", (3, 11)) == ["/a", "/b"]
