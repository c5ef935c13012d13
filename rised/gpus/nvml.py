"""What the GPUs do now, read through the driver's library (NVML).

`pynvml` is imported, and the driver opened, by the first call that needs it. GPUs that were declared have no UUID, and
the driver is not asked for them.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rised.gpus.devices import GpuDevice, ask, library
from rised.gpus.health import GpuHealth, GpuProcess
from rised.log import log
from riseml_proto.messages import GpuUse


class Nvml:
    """Reads the GPUs of one machine. All methods block for milliseconds, and any thread may call them."""

    def __init__(self, gpus: Iterable[GpuDevice], nvml: Any = None) -> None:
        """`nvml` is the module `pynvml`; by default that, where the machine has the driver."""
        self._gpus = list(gpus)
        self._nvml = nvml
        self._lock = threading.Lock()
        self._open = False
        self._complained = False

    def telemetry(self) -> list[GpuUse]:
        """What each GPU does, in their order."""
        with self._lock:
            connected = self._connect()
            return [self._use(gpu, self._device(gpu) if connected else None) for gpu in self._gpus]

    def health(self) -> list[GpuHealth]:
        """Which processes use each GPU, and for which GPUs the driver does not answer."""
        with self._lock:
            return [self._health(gpu) for gpu in self._gpus] if self._connect() else []

    def xid_events(self) -> Callable[[int], tuple[int, int] | None] | None:
        """A function that waits for the next error (Xid) of a GPU or of a program on it; None without a driver.

        It blocks for so many milliseconds; call it in a thread of its own. It returns index and Xid, or None.
        """
        with self._lock:
            nvml = self._nvml if self._connect() else None
            if nvml is None or (event_set := self._ask(nvml.nvmlEventSetCreate)) is None:
                return None
            kind, indices = nvml.nvmlEventTypeXidCriticalError, {}
            for gpu in self._gpus:
                if (device := self._device(gpu)) is not None:
                    self._ask(partial(nvml.nvmlDeviceRegisterEvents, device, kind, event_set))
                    indices[gpu.uuid] = gpu.index

        def wait(milliseconds: int) -> tuple[int, int] | None:
            event = self._ask(lambda: nvml.nvmlEventSetWait_v2(event_set, milliseconds))
            uuid = event and self._ask(lambda: nvml.nvmlDeviceGetUUID(event.device))
            return (indices[uuid], int(event.eventData)) if uuid in indices else None

        return wait

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
        self._nvml = self._nvml or library()
        if self._nvml is None:
            return False
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

    def _use(self, gpu: GpuDevice, device: Any) -> GpuUse:
        nvml = self._nvml

        def read(call: Callable[[], Any]) -> Any:
            return None if device is None else self._ask(call)

        used = read(lambda: nvml.nvmlDeviceGetMemoryInfo(device).used)
        milliwatts = read(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        return GpuUse(
            index=gpu.index,
            name=gpu.name,
            util=read(lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu),
            memory=None if used is None else used >> 20,
            total=gpu.memory,
            power=None if milliwatts is None else milliwatts / 1000,
            temperature=read(
                lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
            ),
            bus_id=gpu.bus_id,
        )

    def _device(self, gpu: GpuDevice) -> Any:
        """The driver's handle. Asked for each time: it is worthless once the driver has reset its GPU."""
        with contextlib.suppress(self._nvml.NVMLError):
            return self._nvml.nvmlDeviceGetHandleByUUID(gpu.uuid.encode()) if gpu.uuid else None
        return None

    def _ask(self, call: Callable[[], Any]) -> Any:
        return ask(self._nvml, call)
