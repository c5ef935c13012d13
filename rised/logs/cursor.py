"""How far a stream of a log has come, as plain data, and what follows from it. Pure.

A cursor begins with what a client says that it has seen (`LogRequest.after` and `offsets`) and moves with each batch.
It is enough to go on: a client of an `opening` stream that was sent everything up to a cursor gets exactly the rest
when it asks with the cursor's `seq` and `offsets`.

Attempts that began before the stream are past. They are taken in page by page, in the order in which they began. The
others are taken in when the event is sent with which they begin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from rised.clock import since_epoch
from rised.logs.source import Attempt
from riseml_proto.messages import LogRequest


@dataclass
class Cursor:
    """How far a stream has come, and what it has still to leave out."""

    seq: int
    """States are sent up to the event with this `seq`."""
    offsets: dict[str, int]
    """Attempt's key → the byte at which the next line to be sent begins. Has each attempt that was taken in and is not
    sent to its end, and those that the client named."""
    start: int = 0
    """`seq` when the stream began to send output: attempts that began up to here are past."""
    page_after: int = 0
    """The event with which the last past attempt of the pages so far began."""
    more_pages: bool = False
    """Whether there may be past attempts that no page has brought yet."""
    early: set[str] = field(default_factory=set)
    """Keys of past attempts that ended, and so were sent, before their page came."""
    skip: int = 0
    """Lines that are still to be left out, so that `LogRequest.tail` remain."""

    @classmethod
    def of(cls, request: LogRequest) -> "Cursor":
        """The cursor with which the stream for `request` begins."""
        return cls(seq=request.after, offsets=dict(request.offsets))

    def rewind(self) -> None:
        """Go back to the first past attempt, so that all pages come (again)."""
        self.page_after = 0
        self.more_pages = self.start > 0

    def turn_page(self, page: Sequence[Attempt], size: int) -> list[Attempt]:
        """The past attempts of the next page, which has `size` attempts unless it is the last one."""
        self.more_pages = len(page) == size and page[-1].began < self.start
        self.page_after = page[-1].began if page else 0
        return [attempt for attempt in page if self.is_past(attempt)]

    def is_past(self, attempt: Attempt) -> bool:
        """Whether `attempt` began before the stream."""
        return attempt.began <= self.start

    def has_ended(self, attempt: Attempt) -> bool:
        """Whether `attempt` ended before the stream."""
        return attempt.ended is not None and attempt.ended <= self.start

    def is_seen(self, attempt: Attempt, request: LogRequest) -> bool:
        """Whether nothing of `attempt` is left to be sent, as far as can be said without its log."""
        if attempt.key in self.early:
            return True
        if not self.has_ended(attempt):
            return False
        named = attempt.key in self.offsets
        if request.after and not named and (request.opening or request.tail is not None):
            return True  # the client saw its end: after all its output, or after what `tail` left of it
        since = since_ms(request)
        return since is not None and (attempt.ended_ms or math.inf) < since


def since_ms(request: LogRequest) -> int | None:
    """`LogRequest.since` in milliseconds since the epoch."""
    return (
        None if request.since is None else since_epoch(request.since) // timedelta(milliseconds=1)
    )
