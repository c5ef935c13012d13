"""What is written to a job's control group for what it asked for."""

from rised.runners.base import JobResources
from rised.runners.process.cgroups import control_files


def test_a_job_that_asked_for_nothing_has_a_small_weight_and_no_limits_but_on_processes() -> None:
    assert control_files(JobResources()) == {"cpu.weight": "10", "pids.max": "16384"}


def test_guarantees_and_limits_are_written_in_the_kernels_units() -> None:
    files = control_files(JobResources(cpus=2, mem=512, cpus_limit=1.5, mem_limit=1024))
    assert files == {
        "cpu.weight": "200",
        "cpu.max": "150000 100000",
        "memory.low": str(512 << 20),
        "memory.max": str(1024 << 20),
        "pids.max": "16384",
    }


def test_weight_and_limit_stay_in_the_ranges_that_the_kernel_takes() -> None:
    assert control_files(JobResources(cpus=1000))["cpu.weight"] == "10000"
    assert control_files(JobResources(cpus=0.001))["cpu.weight"] == "1"
    assert control_files(JobResources(cpus_limit=0.001))["cpu.max"] == "1000 100000"
