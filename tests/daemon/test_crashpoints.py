"""Crash points: nothing in ordinary life, the end of the process where one is armed."""

import os
import signal
import subprocess
import sys

import pytest

PASS = "from rised.crashpoints import crash_point as c; c('a'); c('b'); c('a'); print('alive')"


def passed(armed: str | None) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "RISED_CRASH_AT"}
    if armed is not None:
        env["RISED_CRASH_AT"] = armed
    return subprocess.run(
        [sys.executable, "-c", PASS], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("armed", ["a", "b", "a:2"])
def test_the_armed_one_ends_the_process_as_kill_9_does(armed: str) -> None:
    done = passed(armed)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


@pytest.mark.parametrize("armed", [None, "", "c", "a:3"])
def test_all_others_do_nothing(armed: str | None) -> None:
    assert passed(armed).stdout == "alive\n"
