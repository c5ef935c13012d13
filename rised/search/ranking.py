"""Which sub-experiment is the best by what they reported, and in which order a table has them. Pure.

A result whose name says loss, error or the like is the better the lower it is, any other the higher.
"""

import heapq
import math
import re
from collections.abc import Mapping, Sequence

from riseml_proto.errors import InvalidInput, NotFound

_LOWER = frozenset(
    (
        *("loss", "losses", "error", "errors", "err", "nll", "perplexity", "ppl", "cost", "regret"),
        *("mse", "rmse", "mae", "mape", "rmsle", "wer", "cer", "eer", "fid", "bpc", "bpd"),
        *("latency", "time", "seconds", "ms", "duration", "distance", "divergence", "kl"),
    )
)
_OF = re.compile(r"^(train|training|val|valid|validation|dev|eval|test)(?=.)")
_ROOM = 1000


def is_lower_better(name: str) -> bool:
    """Whether a result of this name counts what should be little: `val_loss`, `valLoss`, `testerror`, `RMSE`."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return any(part in _LOWER or _OF.sub("", part) in _LOWER for part in parts)


def number(value: object) -> float | None:
    """`value` as a number that can be compared; None for a text, a truth value, NaN or an infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


class Ranking:
    """Members by one result: the best first, of equal ones the earlier."""

    def __init__(self, *, lowest: bool, most: int | None = None) -> None:
        """Of which only the first `most` are kept."""
        self.count = 0
        """How many have been added that reported a number."""
        self._sign = 1 if lowest else -1
        self._most = most
        self._found: list[tuple[float, int]] = []

    def add(self, member: int, value: object) -> None:
        """A member that reported `value`; what is no number is passed over."""
        score = number(value)
        if score is None:
            return
        self.count += 1
        self._found.append((self._sign * score, member))
        if self._most is not None and len(self._found) > 2 * self._most + _ROOM:
            self._found = heapq.nsmallest(self._most, self._found)

    @property
    def members(self) -> list[int]:
        """Their numbers."""
        return [member for _, member in sorted(self._found)[: self._most]]


def survey(known: dict[str, bool], results: Mapping[str, object]) -> None:
    """Note what a member reported: name → whether any reported a number as it, in the order of appearance."""
    for name, value in results.items():
        if not known.get(name):
            known[name] = number(value) is not None


def check(known: Mapping[str, bool], name: str, target: str) -> None:
    """Raise `NotFound` where nobody has reported a number as `name`."""
    if known.get(name):
        return
    if name in known:
        raise NotFound(f"what was reported as {name} in {target} is no number{_others(known)}")
    raise NotFound(f"no sub-experiment of {target} has reported {name}{_others(known)}")


def choose(known: Mapping[str, bool], target: str) -> str:
    """The result to go by. Raises `NotFound` where there is none, `InvalidInput` where there are several."""
    numbers = [name for name, comparable in known.items() if comparable]
    if not numbers:
        raise NotFound(
            f"no sub-experiment of {target} has reported a number yet; jobs do so with"
            " riseml.report_result(accuracy=0.93)"
        )
    if len(numbers) > 1:
        raise InvalidInput(
            f"{target} has several results, {', '.join(numbers)}; say which, such as --by {numbers[0]}"
        )
    return numbers[0]


def _others(known: Mapping[str, bool]) -> str:
    numbers = [name for name, comparable in known.items() if comparable]
    return f"; there is {', '.join(numbers)}" if numbers else ", nor anything that can be compared"


def check_sort(known: Mapping[str, bool], parameters: Sequence[str], name: str) -> None:
    """Raise `NotFound` for an order by what is neither a result nor a parameter."""
    if name not in known:
        listed = ", ".join([*known, *parameters])
        raise NotFound(f"cannot sort by {name}; there is {listed or 'nothing to sort by'}")
