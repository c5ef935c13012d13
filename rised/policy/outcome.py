"""How an attempt's end becomes a state. Rules that come first win:

a person asked for the end        KILLED
it never had its start signal     PENDING, as if nothing had happened
its shell could not begin         FAILED, START_FAILED: another attempt would end the same way
its time was over                 FAILED, TIME_LIMIT   ┐
nobody knows how it ended         FAILED, LOST         │ or PENDING while retries are left
its exit code is not 0            FAILED, ERROR        ┘
its exit code is 0                FINISHED, COMPLETED
"""

from enum import IntEnum
from typing import NamedTuple

from riseml_proto.states import Reason, State

NO_SUCH_PROGRAM = 127
_NO_SHELL = "its shell could not begin (exit code {code}); its log may say why"
_NO_SHELL_IN_IMAGE = "the image {image} has no /bin/sh"
_TOO_LONG = "ran longer than {limit:g} s"
_UNSEEN = "the job ended while nobody watched, and left no exit code"
_RETURNED = "Command '{command}' return code: {code}"
_RETRIED = "attempt {attempt} failed: "


class KillMode(IntEnum):
    """Whether a person asked for an end, and how soon it must come. The higher mode wins."""

    NONE = 0
    GRACEFUL = 1
    """SIGTERM first, and SIGKILL after the grace period."""
    FORCE = 2
    """SIGKILL at once."""


class AttemptEnd(NamedTuple):
    """An attempt of which nothing is left."""

    begun: bool
    """Whether its first command was started."""
    code: int | None
    """Exit code, None where nobody can know it."""
    kill: KillMode = KillMode.NONE
    over_time: bool = False
    """Whether it was ended because its time limit was over."""
    in_container: bool = False
    failures: int = 0
    """Earlier attempts that failed and had a retry."""
    retries: int = 0
    """How many failures have a retry."""


class Outcome(NamedTuple):
    """What becomes of a sub-experiment whose attempt has ended."""

    state: State
    """PENDING: there is another attempt."""
    reason: Reason | None = None
    message: str | None = None
    """Template over the attempt's `attempt`, `command`, `code`, `image` and `limit`."""
    exit_code: int | None = None
    is_retry: bool = False
    """Whether the next attempt is one of those that `retries` allows."""
    is_charged: bool = False
    """Whether the user is charged for the time that it ran."""


def outcome(end: AttemptEnd) -> Outcome:
    """Decide what becomes of a sub-experiment whose attempt ended like this."""
    begun, code, kill, over_time, in_container, failures, retries = end
    if kill:
        return Outcome(State.KILLED, Reason.KILLED, exit_code=code, is_charged=begun)
    if not begun:
        if code is None:
            return Outcome(State.PENDING)
        no_shell = in_container and code == NO_SUCH_PROGRAM
        message = _NO_SHELL_IN_IMAGE if no_shell else _NO_SHELL
        return Outcome(State.FAILED, Reason.START_FAILED, message)
    if not over_time and code == 0:
        return Outcome(State.FINISHED, Reason.COMPLETED, _RETURNED, code, is_charged=True)
    if over_time:
        reason, message = Reason.TIME_LIMIT, _TOO_LONG
    elif code is None:
        reason, message = Reason.LOST, _UNSEEN
    else:
        reason, message = Reason.ERROR, _RETURNED
    is_charged = reason is not Reason.LOST  # nobody knows for how long it ran
    if failures < retries:
        return Outcome(State.PENDING, None, _RETRIED + message, None, True, is_charged)
    return Outcome(State.FAILED, reason, message, code, is_charged=is_charged)
