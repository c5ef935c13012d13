"""Which sub-experiment is the best, by what they reported. Pure.

A result whose name says loss, error or the like is the better the lower it is, any other the higher.
"""

import math
import re
from collections.abc import Iterable, Sequence

from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.messages import Member

_LOWER = frozenset(
    (
        *("loss", "losses", "error", "errors", "err", "nll", "perplexity", "ppl", "cost", "regret"),
        *("mse", "rmse", "mae", "mape", "rmsle", "wer", "cer", "eer", "fid", "bpc", "bpd"),
        *("latency", "time", "seconds", "ms", "duration", "distance", "divergence", "kl"),
    )
)


def is_lower_better(name: str) -> bool:
    """Whether a result of this name counts what should be little."""
    parts = re.split(r"[^a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return not _LOWER.isdisjoint(parts)


def number(value: object) -> float | None:
    """`value` as a number that can be compared; None for a text, a truth value, NaN or an infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def names(members: Iterable[Member]) -> list[str]:
    """The results that any of `members` reported, in the order in which they first appear."""
    return list(dict.fromkeys(name for member in members for name in member.results))


def criterion(members: Sequence[Member], wanted: str | None, target: str) -> str:
    """The result to go by. Raises `NotFound` where nobody reported it, `InvalidInput` where there are several."""
    known = [
        n for n in names(members) if any(number(m.results.get(n)) is not None for m in members)
    ]
    if wanted is not None:
        if wanted in known:
            return wanted
        listed = ", ".join(known) or "nothing that can be compared"
        raise NotFound(f"no sub-experiment of {target} has reported {wanted}; there is {listed}")
    if not known:
        raise NotFound(
            f"no sub-experiment of {target} has reported a number yet; jobs do so with"
            " riseml.report_result(accuracy=0.93)"
        )
    if len(known) > 1:
        raise InvalidInput(
            f"{target} has several results, {', '.join(known)}; say which, such as --by {known[0]}"
        )
    return known[0]


def rank(members: Iterable[Member], name: str, *, lowest: bool) -> list[Member]:
    """Those that reported a number as `name`, the best first; of equal ones the earlier."""
    scored = [(value, m) for m in members if (value := number(m.results.get(name))) is not None]
    scored.sort(key=lambda pair: pair[0] if lowest else -pair[0])
    return [member for _, member in scored]


def order(members: Sequence[Member], key: str, *, reverse: bool) -> list[Member]:
    """All `members` by a result, the best first, or by a parameter, rising; those without it last.

    Raises `NotFound` where none has it.
    """
    if any(key in member.params for member in members):
        return sorted(members, key=lambda m: _natural(m.params.get(key)), reverse=reverse)
    if key not in names(members):
        known = [*names(members), *dict.fromkeys(n for m in members for n in m.params)]
        raise NotFound(f"cannot sort by {key}; there is {', '.join(known) or 'nothing to sort by'}")
    best = rank(members, key, lowest=is_lower_better(key) is not reverse)
    ranked = {member.id for member in best}
    return [*best, *(member for member in members if member.id not in ranked)]


def _natural(text: str | None) -> tuple[int, float, str]:
    """A key that puts numbers before texts, each in their order."""
    if text is None:
        return (2, 0.0, "")
    try:
        value = float(text)
    except ValueError:
        return (1, 0.0, text)
    return (0, value, text) if math.isfinite(value) else (1, 0.0, text)


def shown(value: object) -> str:
    """A result as tables have it: numbers with six significant digits."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() if isinstance(value, bool) else "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
