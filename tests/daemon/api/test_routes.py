"""Each request has one handler, and those who may not ask learn nothing."""

import inspect
import os
import re
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any

import pytest
import trio

from rised.api.context import Context
from rised.api.routes import ROUTES, handler
from rised.execution.services import Services
from rised.http.request import Request
from rised.settings import Settings
from rised.users.peer import Peer
from riseml_proto.errors import Forbidden, NotFound, RisemlError

OWNER = Peer(1, os.getuid(), os.getgid(), "owner")
OTHER = Peer(1, os.getuid() + 1, 1000, "eve")
ROOT = Peer(1, 0, 0, "root")
# Who may ask, and what for, is decided before anything of the daemon is touched.
SERVICES: Any = dict.fromkeys((field.name for field in fields(Services)), None)
PARTS: Any = dict.fromkeys((field.name for field in fields(Context)), None)
NOTHING = Context(**PARTS | {"services": Services(**SERVICES | {"settings": Settings()})})


def ask(method: str, path: str, peer: Peer = OWNER) -> RisemlError:
    """The error that the request ends in."""

    def no_body() -> AsyncIterator[bytes]:
        raise AssertionError("nobody should read it")

    request = Request(method=method, path=path, query={}, headers={}, peer=peer, body=no_body)
    with pytest.raises(RisemlError) as raised:
        trio.run(handler(NOTHING), request)
    return raised.value


def example(pattern: str) -> str:
    return pattern.replace("([^/]+)", "144")


def test_no_request_has_two_handlers() -> None:
    for method, pattern, _ in ROUTES:
        path = example(pattern)
        assert sum(m == method and bool(re.fullmatch(p, path)) for m, p, _ in ROUTES) == 1


def test_every_handler_says_what_it_does() -> None:
    for _, _, function in ROUTES:
        assert inspect.getdoc(function)


@pytest.mark.parametrize(
    ("method", "pattern"), [(method, pattern) for method, pattern, _ in ROUTES]
)
def test_another_user_gets_nothing_at_all(method: str, pattern: str) -> None:
    assert isinstance(ask(method, example(pattern), OTHER), Forbidden)


def test_another_user_does_not_even_learn_what_there_is() -> None:
    answers = {str(ask("GET", path, OTHER)) for path in ("/", "/v1/system", "/v1/experiments/144")}
    (text,) = answers
    assert "eve" in text


def test_root_may() -> None:
    assert isinstance(ask("GET", "/nothing", ROOT), NotFound)


@pytest.mark.parametrize(
    "path", ["", "/", "/v1/experiments/", "/v1/experiments/1/2/logs", "/v1/kill\n", "x/v1/kill"]
)
def test_a_path_is_taken_as_a_whole(path: str) -> None:
    error = ask("POST", path)
    assert isinstance(error, NotFound)
    assert error.status == 404


def test_a_wrong_method_is_told_the_right_ones() -> None:
    error = ask("DELETE", "/v1/experiments")
    assert error.status == 405
    assert str(error) == "/v1/experiments takes GET or POST, not DELETE"
