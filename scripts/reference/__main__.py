"""Makes the pages anew, or with --check only says which of them are older than the code."""

import sys
from collections.abc import Callable
from pathlib import Path

from scripts.reference import api, blocks, commands, daemon, man

_ROOT = Path(__file__).parents[2]


def _cli(page: str) -> str:
    page = blocks.replace(page, "commands", commands.summary())
    return blocks.replace(page, "each command", commands.sections())


def _daemon(page: str) -> str:
    return blocks.replace(page, "settings", daemon.settings())


GENERATED: dict[str, tuple[str, Callable[[str], str]]] = {
    "docs/api.md": ("docs/api.md", lambda _: api.page()),
    "docs/cli.md": ("docs/cli.md", _cli),
    "docs/daemon.md": ("docs/daemon.md", _daemon),
    "docs/man/riseml.1": ("docs/cli.md", lambda page: man.riseml(_cli(page))),
    "docs/man/rised.8": ("docs/daemon.md", lambda page: man.rised(_daemon(page))),
}
"""Every file that is made, in whole or in part: the page that it is made from, and how."""


def main(argv: list[str], root: Path = _ROOT) -> int:
    """Write what has changed; with `--check` write nothing, and give 1 if something has."""
    stale = 0
    for name, (source, make) in GENERATED.items():
        path = root / name
        new = make(_read(root / source))
        if new == _read(path):
            continue
        if argv == ["--check"]:
            stale = 1
            print(f"{name} is older than what it is made from; run make docs", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(new, encoding="utf-8")
    return stale


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
