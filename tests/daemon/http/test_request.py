"""What a handler reads of a request is what it asked for, or a clear error."""

import itertools
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from rised.http.request import Request
from rised.users.peer import Peer
from riseml_proto.errors import InvalidInput
from riseml_proto.messages import Kill


def request(query: dict[str, str] | None = None, *pieces: bytes) -> Request:
    return Request(
        method="POST",
        path="/v1/kill",
        query=query or {},
        headers={},
        peer=Peer(1, 2, 3, "paul"),
        body=lambda: Body(pieces),
    )


class Body:
    """Pieces that come one by one."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


@given(st.lists(st.integers(0, 30)))
def test_a_message_is_the_same_in_however_many_pieces_it_comes(cuts: list[int]) -> None:
    text = b'{"ids": ["144.2"], "force": true}'
    places = sorted({0, *cuts, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    read = trio.run(request({}, *pieces).message, Kill)
    assert read == Kill(ids=["144.2"], force=True)


def test_a_message_may_have_as_many_bytes_as_the_limit_says() -> None:
    text = b'{"ids": []}'
    assert trio.run(request({}, text).message, Kill, len(text)) == Kill(ids=[])
    with pytest.raises(InvalidInput, match="longer than 10 bytes"):
        trio.run(request({}, text).message, Kill, len(text) - 1)


def test_what_is_no_message_is_told_where_it_is_wrong() -> None:
    with pytest.raises(
        InvalidInput, match=r"/v1/kill takes: Expected `str`, got `int` - at `\$.ids\[0\]`"
    ):
        trio.run(request({}, b'{"ids": [1]}').message, Kill)


@pytest.mark.parametrize(
    ("query", "value"),
    [({}, False), ({"a": "true"}, True), ({"a": ""}, True), ({"a": "false"}, False)],
)
def test_a_flag_is_true_or_false(query: dict[str, str], value: bool) -> None:
    assert request(query).flag("a") is value


@pytest.mark.parametrize("text", ["yes", "1", "True", " true"])
def test_any_other_flag_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"\?a= takes true or false"):
        request({"a": text}).flag("a")


def test_a_number_counts_something() -> None:
    assert request().number("n") is None
    assert request({"n": "0"}).number("n") == 0
    assert request({"n": "007"}).number("n") == 7


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "1_000", " 1", "٣", "²", "9" * 16])
def test_any_other_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"\?n= takes a number"):
        request({"n": text}).number("n")


def test_a_time_is_rfc_3339() -> None:
    assert request().moment("t") is None
    found = request({"t": "2017-08-30T09:59:06Z"}).moment("t")
    assert found == datetime(2017, 8, 30, 9, 59, 6, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "now", "2017-08-30", "1504087146", "2017-13-30T09:59:06Z"])
def test_any_other_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="2017-08-30T09:59:06Z"):
        request({"t": text}).moment("t")
