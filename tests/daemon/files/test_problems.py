"""What users are told of a file that is not there."""

import pytest

from rised.files.problems import errors_about
from riseml_proto import uris
from riseml_proto.errors import NotFound


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("output://7/", "output://7/: there is no output; the experiment has not started, or"),
        ("data://", "data://: the data directory is not there; riseml system info names it"),
        ("output://7/a/b", "output://7/a/b: there is no such file .* riseml ls output://7/a "),
    ],
)
def test_what_is_missing_is_never_pointed_to_itself(text: str, told: str) -> None:
    with pytest.raises(NotFound, match=told), errors_about(uris.parse(text)):
        raise FileNotFoundError
