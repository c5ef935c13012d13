"""Entries of a container's user that its image does not have."""

import pytest

from rised.runners.docker.accounts import Account, Texts, account, complete

ROOT = "root:x:0:0:root:/root:/bin/sh\n"
PAUL = Account(1000, 100, "paul", "Paul P.", {100: "users", 7: "gpu"})
ENTRY = "paul:x:1000:100:Paul P.:/code:/bin/sh\n"


@pytest.mark.parametrize(
    ("image", "passwd", "group"),
    [
        (Texts("", ""), ROOT + ENTRY, "root:x:0:\nusers:x:100:\ngpu:x:7:\n"),
        (Texts(ROOT, "users:x:100:me\n"), ROOT + ENTRY, "users:x:100:me\ngpu:x:7:\n"),
        # A last line that is not ended.
        (Texts(ROOT.strip(), "root:x:0:"), ROOT + ENTRY, "root:x:0:\nusers:x:100:\ngpu:x:7:\n"),
        # A name that is somebody else's there.
        (
            Texts("paul:x:1:1::/:/bin/sh\n", "users:x:5:\ngpu:x:7:\n"),
            "paul:x:1:1::/:/bin/sh\n" + ENTRY.replace("paul", "paul-1000"),
            "users:x:5:\ngpu:x:7:\nusers-100:x:100:\n",
        ),
        # Lines that are none.
        (Texts("+\n::\n:x:¹:", "\n"), "+\n::\n:x:¹:\n" + ENTRY, "\nusers:x:100:\ngpu:x:7:\n"),
    ],
)
def test_an_image_without_the_user_gets_the_users_lines(
    image: Texts, passwd: str, group: str
) -> None:
    assert complete(image, PAUL) == Texts(passwd, group)


def test_an_image_with_the_user_stays_as_it_is() -> None:
    image = Texts("app:x:1000:5::/home/app:/bin/bash", "a:x:100:\nb:x:7:")
    assert complete(image, PAUL) == image


def test_root_in_an_empty_image_has_one_entry() -> None:
    root = Account(0, 0, "root", "", {0: "root"})
    assert complete(Texts("", ""), root) == Texts(ROOT, "root:x:0:\n")


def test_a_user_whom_nobody_knows_is_called_by_the_number() -> None:
    assert account(3_999_999, 3_999_998, (3_999_997,), "/code") == Account(
        3_999_999, 3_999_998, "3999999", "", {3_999_998: "3999999", 3_999_997: "group-3999997"}
    )
