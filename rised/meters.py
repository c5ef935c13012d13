"""What the GPUs do now, as the driver (NVML) tells it. Asked only when a person looks."""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rised.gpus import Gpu
from rised.log import log

_MILLIWATT = 1000


@dataclass(frozen=True)
class Meter:
    """One GPU now; what nobody knows is None."""

    index: int
    util: int | None = None
    """Percent of the last sampling period in which it computed."""
    memory: int | None = None
    """MiB in use."""
    power: float | None = None
    """Watts."""
    temperature: int | None = None
    """Degrees Celsius."""


class Meters:
    """Reads the GPUs of one machine. `close` when it is not needed any more."""

    def __init__(self, gpus: Iterable[Gpu], nvml: Any = None) -> None:
        """`nvml` stands in for the module `pynvml` in tests."""
        self._gpus = list(gpus)
        self._nvml = nvml
        self._handles: dict[int, Any] | None = None

    def read(self) -> list[Meter]:
        """All of them. Blocks for milliseconds."""
        handles = self._open()
        return [self._meter(gpu.index, handles.get(gpu.index)) for gpu in self._gpus]

    def _open(self) -> dict[int, Any]:
        if self._handles is not None:
            return self._handles
        self._handles = {}
        known = [gpu for gpu in self._gpus if gpu.uuid]
        if known and (self._nvml or os.path.exists("/dev/nvidiactl")):
            if self._nvml is None:
                import pynvml

                self._nvml = pynvml
            try:
                self._nvml.nvmlInit()
                for gpu in known:
                    assert gpu.uuid is not None
                    found = self._nvml.nvmlDeviceGetHandleByUUID(gpu.uuid.encode())
                    self._handles[gpu.index] = found
            except self._nvml.NVMLError as error:
                log.warning("the NVIDIA driver does not answer", error=str(error))
        return self._handles

    def _meter(self, index: int, handle: Any) -> Meter:
        if handle is None:
            return Meter(index)
        nvml = self._nvml
        used = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return Meter(
            index,
            util=self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            memory=None if used is None else used >> 20,
            power=None if milliwatts is None else milliwatts / _MILLIWATT,
            temperature=self._ask(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
        )

    def _ask(self, question: Callable[[], int]) -> int | None:
        try:
            return question()
        except self._nvml.NVMLError:  # this model does not tell, or is lost
            return None

    def close(self) -> None:
        """Let go of the driver."""
        if self._handles:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._handles = None
