"""docs/api.md: the API as its message types and its routes say it is."""

import ast
import inspect
import re
from typing import get_args

import msgspec

from rised.api import routes
from riseml_proto import API_VERSION, errors, file_messages, messages, waiting

_BASES = ("Message", "ClientMessage")
_HEAD = f"""# The API

Made from `proto/riseml_proto/messages.py`, `file_messages.py` and `waiting.py` by `make docs`; change it there.

`rised` speaks HTTP/1.1 with JSON on its Unix socket, version {API_VERSION} under `/v1/`; each answer says so in
`Rised-Api: {API_VERSION}`, and what the daemon's clock shows in `Rised-Time`, in milliseconds since 1970. A job's
output and states come as NDJSON, one entry a line, as they happen.

```console
$ curl --unix-socket $XDG_RUNTIME_DIR/rised/rised.sock http://rised/v1/experiments
$ curl --unix-socket $XDG_RUNTIME_DIR/rised/rised.sock -N 'http://rised/v1/experiments/144/logs?follow=true'
```

"""


def page() -> str:
    """All of it."""
    parts = [_HEAD + _requests() + _errors() + "## Messages\n"]
    fields = _field_docs()
    for name, kind in (vars(messages) | vars(file_messages) | vars(waiting)).items():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and name not in _BASES:
            parts.append(_message(name, kind, fields.get(name, {})))
    kinds = ", ".join(kind.__name__ for kind in get_args(waiting.WaitReason))
    parts.append(f"A `WaitReason` is one of {kinds}.")
    return "\n".join(parts) + "\n"


def _requests() -> str:
    lines = ["## Requests\n", "| request | what it does |", "| --- | --- |"]
    for method, pattern, handler in routes.ROUTES:
        path = re.sub(r"\(\[\^/\]\+\)", "{id}", pattern)
        said = " ".join(inspect.getdoc(handler).partition("\n\n")[0].split())  # type: ignore[union-attr]
        said = said.partition(" — ")[2] or said
        lines.append(f"| `{method} {path}` | {said} |")
    return "\n".join(lines) + "\n\n"


def _errors() -> str:
    lines = [
        "## Errors\n",
        "An answer that is no success is a `Problem`, whose `code` is one of these. Some of them only `riseml`",
        "itself raises: `too-large`, `unreachable`, `ssh`; or `rised` when it starts: `already-running`.\n",
    ]
    lines += ["| code | status | meaning |", "| --- | --- | --- |"]
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.RisemlError):
            said = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
            lines.append(f"| `{kind.code}` | {kind.status} | {said} |")
    return "\n".join(lines) + "\n\n"


def _message(name: str, kind: type[msgspec.Struct], docs: dict[str, str]) -> str:
    said = " ".join((inspect.getdoc(kind) or "").split())
    lines = [f"### {name}\n", said + "\n"]
    if tag := kind.__struct_config__.tag:
        lines.append(f'`"type": "{tag}"` tells it from the others.\n')
    if kind.__struct_fields__:
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        text = getattr(field.type, "__name__", "") if isinstance(field.type, type) else ""
        shown = text if text and "[" not in str(field.type) else str(field.type)
        shown = shown.replace(str(waiting.WaitReason), "WaitReason").replace("|", "or")
        shown = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", shown).replace("datetime", "time")
        optional = "" if field.required else " (optional)"
        lines.append(f"| `{field.encode_name}` | {shown}{optional} | {docs.get(field.name, '')} |")
    return "\n".join(lines) + "\n"


def _field_docs() -> dict[str, dict[str, str]]:
    """Class → field → the text that follows the field in the source."""
    by_class: dict[str, dict[str, str]] = {}
    sources = (inspect.getsource(module) for module in (messages, file_messages, waiting))
    for node in (node for source in sources for node in ast.parse(source).body):
        if isinstance(node, ast.ClassDef):
            docs = by_class[node.name] = {}
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    said = ast.literal_eval(text.value)
                    docs[ast.unparse(field.target)] = " ".join(said.split()).replace("|", "or")
    return by_class
