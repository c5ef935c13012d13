"""What processes use, from the kernel's texts and from living processes."""

import os
import subprocess
import sys

import pytest

from rised.linux.usage import (
    Use,
    cgroup_seconds,
    cpu_seconds,
    measure,
    resident,
    share,
)

TICKS = os.sysconf("SC_CLK_TCK")
# A process may call itself what it likes.
STAT = b"1234 (a) R 9 9 (b) S 1 1234 1234 0 -1 4194304 100 200 0 0 150 50 30 20 20 0 4 0 123456 1000000 256 1844"
ROLLUP = b"""\
55e0-7ffd ---p 00000000 00:00 0                          [rollup]
Rss:                4668 kB
Pss:                1536 kB
Pss_Dirty:           404 kB
"""
GONE = 1 << 22
"""More than any pid."""


def test_processor_time_is_a_processs_own_and_that_of_children_it_waited_for() -> None:
    assert cpu_seconds(STAT) == pytest.approx(250 / TICKS)


def test_resident_memory_is_counted_in_pages() -> None:
    assert resident(STAT) == 256 * os.sysconf("SC_PAGE_SIZE")


def test_a_share_is_the_proportional_one() -> None:
    assert share(ROLLUP) == 1536 << 10
    assert share(b"") is None


def test_a_groups_processor_time_is_in_microseconds() -> None:
    assert cgroup_seconds(b"usage_usec 2500000\nuser_usec 1\n") == 2.5
    assert cgroup_seconds(b"") is None


def test_what_is_gone_counts_nothing() -> None:
    assert measure([GONE], None) == Use()
    assert measure([], "/there/is/no/such/group") == Use()


def test_pages_that_processes_share_count_once() -> None:
    """Two processes hold the same 64 MiB."""
    program = (
        "import mmap, os; size = 64 << 20; held = mmap.mmap(-1, size); held.write(b'x' * size);"
        "ends = os.pipe(); child = os.fork(); held.seek(0); held.read(size);"
        "os.write(1, b'%d\\n' % os.getpid());"
        "os.read(ends[0], 1) if not child else os.read(0, 1)"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        use = measure(pids, None)
        os.kill(next(pid for pid in pids if pid != process.pid), 9)
        process.stdin.close()
    assert use.processes == 2
    assert 64 << 20 <= use.memory < 110 << 20
    assert use.cpu_seconds > 0
