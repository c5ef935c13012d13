"""A figure, its limit, and how both look in 80 columns."""

from typing import Any, NamedTuple

WIDTH = 80
_VALUE, _LIMIT, _VERDICT = 14, 13, 5
_NAME = WIDTH - _VALUE - _LIMIT - _VERDICT


class Figure(NamedTuple):
    """One measured number."""

    name: str
    value: float | None
    """None where it could not be had, as of a peer that is not installed."""
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the limit is kept; None where there is none."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "passed": self.passed}


def show_title(title: str) -> str:
    """A group's first line."""
    return title.ljust(WIDTH - _LIMIT - _VERDICT) + "limit".rjust(_LIMIT)


def show_figure(figure: Figure) -> str:
    """A figure's line."""
    value = "not here" if figure.value is None else f"{number(figure.value)} {figure.unit}"
    limit = ""
    if figure.at_most is not None:
        limit = f"≤ {figure.at_most:g} {figure.unit}"
    if figure.at_least is not None:
        limit = f"≥ {figure.at_least:g} {figure.unit}"
    verdict = {None: "", True: "pass", False: "MISS"}[figure.passed]
    name = f"  {figure.name}"
    return f"{name:<{_NAME}}{value:>{_VALUE}}{limit:>{_LIMIT}}{verdict:>{_VERDICT}}".rstrip()


def number(value: float) -> str:
    """Three digits that mean something: `1,490`, `37.2`, `4.05`, `0.012`; 0 for less than that."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if size >= 0.0005 else "0"
