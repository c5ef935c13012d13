"""`riseml monitor` against a daemon that is made of scripts."""

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from riseml.__main__ import main
from riseml_proto.messages import GpuUse, JobUse, Usage
from riseml_proto.states import State

JOB = JobUse("144.2", "toaster", State.RUNNING, 100.0, 512.0, 1, [0], 2, 4096)
GPU = GpuUse(0, "NVIDIA A100", 90, 3 << 10, 40 << 10, 251.3, 61, "00000000:07:00.0")
FIRST = Usage(time=1.0, cpus=4, memory=8192, jobs=[JOB], gpus=[GPU])
SECOND = replace(FIRST, time=2.0, jobs=[replace(JOB, cpu_seconds=101.5)])
THIRD = replace(FIRST, time=3.0, jobs=[replace(JOB, cpu_seconds=102.0)])
TABLE = """\
ID    PROJECT STATE     CPU      MEM             GPU GPU MEM
144.2 toaster RUNNING   1.5/4 |2 0.5/8.0 |4.0 GiB 90% 3.0/40.0 GiB
"""


def bodies(*samples: Usage) -> list[bytes]:
    return [msgspec.json.encode(one) for one in samples]


def run(daemon: Any, *argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["monitor", "--host", f"unix://{daemon.path}", *argv])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def squeezed(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_elsewhere_than_on_a_terminal_it_is_shown_once(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.scripts = [daemon.answers(*bodies(FIRST, SECOND, THIRD))]
    assert run(daemon, "144.2") == 0
    assert squeezed(capsys.readouterr().out) == squeezed(TABLE)
    assert [request.target for request in daemon.requests] == ["/v1/usage?id=144.2"] * 2


def test_gpus_need_one_sample_and_with_an_id_are_its_own(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(GPU, index=1)
    daemon.scripts = [daemon.answers(*bodies(replace(FIRST, gpus=[GPU, other])))]
    assert run(daemon, "--gpu") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ID", "0", "1"]
    assert run(daemon, "144", "--gpu") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ID", "0"]


def test_programs_get_one_object(daemon: Any, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.scripts = [daemon.answers(*bodies(FIRST, SECOND))]
    assert run(daemon, "--json") == 0
    usage = json.loads(capsys.readouterr().out)
    (job,) = usage["jobs"]
    assert (job["id"], job["cpus_used"], job["memory"], job["gpus"]) == ("144.2", 1.5, 512.0, [0])
    assert (usage["cpus"], usage["gpus"][0]["util"]) == (4, 90)
    assert usage["time"].endswith("Z")


def test_what_has_ended_is_said_to_run_no_more(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.scripts = [daemon.answers(*bodies(replace(FIRST, jobs=[])))]
    assert run(daemon, "144") == 0
    assert capsys.readouterr().out == "Nothing of 144 runs\n"


def test_a_wrong_id_is_an_error_before_anything_is_asked(
    daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(daemon, "14.B") == 2
    assert "'14.B' is not an ID" in capsys.readouterr().err
    assert daemon.requests == []


class Typed:
    """A command that runs, and what it wrote so far."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self.end = end
        self.text = ""

    def read_until(self, text: str) -> str:
        """Everything up to `text`, which must come."""
        while text not in self.text:
            assert select.select([self.end], [], [], 20)[0], self.text
            self.text += os.read(self.end, 65536).decode()
        before, _, self.text = self.text.partition(text)
        return before + text

    def interrupt(self) -> int:
        """Ctrl+C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@contextmanager
def typed(daemon: Any, *argv: str, tty: bool, term: str = "xterm") -> Iterator[Typed]:
    end, theirs = pty.openpty() if tty else os.pipe()
    if tty:
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, "-m", "riseml", "--host", f"unix://{daemon.path}", "monitor", *argv]
    env = {**os.environ, "TERM": term}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        try:
            yield Typed(process, end)
        finally:
            process.kill()
            os.close(end)


def test_on_a_terminal_it_is_drawn_in_place_until_ctrl_c(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(*bodies(FIRST, SECOND, THIRD, THIRD))]
    with typed(daemon, tty=True) as command:
        assert "\x1b[2A" not in command.read_until("1.5/4 |2")
        assert "\x1b[2A" in command.read_until("0.5/4 |2")
        assert command.interrupt() == 0


def test_a_terminal_that_became_narrower_is_drawn_over_from_the_same_line(daemon: Any) -> None:
    """Each line of 65 columns stands in two rows of 40 now."""
    daemon.scripts = [daemon.answers(*bodies(FIRST, SECOND, THIRD, THIRD))]
    with typed(daemon, tty=True) as command:
        command.read_until("1.5/4 |2")
        ioctl(command.end, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
        assert "\x1b[4A" in command.read_until("…")


def test_a_daemon_that_went_away_is_waited_for(daemon: Any) -> None:
    """A hang-up in the middle of an answer is how its end looks."""
    daemon.scripts = [
        daemon.answers(*bodies(FIRST, SECOND)),
        daemon.says(b"HTTP/1.1 200 OK\r\nRised-Api: 2\r\nContent-Length: 99\r\n\r\n{"),
        daemon.answers(*bodies(THIRD, THIRD)),
    ]
    with typed(daemon, tty=True) as command:
        command.read_until("1.5/4 |2")
        command.read_until("the daemon does not answer; waiting for it to come back")
        command.read_until("0.5/4 |2")
        assert command.interrupt() == 0


def test_a_program_can_follow_with_an_object_a_line(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(*bodies(FIRST, SECOND, THIRD, THIRD))]
    with typed(daemon, "--json", "--follow", tty=False) as command:
        lines = [json.loads(command.read_until("\n")) for _ in range(2)]
        assert [line["jobs"][0]["cpus_used"] for line in lines] == [1.5, 0.5]
        assert command.interrupt() == 0


def test_a_dumb_terminal_gets_plain_blocks(daemon: Any) -> None:
    daemon.scripts = [daemon.answers(*bodies(FIRST, SECOND, THIRD, THIRD))]
    with typed(daemon, tty=True, term="dumb") as command:
        assert "\x1b" not in command.read_until("0.5/4 |2")
