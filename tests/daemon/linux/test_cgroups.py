"""The control group that counts a container's processor time, in either version of cgroups."""

import pytest

from rised.linux.cgroups import counting_cgroup

MOUNTS = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""


@pytest.mark.parametrize(
    ("cgroup", "group"),
    [
        ("0::/system.slice/docker-abc.scope\n", "unified/system.slice/docker-abc.scope"),
        ("4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n", "cpu,cpuacct/docker/abc"),
    ],
)
def test_a_containers_group_is_found_in_either_version(cgroup: str, group: str) -> None:
    assert counting_cgroup(cgroup, MOUNTS, "abc") == f"/sys/fs/cgroup/{group}"


@pytest.mark.parametrize("cgroup", ["", "0::/\n", "4:memory:/docker/abc\n0::/user.slice\n"])
def test_a_group_that_others_share_is_nobodys(cgroup: str) -> None:
    assert counting_cgroup(cgroup, MOUNTS, "abc") is None
