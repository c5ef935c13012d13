"""GPUs as a driver tells of them: all, some, or nothing."""

from typing import Any

import msgspec

from rised.gpus.devices import GpuDevice, ask_driver
from rised.gpus.nvml import Nvml
from riseml_proto.messages import GpuUse
from tests.daemon.gpus.fake_nvml import FakeNvml, full

ONE = GpuDevice(0, uuid="GPU-1")
TWO = GpuDevice(1, uuid="GPU-2")
UNKNOWN = GpuUse(
    index=0,
    name=None,
    util=None,
    memory=None,
    total=None,
    power=None,
    temperature=None,
    bus_id=None,
)


def use(index: int, **figures: Any) -> GpuUse:
    return msgspec.structs.replace(UNKNOWN, index=index, **figures)


def test_a_gpu_tells_what_it_does() -> None:
    driver = Nvml([ONE], FakeNvml({b"GPU-1": full()}))
    assert driver.telemetry() == [use(0, util=97, memory=3072, power=251.3, temperature=61)]


def test_what_a_model_does_not_support_is_unknown_and_the_rest_is_told() -> None:
    some = {"Temperature": 40}
    driver = Nvml([ONE, TWO], FakeNvml({b"GPU-1": some, b"GPU-2": full()}))
    first, second = driver.telemetry()
    assert first == use(0, temperature=40)
    assert second.util == 97


def test_a_gpu_that_is_lost_takes_no_other_with_it_and_may_come_back() -> None:
    nvml = FakeNvml({b"GPU-1": full(lost=True), b"GPU-2": full()})
    driver = Nvml([ONE, TWO], nvml)
    first, second = driver.telemetry()
    assert (first, second.util) == (use(0), 97)
    nvml.gpus[b"GPU-1"]["lost"] = False
    assert driver.telemetry()[0].util == 97


def test_the_driver_is_opened_by_the_first_look_and_closed_once() -> None:
    nvml = FakeNvml({b"GPU-1": full()})
    driver = Nvml([ONE], nvml)
    assert nvml.calls == []
    driver.telemetry()
    driver.telemetry()
    driver.close()
    driver.close()
    assert nvml.calls == ["init", "shutdown"]


def test_a_driver_that_is_away_is_asked_again_at_the_next_look() -> None:
    nvml = FakeNvml({b"GPU-1": full()}, away=True)
    driver = Nvml([ONE], nvml)
    assert driver.telemetry() == [use(0)]
    nvml.away = False
    assert driver.telemetry()[0].util == 97


def test_nobody_is_asked_for_declared_gpus() -> None:
    nvml = FakeNvml({})
    driver = Nvml([GpuDevice(0), GpuDevice(3)], nvml)
    assert driver.telemetry() == [use(0), use(3)]
    driver.close()
    assert nvml.calls == []


def test_the_driver_describes_its_gpus() -> None:
    nvml = FakeNvml({b"GPU-1": full()})
    assert ask_driver(nvml) == [
        GpuDevice(0, "GPU-1", "NVIDIA A100", 40 << 10, "550.54", "1321", "00000000:07:00.0")
    ]
    assert nvml.calls == ["init", "shutdown"]


def test_a_gpu_without_answers_is_still_one_and_a_lost_one_is_left_out() -> None:
    nvml = FakeNvml({b"GPU-1": full(lost=True), b"GPU-2": {}})
    assert ask_driver(nvml) == [GpuDevice(1, uuid="GPU-2", driver="550.54")]


def test_without_a_driver_that_answers_there_are_no_gpus() -> None:
    nvml = FakeNvml({b"GPU-1": full()}, away=True)
    assert ask_driver(nvml) == []
