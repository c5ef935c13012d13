"""Files grouped into requests: many small ones travel together, a large one alone."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def batches(
    items: Iterable[T], size: Callable[[T], int], *, count: int, most: int, alone: int
) -> Iterator[list[T]]:
    """`items` in lists of at most `count` items and `most` bytes; one of `alone` bytes or more by itself."""
    batch, total = list[T](), 0
    for item in items:
        large = size(item) >= alone
        if batch and (large or len(batch) == count or total + size(item) > most):
            yield batch
            batch, total = [], 0
        if large:
            yield [item]
        else:
            batch.append(item)
            total += size(item)
    if batch:
        yield batch
