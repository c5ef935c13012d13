"""GPUs as a driver tells of them: all, some, or nothing."""

from rised.gpus.devices import Gpu, ask_driver
from rised.gpus.nvml import Meter, Meters
from tests.daemon.gpus.fake_nvml import FakeNvml, full

ONE = Gpu(0, uuid="GPU-1")
TWO = Gpu(1, uuid="GPU-2")


def test_a_gpu_tells_what_it_does() -> None:
    meters = Meters([ONE], FakeNvml({b"GPU-1": full()}))
    assert meters.read() == [Meter(0, util=97, memory=3072, power=251.3, temperature=61)]


def test_what_a_model_does_not_support_is_unknown_and_the_rest_is_told() -> None:
    told = {"Temperature": 40}
    meters = Meters([ONE, TWO], FakeNvml({b"GPU-1": told, b"GPU-2": full()}))
    first, second = meters.read()
    assert first == Meter(0, temperature=40)
    assert second.util == 97


def test_a_gpu_that_is_lost_takes_no_other_with_it_and_may_come_back() -> None:
    nvml = FakeNvml({b"GPU-1": full(lost=True), b"GPU-2": full()})
    meters = Meters([ONE, TWO], nvml)
    first, second = meters.read()
    assert (first, second.util) == (Meter(0), 97)
    nvml.gpus[b"GPU-1"]["lost"] = False
    assert meters.read()[0].util == 97


def test_the_driver_is_opened_by_the_first_look_and_closed_once() -> None:
    nvml = FakeNvml({b"GPU-1": full()})
    meters = Meters([ONE], nvml)
    assert nvml.calls == []
    meters.read()
    meters.read()
    meters.close()
    meters.close()
    assert nvml.calls == ["init", "shutdown"]


def test_a_driver_that_is_away_is_asked_again_at_the_next_look() -> None:
    nvml = FakeNvml({b"GPU-1": full()}, away=True)
    meters = Meters([ONE], nvml)
    assert meters.read() == [Meter(0)]
    nvml.away = False
    assert meters.read()[0].util == 97


def test_nobody_is_asked_for_declared_gpus() -> None:
    nvml = FakeNvml({})
    meters = Meters([Gpu(0), Gpu(3)], nvml)
    assert meters.read() == [Meter(0), Meter(3)]
    meters.close()
    assert nvml.calls == []


def test_the_driver_describes_its_gpus() -> None:
    nvml = FakeNvml({b"GPU-1": full()})
    assert ask_driver(nvml) == [
        Gpu(0, "GPU-1", "NVIDIA A100", 40 << 10, "550.54", "1321", "00000000:07:00.0")
    ]
    assert nvml.calls == ["init", "shutdown"]


def test_a_gpu_without_answers_is_still_one_and_a_lost_one_is_left_out() -> None:
    nvml = FakeNvml({b"GPU-1": full(lost=True), b"GPU-2": {}})
    assert ask_driver(nvml) == [Gpu(1, uuid="GPU-2", driver="550.54")]


def test_without_a_driver_that_answers_there_are_no_gpus() -> None:
    nvml = FakeNvml({b"GPU-1": full()}, away=True)
    assert ask_driver(nvml) == []
