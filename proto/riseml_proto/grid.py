"""The grid: the combination of parameter values that belongs to a sub-experiment's number.

Parameters sort by name and the last one varies fastest: sub-experiment n is the number n - 1 in a mixed radix whose
digits are the values. No combination is stored, so a grid of a billion needs no more memory than its values.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import overload

MAX_COMBINATIONS = 1_000_000_000  # thirty years of one-second jobs; more is a typing error

_NUMBER = re.compile(r"(?=.{1,40}\Z)[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")


class DecimalRange(Sequence[str]):
    """The texts of `min`, `min` + `step`, … up to and including `max`, computed when they are needed.

    Values have as many decimals as `min` was written with, and more where a value needs them: `0.5` by `0.25` gives
    0.5, 0.75, 1.0. The first value is `min` exactly as written, also where that is `1e-3`. `max` is included only if a
    step reaches it. Raises `ValueError`, with a text for the user, where the three texts are no range.
    """

    __slots__ = ("_count", "_decimals", "_scale", "_start", "_step", "texts")

    def __init__(self, minimum: str, maximum: str, step: str) -> None:
        self.texts = (minimum, maximum, step)
        numbers = [decimal(text) for text in self.texts]
        self._scale = max(_places(number) for number in numbers)
        self._start, end, self._step = (_scaled(number, self._scale) for number in numbers)
        self._decimals = _places(numbers[0])
        if self._step <= 0:
            raise ValueError(f"step must be more than 0, not {step}")
        if self._start > end:
            raise ValueError(f"min must not be more than max, but {minimum} is more than {maximum}")
        self._count = (end - self._start) // self._step + 1
        if self._count > MAX_COMBINATIONS:
            raise ValueError(
                f"has {self._count:,} values; at most {MAX_COMBINATIONS:,} are possible"
            )

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """One value in constant time, or the values of a slice."""
        if isinstance(index, slice):
            return tuple(self._text(i) for i in range(self._count)[index])
        return self._text(range(self._count)[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DecimalRange) and self.texts == other.texts

    def _text(self, index: int) -> str:
        if index == 0:
            return self.texts[0]
        value = self._start + index * self._step
        whole, fraction = divmod(abs(value), 10**self._scale)
        digits = f"{fraction:0{self._scale}}".rstrip("0") if fraction else ""
        digits = digits.ljust(self._decimals, "0")
        return f"{'-' if value < 0 else ''}{whole}{'.' if digits else ''}{digits}"


class Grid:
    """Every combination of the values of some parameters, numbered from 1."""

    __slots__ = ("count", "names", "values")

    def __init__(self, parameters: Mapping[str, Sequence[str]]) -> None:
        """`parameters`: name → values. Raises `ValueError` for no or too many combinations."""
        self.names = tuple(sorted(parameters))
        self.values = tuple(parameters[name] for name in self.names)
        self.count = math.prod(len(values) for values in self.values)
        if not self.names or not self.count:
            raise ValueError("is an empty grid; give each parameter at least one value")
        if self.count > MAX_COMBINATIONS:
            raise ValueError(
                f"makes {self.count:,} combinations; at most {MAX_COMBINATIONS:,} are possible"
            )

    def params(self, member: int) -> dict[str, str]:
        """Name → value, sorted, of one sub-experiment. Raises `IndexError` outside 1..`count`."""
        if not 1 <= member <= self.count:
            raise IndexError(f"there is no combination {member} of {self.count}")
        rest = member - 1
        chosen = []
        for values in reversed(self.values):
            rest, digit = divmod(rest, len(values))
            chosen.append(values[digit])
        return dict(zip(self.names, reversed(chosen), strict=True))

    def sorted_members(self, name: str, *, reverse: bool) -> Iterator[int]:
        """All members by the value of a parameter, rising, numbers before texts; of equal ones the earlier first.

        Nothing is expanded: the first of a million come at once.
        """
        position = self.names.index(name)
        values = self.values[position]
        stride = math.prod(len(later) for later in self.values[position + 1 :])
        order: Sequence[int] = range(len(values))
        if not isinstance(values, DecimalRange):
            order = sorted(order, key=lambda index: _natural(values[index]))
        for index in reversed(order) if reverse else order:
            for block in range(0, self.count, stride * len(values)):
                first = block + index * stride + 1
                yield from range(first, first + stride)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and (self.names, self.values) == (other.names, other.values)


def decimal(text: str) -> Decimal:
    """The number in `text`, such as `20`, `0.1` or `1e-6`. Raises `ValueError` where it is none."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a number, such as 0.1 or 1e-3")
    return Decimal(text)


def _natural(text: str) -> tuple[int, float, str]:
    """A key that puts numbers before texts, each in their order."""
    try:
        value = float(text)
    except ValueError:
        return (1, 0.0, text)
    return (0, value, text) if math.isfinite(value) else (1, 0.0, text)


def _places(number: Decimal) -> int:
    """The number of digits after the point with which `number` is written."""
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _scaled(number: Decimal, places: int) -> int:
    """`number` times 10 to the `places`, exactly; Decimal's own arithmetic would round."""
    numerator, denominator = number.as_integer_ratio()
    return int(numerator * 10**places // denominator)
