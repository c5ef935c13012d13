"""The whole path, as a person walks it."""

from box import Box

from riseml_proto.states import State

GRID = """\
project: toaster
train:
  parameters:
    lr: [0.1, 0.2]
    n: [1, 2]
  concurrency: 2
  run: echo {{lr}} {{n}}
"""


def test_a_sweep_runs_to_its_end_and_tells_so(box: Box) -> None:
    done = box.run("train", cwd=box.project(GRID))
    assert "--> FINISHED" in done.stdout
    assert box.wait_for_end("1") is State.FINISHED
    assert box.processes() == {}
