"""Every way in which an attempt can end, and what becomes of it."""

from itertools import product

import pytest

from rised.policy.outcome import AttemptEnd, KillMode, outcome
from riseml_proto.states import TRANSITIONS, Reason, State

KILLS = {"none": KillMode.NONE, "kill": KillMode.GRACEFUL, "force": KillMode.FORCE}
EXITS: dict[str, tuple[bool, int | None]] = {
    "held": (False, None),
    "nostart": (False, 2),
    "noshell": (False, 127),
    "unknown": (True, None),
    "0": (True, 0),
    "1": (True, 1),
    "127": (True, 127),
    "143": (True, 143),
}
LIMITS = {"in": False, "over": True}
PLACES = {"process": False, "container": True}
RETRIES = {"spent": [(0, 0), (1, 1), (2, 1)], "left": [(0, 1), (1, 2), (0, 3)]}
"""Earlier failures and the retries that are allowed."""

MESSAGES = {
    "-": None,
    "noshell": "its shell could not begin (exit code {code}); its log may say why",
    "image": "the image {image} has no /bin/sh",
    "limit": "ran longer than {limit:g} s",
    "lost": "the job ended while nobody watched, and left no exit code",
    "returned": "Command '{command}' return code: {code}",
}
AGAIN = "attempt {attempt} failed: "

# Kill, exit, time limit, place, retries | state, reason, message (`+`: of an attempt that another follows), whether the
# exit code is kept, whether the next is a retry, whether it is charged. The first line that
# fits counts; `*` fits all.
TABLE = """
kill   held      *    *         *         | KILLED   KILLED       -        code -       -
kill   nostart   *    *         *         | KILLED   KILLED       -        code -       -
kill   noshell   *    *         *         | KILLED   KILLED       -        code -       -
kill   *         *    *         *         | KILLED   KILLED       -        code -       charged
force  held      *    *         *         | KILLED   KILLED       -        code -       -
force  nostart   *    *         *         | KILLED   KILLED       -        code -       -
force  noshell   *    *         *         | KILLED   KILLED       -        code -       -
force  *         *    *         *         | KILLED   KILLED       -        code -       charged
none   held      *    *         *         | PENDING  -            -        -    -       -
none   nostart   *    *         *         | FAILED   START_FAILED noshell  -    -       -
none   noshell   *    container *         | FAILED   START_FAILED image    -    -       -
none   noshell   *    process   *         | FAILED   START_FAILED noshell  -    -       -
none   *         over *         left      | PENDING  -            limit+   -    retry charged
none   *         over *         spent     | FAILED   TIME_LIMIT   limit    code -     charged
none   unknown   in   *         left      | PENDING  -            lost+    -    retry -
none   unknown   in   *         spent     | FAILED   LOST         lost     code -     -
none   0         in   *         *         | FINISHED COMPLETED    returned code -       charged
none   *         in   *         left      | PENDING  -            returned+ -   retry charged
none   *         in   *         spent     | FAILED   ERROR        returned code -     charged
"""
LINES = [
    (head.split(), tail.split())
    for head, _, tail in (line.partition("|") for line in TABLE.strip().splitlines())
]
CASES = list(product(KILLS, EXITS, LIMITS, PLACES, RETRIES))


def fits(pattern: list[str], case: tuple[str, ...]) -> bool:
    return all(word in ("*", fact) for word, fact in zip(pattern, case, strict=True))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_each_end_has_the_outcome_of_the_table(case: tuple[str, ...]) -> None:
    state, reason, message, code_kept, retry, charged = next(
        result for pattern, result in LINES if fits(pattern, case)
    )
    kill, how, limit, place, retries = case
    begun, code = EXITS[how]
    text = MESSAGES[message.removesuffix("+")]
    for failures, allowed in RETRIES[retries]:
        result = outcome(
            AttemptEnd(begun, code, KILLS[kill], LIMITS[limit], PLACES[place], failures, allowed)
        )
        assert result.state is State(state)
        assert result.reason == (None if reason == "-" else Reason(reason))
        assert result.message == (f"{AGAIN}{text}" if message.endswith("+") else text)
        assert result.exit_code == (code if code_kept == "code" else None)
        assert result.is_retry == (retry == "retry")
        assert result.is_charged == (charged == "charged")
        assert result.state in TRANSITIONS[State.RUNNING]


def test_each_line_of_the_table_is_needed() -> None:
    first = {next(i for i, (pattern, _) in enumerate(LINES) if fits(pattern, c)) for c in CASES}
    assert first == set(range(len(LINES)))
