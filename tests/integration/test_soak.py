"""The books balance after a soak. `make soak` runs one for longer; `SOAK_SEED` repeats one."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from box import Box
from people import User
from soak import Soak

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(make_shared_box: Callable[..., Box]) -> Iterator[Box]:
    """A box whose state and output lie on a disk that can be filled."""
    box = make_shared_box(gpus=4, cpus=64)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs", box.root], check=True
    )
    yield box
    box.close()
    subprocess.run(["umount", "-l", box.root], check=True)


def test_the_books_balance(small_disk: Box, users: Callable[..., User]) -> None:
    seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 10**6))
    minutes = float(os.environ.get("SOAK_MINUTES", "1.5"))
    print(f"SOAK_SEED={seed}")
    crowd = [users() for _ in range(int(os.environ.get("SOAK_USERS", "20")))]
    print(Soak(small_disk, crowd, seed).run(minutes * 60))
