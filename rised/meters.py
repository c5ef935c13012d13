"""What the GPUs do now, as the driver (NVML) tells it. Asked only when a person looks."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rised.gpus import Gpu
from rised.log import log

_DRIVER = "/dev/nvidiactl"
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
        """`nvml` is the module `pynvml`; by default that, where the machine has the driver."""
        self._gpus = list(gpus)
        self._nvml = nvml
        self._lock = threading.Lock()
        self._open = False
        self._complained = False

    def read(self) -> list[Meter]:
        """All of them, in order. Blocks for milliseconds; for any thread."""
        with self._lock:
            if not self._open:
                self._open = self._connect()
            return [self._meter(gpu) if self._open else Meter(gpu.index) for gpu in self._gpus]

    def close(self) -> None:
        """Let go of the driver; the next `read` asks it anew."""
        with self._lock:
            if self._open:
                with contextlib.suppress(self._nvml.NVMLError):
                    self._nvml.nvmlShutdown()
            self._open = False

    def _connect(self) -> bool:
        """Declared GPUs have no UUID, and nobody is asked for them."""
        if not any(gpu.uuid for gpu in self._gpus):
            return False
        if self._nvml is None:
            if not os.path.exists(_DRIVER):
                return False
            import pynvml

            self._nvml = pynvml
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            if not self._complained:
                log.warning("the NVIDIA driver does not answer", error=str(error))
            self._complained = True
            return False
        return True

    def _meter(self, gpu: Gpu) -> Meter:
        nvml, uuid = self._nvml, gpu.uuid
        if not uuid:
            return Meter(gpu.index)
        # Asked for each time: a handle is worthless once the driver has reset its GPU.
        device = self._ask(lambda: nvml.nvmlDeviceGetHandleByUUID(uuid.encode()))
        if device is None:
            return Meter(gpu.index)
        used = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device).used)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        celsius = nvml.NVML_TEMPERATURE_GPU
        return Meter(
            gpu.index,
            util=self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu),
            memory=None if used is None else used >> 20,
            power=None if milliwatts is None else milliwatts / _MILLIWATT,
            temperature=self._ask(lambda: nvml.nvmlDeviceGetTemperature(device, celsius)),
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:  # this model does not tell, or it is lost
            return None
