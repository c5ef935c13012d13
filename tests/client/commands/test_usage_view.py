"""The figures and tables of `riseml monitor`, to the character."""

import pytest
from msgspec.structs import replace

from riseml.commands.usage_view import Rates, gpu_lines, job_lines
from riseml_proto.messages import GpuUse, JobUse, Usage
from riseml_proto.states import State

JOB = JobUse(
    id="144.2",
    project="ai-toaster",
    state=State.RUNNING,
    cpu_seconds=100.0,
    memory=12.25 * 1024,
    processes=3,
    gpus=[0, 1],
    requested_cpus=2,
    requested_memory=4096,
)
GPUS = [
    GpuUse(0, "NVIDIA A100", 90, 3 << 10, 40 << 10, 251.3, 61, "00000000:07:00.0"),
    GpuUse(1, "NVIDIA A100", 95, 1 << 10, 40 << 10, 249.6, 58, "00000000:0F:00.0"),
]
DECLARED = [GpuUse(n, None, None, None, None, None, None, None) for n in (0, 1)]
NOW = Usage(time=50.0, cpus=16, memory=62.8 * 1024, jobs=[JOB], gpus=GPUS)


def sample(time: float, seconds: float, *, processes: int = 3) -> Usage:
    return replace(NOW, time=time, jobs=[replace(JOB, cpu_seconds=seconds, processes=processes)])


def rates(*samples: Usage) -> list[float | None]:
    rates = Rates()
    return [rates.of(one).get("144.2") for one in samples]


def test_what_counts_is_the_difference_of_two_samples() -> None:
    assert rates(sample(10, 100), sample(12, 103), sample(13, 103)) == [None, 1.5, 0]


def test_a_job_that_was_not_there_before_has_no_rate_yet() -> None:
    empty = replace(NOW, time=10, jobs=[])
    assert rates(empty, sample(11, 500), sample(12, 501)) == [None, None, 1]


def test_a_job_that_a_restarted_daemon_has_not_found_again_makes_no_peak() -> None:
    lost = sample(11, 0, processes=0)
    assert rates(sample(10, 500), lost, sample(12, 502), sample(13, 503)) == [None, None, None, 1]


def test_what_an_ended_process_had_used_is_no_peak_when_it_comes_back_with_its_parent() -> None:
    samples = [sample(10, 500), sample(11, 20), sample(12, 502), sample(13, 503)]
    assert rates(*samples) == [None, 0, 2, 1]


def test_what_an_ended_process_had_used_may_also_never_come_back() -> None:
    assert rates(sample(10, 500), sample(11, 20), sample(12, 21.5)) == [None, 0, 1.5]


def test_jobs_show_used_available_and_requested() -> None:
    assert job_lines(NOW, {"144.2": 1.52}) == [
        "ID    PROJECT    STATE     CPU       MEM                GPU GPU MEM",
        "144.2 ai-toaster RUNNING   1.5/16 |2 12.2/62.8 |4.0 GiB 92% 4.0/80.0 GiB",
    ]


def test_what_nobody_knows_is_a_dash() -> None:
    assert job_lines(replace(NOW, gpus=DECLARED), {"144.2": None})[1] == (
        "144.2 ai-toaster RUNNING   -/16 |2 12.2/62.8 |4.0 GiB -   -"
    )
    assert gpu_lines(DECLARED[:1]) == [
        "ID NAME UTIL MEM POWER TEMP BUS ID",
        "0  -    -    -   -     -    -",
    ]


def test_gpus_show_what_each_does() -> None:
    assert gpu_lines(GPUS) == [
        "ID NAME        UTIL MEM          POWER TEMP BUS ID",
        "0  NVIDIA A100 90%  3.0/40.0 GiB 251 W 61 C 00000000:07:00.0",
        "1  NVIDIA A100 95%  1.0/40.0 GiB 250 W 58 C 00000000:0F:00.0",
    ]


@pytest.mark.parametrize("name", ["toaster", "a-project-with-a-very-long-name-" * 2])
def test_eighty_columns_hold_every_figure(name: str) -> None:
    job = replace(JOB, id="1144.112", project=name, requested_memory=64 << 10)
    now = replace(NOW, cpus=128, memory=1024 * 1007.5, jobs=[job])
    titles, line = job_lines(now, {"1144.112": 63.9}, width=80)
    assert titles.endswith("GPU MEM")
    assert line.endswith("92% 4.0/80.0 GiB")
    assert len(line) <= 80
