"""What jobs reported, as screens have it."""

from collections.abc import Iterable

from riseml.screen import clean
from riseml_proto.messages import Member

_WIDEST = 24  # characters of a table's cell


def names(members: Iterable[Member]) -> list[str]:
    """The results that any of `members` reported, in the order in which they first appear."""
    return list(dict.fromkeys(name for member in members for name in member.results))


def shown(value: object) -> str:
    """A result: numbers with six significant digits, `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value), colour=False)


def cell(value: object) -> str:
    """The same for a table, where a long text is cut."""
    text = shown(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def show_results(member: Member) -> str:
    """`accuracy=0.93, loss=0.2`, in the order in which they were first reported."""
    pairs = member.results.items()
    return ", ".join(f"{clean(name, colour=False)}={shown(value)}" for name, value in pairs)
