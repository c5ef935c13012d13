"""Where the parameters of sub-experiments come from."""

from collections.abc import Iterator
from typing import Protocol


class ParameterSource(Protocol):
    """The parameters of an experiment's members. `Grid` computes them; other sources may choose them as they go."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, sorted."""
        ...

    @property
    def count(self) -> int:
        """Number of sub-experiments; 0 for an experiment that is no set."""
        ...

    def params(self, member: int) -> dict[str, str]:
        """Name → value of one member, sorted, each value as it was written. Raises `IndexError` for no member."""
        ...

    def sorted_members(self, name: str, *, reverse: bool) -> Iterator[int]:
        """All members by the value of a parameter, rising, numbers before texts; of equal ones the earlier first."""
        ...


class NoParameters:
    """The source of an experiment that is no set: member 0 has no parameters."""

    names: tuple[str, ...] = ()
    count = 0

    def params(self, member: int) -> dict[str, str]:
        """Nothing."""
        return {}

    def sorted_members(self, name: str, *, reverse: bool) -> Iterator[int]:
        """Nothing."""
        return iter(())
