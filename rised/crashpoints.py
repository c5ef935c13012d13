"""Places at which a test lets the daemon die as by `kill -9`; in ordinary life a call here does nothing.

`RISED_CRASH_AT=name` (or `name:3`, the third time it is passed) arms one. Names are in the code beside the durable step
that they stand before or after; `tests/integration/test_crashes.py` goes through all of them.
"""

import os
import signal

_name, _, _count = os.environ.get("RISED_CRASH_AT", "").partition(":")
_left = int(_count or 1)


def crash_point(name: str) -> None:
    """Die here if this point is the armed one."""
    global _left
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
