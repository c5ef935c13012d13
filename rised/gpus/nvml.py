"""What the GPUs do now, read through the driver's library (NVML).

`pynvml` is imported, and the driver opened, by the first call that needs it. GPUs that were declared have no UUID, and
the driver is not asked for them.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rised.gpus.devices import DRIVER, GpuDevice, decoded
from rised.gpus.health import GpuHealth, GpuProcess
from rised.log import log


@dataclass(frozen=True)
class GpuTelemetry:
    """One GPU now; a value that the model or the driver does not report is None."""

    index: int
    util: int | None = None
    """Percent of the last sampling period in which it computed."""
    memory: int | None = None
    """MiB in use."""
    power: float | None = None
    """Watts."""
    temperature: int | None = None
    """Degrees Celsius."""


@dataclass(frozen=True)
class XidEvent:
    """An error that a GPU, or a program on it, has caused."""

    index: int
    xid: int


class XidEvents:
    """Waits for the driver's events."""

    def __init__(self, nvml: Any, event_set: Any, indices: dict[str, int]) -> None:
        """`indices`: UUID → index."""
        self._nvml = nvml
        self._event_set = event_set
        self._indices = indices

    def wait(self, milliseconds: int) -> XidEvent | None:
        """Return the next one; None if none comes in this time. Blocks; for a thread of its own."""
        nvml = self._nvml
        try:
            event = nvml.nvmlEventSetWait_v2(self._event_set, milliseconds)
            uuid = nvml.nvmlDeviceGetUUID(event.device)
        except nvml.NVMLError:
            return None
        index = self._indices.get(decoded(uuid))
        return None if index is None else XidEvent(index, int(event.eventData))


class Nvml:
    """Reads the GPUs of one machine. All methods block for milliseconds, and any thread may call them."""

    def __init__(self, gpus: Iterable[GpuDevice], nvml: Any = None) -> None:
        """`nvml` is the module `pynvml`; by default that, where the machine has the driver."""
        self._gpus = list(gpus)
        self._nvml = nvml
        self._lock = threading.Lock()
        self._open = False
        self._complained = False

    def telemetry(self) -> list[GpuTelemetry]:
        """What each GPU does, in their order."""
        with self._lock:
            if not self._connect():
                return [GpuTelemetry(gpu.index) for gpu in self._gpus]
            return [self._telemetry(gpu) for gpu in self._gpus]

    def health(self) -> list[GpuHealth]:
        """Which processes use each GPU, and for which GPUs the driver does not answer."""
        with self._lock:
            return [self._health(gpu) for gpu in self._gpus] if self._connect() else []

    def xid_events(self) -> XidEvents | None:
        """The stream of Xid events; None where the driver has none."""
        with self._lock:
            if not self._connect():
                return None
            nvml = self._nvml
            event_set = self._ask(nvml.nvmlEventSetCreate)
            if event_set is None:
                return None
            kind, indices = nvml.nvmlEventTypeXidCriticalError, {}
            for gpu in self._gpus:
                if gpu.uuid and (device := self._device(gpu.uuid)) is not None:
                    self._ask(partial(nvml.nvmlDeviceRegisterEvents, device, kind, event_set))
                    indices[gpu.uuid] = gpu.index
            return XidEvents(nvml, event_set, indices)

    def close(self) -> None:
        """Close the driver's library; the next call opens it anew."""
        with self._lock:
            if self._open:
                with contextlib.suppress(self._nvml.NVMLError):
                    self._nvml.nvmlShutdown()
            self._open = False

    def _connect(self) -> bool:
        """Open the driver's library if it is not open. Return whether it is now."""
        if self._open or not any(gpu.uuid for gpu in self._gpus):
            return self._open
        if self._nvml is None:
            if not os.path.exists(DRIVER):
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
        self._open = True
        return True

    def _health(self, gpu: GpuDevice) -> GpuHealth:
        nvml, uuid = self._nvml, gpu.uuid
        if not uuid:
            return GpuHealth(gpu.index)
        try:
            device = nvml.nvmlDeviceGetHandleByUUID(uuid.encode())
        except nvml.NVMLError as error:
            return GpuHealth(gpu.index, lost=str(error))
        rows = [
            *(self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device)) or ()),
            *(self._ask(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(device)) or ()),
        ]
        memory = {row.pid: (row.usedGpuMemory or 0) >> 20 for row in rows}
        if memory and not any(memory.values()):  # in a virtual machine, or on a part of a GPU
            used = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device).used) or 0
            memory[min(memory)] = used >> 20
        return GpuHealth(gpu.index, tuple(GpuProcess(*row) for row in sorted(memory.items())))

    def _telemetry(self, gpu: GpuDevice) -> GpuTelemetry:
        nvml, device = self._nvml, self._device(gpu.uuid) if gpu.uuid else None
        if device is None:
            return GpuTelemetry(gpu.index)
        used = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device).used)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        sensor = nvml.NVML_TEMPERATURE_GPU
        return GpuTelemetry(
            gpu.index,
            util=self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu),
            memory=None if used is None else used >> 20,
            power=None if milliwatts is None else milliwatts / 1000,
            temperature=self._ask(lambda: nvml.nvmlDeviceGetTemperature(device, sensor)),
        )

    def _device(self, uuid: str) -> Any:
        """The driver's handle. Asked for each time: it is worthless once the driver has reset its GPU."""
        return self._ask(lambda: self._nvml.nvmlDeviceGetHandleByUUID(uuid.encode()))

    def _ask(self, call: Callable[[], Any]) -> Any:
        """The result of a call; None where the model does not support it, or the GPU is lost."""
        try:
            return call()
        except self._nvml.NVMLError:
            return None
