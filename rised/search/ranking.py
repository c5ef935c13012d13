"""Ranks sub-experiments by their results, and sorts them by a result or a parameter. Pure."""

import heapq
import math
from collections.abc import Mapping, Sequence

from riseml_proto.errors import InvalidInput, NotFound
from riseml_proto.objective import Objective, is_lower_better

_ROOM = 1000


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
    def values(self) -> list[float]:
        """The numbers by which `members` were ranked."""
        return [self._sign * score for score, _ in sorted(self._scores)[: self._most]]

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


def direction(name: str, objective: Objective | None, remedy: str) -> bool:
    """Whether the lowest value of the result `name` is the best one, by the experiment's objective or by the name.

    Raises `InvalidInput` with the `remedy` where neither says so.
    """
    if objective and objective.result == name:
        return objective.lowest
    lowest = is_lower_better(name)
    if lowest is None:
        raise InvalidInput(
            f"the name {name} does not say whether a low or a high value is better; {remedy}, or once for all in"
            f" riseml.yml: objective: {{result: {name}, goal: min}}"
        )
    return lowest


def best_of(values: Sequence[object], *, lowest: bool) -> float | None:
    """The best number among `values`; None where there is none."""
    numbers = [score for value in values if (score := number(value)) is not None]
    return (min if lowest else max)(numbers, default=None)


def check_sort(known: Mapping[str, bool], parameters: Sequence[str], name: str) -> None:
    """Raise `NotFound` where `name` is neither a result nor a parameter."""
    if name not in known:
        listed = ", ".join([*known, *parameters])
        raise NotFound(f"cannot sort by {name}; there is {listed or 'nothing to sort by'}")
