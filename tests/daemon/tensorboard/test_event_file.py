"""What TensorBoard is given of whatever stands in a results file."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from rised.tensorboard.event_file import EventFile


def test_reports_that_no_record_can_hold_cost_the_others_nothing(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.write_bytes(
        b'{"a": 1, "step": 1e30}\n'
        b'{"a": %(huge)s}\n'
        b'{"a": 1, "step": %(huge)s}\n'
        b'{"a": 1e39}\n'
        b'{"a": NaN}\n'
        b"[1]\n"
        b"%(deep)s\n"
        b'{"\xff": 1}\n'
        b'{"a": 2, "time": {}}\n'
        b'{"b": 0.5, "step": 7}\n' % {b"huge": b"9" * 400, b"deep": b"[" * 100_000}
    )
    event_file = EventFile(str(tmp_path), {"lr": 0.1})
    event_file.follow(str(results))
    [file] = tmp_path.glob("events.out.tfevents.*")
    values = [
        (event.step, value.tag, value.tensor.float_val or value.simple_value)
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
        if not value.tag.startswith("_")
    ]
    assert [(step, tag) for step, tag, _ in values] == [
        *((1, "a"), (3, "a"), (4, "a"), (5, "a")),
        (7, "b"),
    ]
