"""Ranks sub-experiments by their results, and sorts them by a result or a parameter. Pure.

A low value is better for a result whose name says loss, error or the like, a high value for every other one.
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
    """Whether low values of the result are better: `val_loss`, `valLoss`, `testerror`, `RMSE`."""
    parts = re.split(r"[^a-z]+", re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower())
    return any(part in _LOWER or _OF.sub("", part) in _LOWER for part in parts)


def number(value: object) -> float | None:
    """`value` as a number for comparing; None for a text, a truth value, NaN or an infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        comparable = float(value)
    except OverflowError:
        return None
    return comparable if math.isfinite(comparable) else None


class Ranking:
    """Members in the order of one result: the best first; of two equal ones the earlier member."""

    def __init__(self, *, lowest: bool, most: int | None = None) -> None:
        """`lowest`: low values are better. `most`: keep that many members alone."""
        self.count = 0
        """The members that were added with a number."""
        self._sign = 1 if lowest else -1
        self._most = most
        self._scores: list[tuple[float, int]] = []

    def add(self, member: int, value: object) -> None:
        """Add a member that reported `value`, unless that is no number."""
        score = number(value)
        if score is None:
            return
        self.count += 1
        self._scores.append((self._sign * score, member))
        if self._most is not None and len(self._scores) > 2 * self._most + _ROOM:
            self._scores = heapq.nsmallest(self._most, self._scores)

    @property
    def members(self) -> list[int]:
        """The numbers of the members, the best first."""
        return [member for _, member in sorted(self._scores)[: self._most]]


def survey(known: dict[str, bool], results: Mapping[str, object]) -> None:
    """Add a member's `results` to `known`: name → whether any member reported a number under it."""
    for name, value in results.items():
        if not known.get(name):
            known[name] = number(value) is not None


def check(known: Mapping[str, bool], name: str, target: str) -> None:
    """Raise `NotFound` where no member of `target` has reported a number under `name`."""
    if known.get(name):
        return
    if name in known:
        raise NotFound(f"what was reported as {name} in {target} is no number{_others(known)}")
    raise NotFound(f"no sub-experiment of {target} has reported {name}{_others(known)}")


def choose(known: Mapping[str, bool], target: str) -> str:
    """The only result that has numbers. Raises `NotFound` where there is none, `InvalidInput` for several."""
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
    """Raise `NotFound` where `name` is neither a result nor a parameter."""
    if name not in known:
        listed = ", ".join([*known, *parameters])
        raise NotFound(f"cannot sort by {name}; there is {listed or 'nothing to sort by'}")
