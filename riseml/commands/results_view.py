"""Parameters and reported results as text, for `riseml status` and `riseml best`."""

from collections.abc import Iterable, Mapping

from riseml.screen import clean
from riseml_proto.messages import Member

_WIDEST = 24  # characters of a table's cell


def names(members: Iterable[Member]) -> list[str]:
    """The results that any of `members` reported, in the order in which they first appear."""
    return list(dict.fromkeys(name for member in members for name in member.results))


def shown(value: object) -> str:
    """A result as text: numbers with six significant digits, `-` for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value), colour=False)


def cell(value: object) -> str:
    """A result as a table's cell, where a text of more than 24 characters is cut."""
    text = shown(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def show_params(params: Mapping[str, str]) -> str:
    """`epochs=20, lr=0.0001, lr-decay=1e-6`, in the order in which the daemon has them."""
    return clean(", ".join(f"{name}={value}" for name, value in params.items()), colour=False)


def show_results(member: Member) -> str:
    """`accuracy=0.93, loss=0.2`, in the order in which they were first reported."""
    pairs = member.results.items()
    return ", ".join(f"{clean(name, colour=False)}={shown(value)}" for name, value in pairs)
