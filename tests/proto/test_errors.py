"""One tree has every error that a user can meet, and docs/api.md shows all of it."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from riseml_proto import errors
from riseml_proto.errors import RisemlError, describe, from_code

ROOT = Path(__file__).parents[2]
TREE = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RisemlError)
}
SOURCES = [
    path
    for package in ("riseml", "rised", "proto/riseml_proto")
    for path in (ROOT / package).rglob("*.py")
]
BUILTIN = {
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, BaseException)
}
LIBRARY = {"ArgumentTypeError", "RemoteProtocolError"}
"""Errors of argparse and h11: raised for them to turn into answers."""


def name_of(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ClassDef):
                yield path, node


def raised() -> Iterator[tuple[str, str]]:
    """Where something is raised by the name of its class, and that name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Raise(exc=ast.Call(func=called)) if name_of(called)[0].isupper():
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", name_of(called)


def test_no_module_adds_to_the_tree() -> None:
    elsewhere = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path, node in classes()
        if path != ROOT / "proto/riseml_proto/errors.py"
        and {name_of(base) for base in node.bases} & TREE.keys()
    ]
    assert elsewhere == []


def test_what_is_raised_is_in_the_tree_or_is_caught_by_name() -> None:
    beside = {
        node.name
        for _, node in classes()
        if {name_of(base) for base in node.bases} & BUILTIN and node.name not in TREE
    }
    caught = {
        name_of(kind)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ExceptHandler) and node.type
        for kind in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type])
    }
    known = TREE.keys() | BUILTIN | LIBRARY | (beside & caught)
    assert {f"{at}: {name}" for at, name in raised() if name not in known} == set()


def test_every_error_is_raised_somewhere() -> None:
    used = {name for _, name in raised()}
    made = {
        name_of(node.func)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call)
    }
    parents = {kind.__bases__[0].__name__ for kind in TREE.values()}
    assert TREE.keys() - used - made - parents == set()


def test_docs_list_every_code_with_its_status() -> None:
    page = (ROOT / "docs/api.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", page, re.MULTILINE)
    assert rows == [(kind.code, str(kind.status)) for kind in TREE.values()]


@pytest.mark.parametrize("kind", TREE.values(), ids=list(TREE))
def test_an_error_comes_back_as_the_class_it_was(kind: type[RisemlError]) -> None:
    error = from_code(kind.code, "the text")
    assert type(error) is (kind if "code" in vars(kind) else kind.__bases__[0])
    assert str(error) == "the text"
    assert 400 <= kind.status < 600


def test_no_code_stands_for_two_classes() -> None:
    codes = [kind.code for kind in TREE.values() if "code" in vars(kind)]
    assert len(codes) == len(set(codes))


def test_an_unknown_code_gives_a_plain_error() -> None:
    assert type(from_code("of-tomorrow", "the text")) is RisemlError


def test_the_kernels_errors_name_a_path_as_text() -> None:
    for path in ("no/file", b"no/file"):
        assert describe(OSError(2, "gone", path), "x") == "no/file: gone"
    for number in (None, 3):  # of an open file the number says nothing
        assert describe(OSError(2, "gone", number), "x") == "x: gone"
    assert describe(OSError("other words")) == describe(RisemlError("other words")) == "other words"


@pytest.mark.parametrize("name", [b"caf\xc3\xa9\xff", "café\udcff"])
def test_the_kernels_error_names_a_path_of_any_bytes_as_a_shell_writes_it(
    name: bytes | str,
) -> None:
    error = FileNotFoundError(2, "No such file or directory", name)
    assert describe(error) == r"café\xff: No such file or directory"
