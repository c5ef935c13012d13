"""Points in the code at which a test lets the daemon die as by `kill -9`; without the test, they do nothing.

`RISED_CRASH_AT=name` arms one, and `name:3` for the third time that it is passed. A point stands before or after a step
that must be durable; `tests/integration/test_crashes.py` finds all points in the source and tries each.
"""

import os
import signal

_name, _, _count = os.environ.get("RISED_CRASH_AT", "").partition(":")
_left = int(_count or 1)


def crash_point(name: str) -> None:
    """Kill this process if the point `name` is the armed one."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
