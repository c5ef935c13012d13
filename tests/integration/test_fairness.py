"""Several users on one machine, for real: who has used less goes first, quotas of groups, and whose wishes count."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from box import Box
from people import User
from test_shared import host, train

from riseml_proto.states import State

Users = Callable[..., User]


def fifo(box: Box) -> Path:
    path = box.root / "go"
    os.mkfifo(path)
    path.chmod(0o666)
    return path


def begun(box: Box, target: str) -> None:
    box.wait_for_line(target, "begun")


def test_two_newcomers_share_what_one_waits_for(
    make_shared_box: Callable[..., Box], users: Users
) -> None:
    shared = make_shared_box(gpus=4)
    shared.start()
    paul, eve = users(), users()
    go = fifo(shared)
    grid = f"{{n: [{', '.join(map(str, range(1, 9)))}]}}"
    resources = "  concurrency: 8\n  resources: {gpus: 1, cpus: 0}\n"
    sweep = (
        f"project: a\ntrain:\n  parameters: {grid}\n{resources}  run: echo begun; read x < {go}\n"
    )
    shared.run("system", "drain")
    pauls, eves = train(shared, paul, sweep), train(shared, eve, sweep)
    shared.run("system", "undrain")
    for number in pauls, eves:
        for member in 1, 2:
            begun(shared, f"{number}.{member}")
    queue = json.loads(eve.riseml("queue", "--json", host=host(shared)).stdout)["experiments"]
    assert [(one["user"], one["left"]) for one in queue] == [(paul.name, 6), (eve.name, 6)]
    shared.run("kill", "-f", pauls, eves)


def test_who_has_used_less_goes_first_also_after_a_restart(
    make_shared_box: Callable[..., Box], users: Users
) -> None:
    shared = make_shared_box(gpus=1)
    shared.start()
    paul, eve = users(), users()
    go = fifo(shared)
    one = (
        f"project: a\ntrain:\n  resources: {{gpus: 1, cpus: 0}}\n  run: echo begun; read x < {go}\n"
    )
    used = train(shared, paul, one)
    begun(shared, used)
    go.write_text("go\n")
    assert shared.wait_for_end(used) is State.FINISHED
    shared.kill_daemon()
    shared.start()
    shared.run("system", "drain")
    pauls, eves = train(shared, paul, one), train(shared, eve, one)
    shared.run("system", "undrain")
    begun(shared, eves)
    why = paul.riseml("status", "-l", pauls, host=host(shared)).stdout
    assert "Reason: waits for 1 GPU (0 free)" in why
    go.write_text("go\n")
    begun(shared, pauls)
    shared.run("kill", "-f", pauls)


def test_only_owners_and_administrators_change_what_is_to_come(
    make_shared_box: Callable[..., Box], users: Users
) -> None:
    paul, eve, boss = users(), users(), users("riseml-chiefs")
    shared = make_shared_box(gpus=0, admin_group="riseml-chiefs")
    shared.start()
    shared.run("system", "drain")
    number = train(shared, paul, "project: a\ntrain: {run: 'true'}\n")
    for argv in (["pause", number], ["resume", number], ["set", number, "--priority", "1"]):
        done = eve.riseml(*argv, host=host(shared))
        assert done.returncode == 2
        assert f"{number} is {paul.name}'s" in done.stderr
        assert paul.riseml(*argv, host=host(shared)).returncode == 0
        assert boss.riseml(*argv, host=host(shared)).returncode == 0
    for what in "drain", "undrain":
        done = paul.riseml("system", what, host=host(shared))
        assert done.returncode == 2
        assert "only root and members of the group riseml-chiefs may do this" in done.stderr
    assert boss.riseml("system", "undrain", host=host(shared)).returncode == 0
    assert shared.wait_for_end(number) is State.FINISHED


def test_a_groups_quota_is_of_all_its_members_together(
    make_shared_box: Callable[..., Box], users: Users
) -> None:
    paul, eve, ann = users("riseml-pupils"), users("riseml-pupils"), users()
    shared = make_shared_box(gpus=3)
    file = shared.root / "config.yml"
    file.write_text("quotas: {groups: {riseml-pupils: {gpus: 2, queued: 2, disk: 1TiB}}}\n")
    shared.flags["config"] = file
    shared.start()
    go = fifo(shared)
    two = (
        f"project: a\ntrain:\n  resources: {{gpus: 2, cpus: 0}}\n  run: echo begun; read x < {go}\n"
    )
    first, second = train(shared, paul, two), train(shared, eve, two)
    begun(shared, first)
    third = train(shared, ann, two.replace("gpus: 2", "gpus: 1"))
    begun(shared, third)
    why = eve.riseml("status", second, host=host(shared)).stdout
    told = "waits for other experiments of group riseml-pupils: at most 2 GPUs at once"
    assert f"Reason: {told}" in why
    done = eve.run(
        eve.python, "-m", "riseml", "train", "-d", host=host(shared), cwd=eve.home / "project"
    )
    assert done.returncode == 2
    assert "the quota of group riseml-pupils is 2 unfinished experiments" in done.stderr
    shared.run("kill", "-f", first)
    begun(shared, second)
    shared.run("kill", "-f", second, third)
