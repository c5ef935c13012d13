"""The messages are the contract: what is sent is what is read, and curl and old clients can rely on the names."""

import inspect
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riseml_proto import messages
from riseml_proto.errors import ConfigError
from riseml_proto.messages import (
    ClientMessage,
    Entry,
    File,
    LogRequest,
    Member,
    Message,
    Submission,
    Summary,
)

TYPES = [
    kind
    for _, kind in inspect.getmembers(messages, inspect.isclass)
    if issubclass(kind, Message) and kind not in (Message, ClientMessage)
]
times = st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC))  # noqa: DTZ001


def strategy(kind: type) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{f.name: of(f.type) for f in msgspec.structs.fields(kind)})


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type; texts and whole numbers that JSON can carry."""
    if kind is datetime:
        return times
    if kind is str:
        return st.text()
    if kind is int:
        return st.integers(-(1 << 53), 1 << 53)
    if kind is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return strategy(kind)
    origin = getattr(kind, "__origin__", None)
    if origin is list:
        return st.lists(of(kind.__args__[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(), of(kind.__args__[1]), max_size=2)
    if origin is tuple:
        return st.lists(of(kind.__args__[0]), max_size=2).map(tuple)
    if origin is Literal:
        return st.sampled_from(get_args(kind))
    if args := get_args(kind):
        return st.one_of(*(of(arg) for arg in args))
    return st.from_type(kind)


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
@settings(max_examples=20)
def test_every_message_is_read_as_it_was_sent(kind: type[Message], data: st.DataObject) -> None:
    sent = data.draw(strategy(kind))
    assert msgspec.json.decode(msgspec.json.encode(sent), type=kind) == sent


@given(st.data())
@settings(max_examples=50)
def test_a_stream_of_entries_is_read_line_by_line(data: st.DataObject) -> None:
    sent = data.draw(st.lists(st.one_of(*(strategy(kind) for kind in get_args(Entry))), max_size=5))
    lines = msgspec.json.Encoder().encode_lines(sent)
    assert lines.count(b"\n") == len(sent)
    assert [msgspec.json.decode(line, type=Entry) for line in lines.splitlines()] == sent


def test_every_message_and_field_is_described() -> None:
    for kind in TYPES:
        assert kind.__doc__, kind


@pytest.mark.parametrize("kind", [kind for kind in TYPES if issubclass(kind, ClientMessage)])
def test_a_request_with_an_unknown_field_is_refused(kind: type) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `user`"):
        msgspec.json.decode(b'{"user": "root"}', type=kind)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if not issubclass(kind, ClientMessage)])
@given(data=st.data())
@settings(max_examples=20)
def test_an_answer_of_a_newer_daemon_may_have_more_fields(
    kind: type[Message], data: st.DataObject
) -> None:
    sent = data.draw(strategy(kind))
    newer = {**msgspec.to_builtins(sent), "from the future": [1]}
    assert msgspec.json.decode(msgspec.json.encode(newer), type=kind) == sent


def test_the_names_that_programs_rely_on_stay() -> None:
    assert Summary.__struct_fields__ == (
        "id", "type", "state", "project", "user", "revision", "created_at", "counts",
        "gpus",
    )  # fmt: skip
    assert Member.__struct_fields__ == (
        "id", "state", "params", "gpus", "exit_code", "reason", "started_at", "ended_at",
        "results", "waits_for",
    )  # fmt: skip


def test_what_a_person_types_into_curl_is_short() -> None:
    assert msgspec.json.decode(b"{}", type=LogRequest) == LogRequest()
    asked = msgspec.json.decode(b'{"config": "x", "revision": "y"}', type=Submission)
    assert (asked.config_file, asked.env, asked.strict) == ("riseml.yml", {}, False)
    file = msgspec.json.decode(b'["a", 33188, 6, "ce01"]', type=File)
    assert file == File("a", 0o100644, 6, "ce01")


def test_times_travel_as_utc_text() -> None:
    time = datetime(2017, 8, 30, 9, 59, 6, 120000, tzinfo=UTC)
    assert msgspec.json.encode(time) == b'"2017-08-30T09:59:06.120000Z"'


def test_an_error_in_a_file_names_file_line_and_path() -> None:
    error = ConfigError("must be 0 or more, not -1", file="riseml.yml", line=7, path="train.gpus")
    assert str(error) == "riseml.yml:7: train.gpus: must be 0 or more, not -1"
    assert str(ConfigError("is wrong")) == "is wrong"
