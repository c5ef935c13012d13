"""What the GPUs do now, as the driver (NVML) tells it. Asked only when a person looks."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rised.gpus.devices import Gpu
from rised.gpus.health import Process, Reading
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


@dataclass(frozen=True)
class Fault:
    """What a GPU has reported."""

    index: int
    xid: int


class Faults:
    """Waits for the driver's events."""

    def __init__(self, nvml: Any, events: Any, indices: dict[str, int]) -> None:
        """`indices`: UUID → index."""
        self._nvml = nvml
        self._events = events
        self._indices = indices

    def wait(self, milliseconds: int) -> Fault | None:
        """The next one; None if none comes in this time. Blocks; for a thread of its own."""
        nvml = self._nvml
        try:
            event = nvml.nvmlEventSetWait_v2(self._events, milliseconds)
            uuid = nvml.nvmlDeviceGetUUID(event.device)
        except nvml.NVMLError:
            return None
        index = self._indices.get(uuid.decode() if isinstance(uuid, bytes) else uuid)
        return None if index is None else Fault(index, int(event.eventData))


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

    def look(self) -> list[Reading]:
        """Who is on which GPU, and which the driver does not answer for. As `read`."""
        with self._lock:
            if not self._open:
                self._open = self._connect()
            return [self._reading(gpu) for gpu in self._gpus] if self._open else []

    def _reading(self, gpu: Gpu) -> Reading:
        nvml, uuid = self._nvml, gpu.uuid
        if not uuid:
            return Reading(gpu.index)
        try:
            device = nvml.nvmlDeviceGetHandleByUUID(uuid.encode())
        except nvml.NVMLError as error:
            return Reading(gpu.index, lost=str(error))
        found = self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device)) or []
        found = [
            *found,
            *(self._ask(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(device)) or []),
        ]
        processes = {p.pid: (p.usedGpuMemory or 0) >> 20 for p in found}
        if processes and not any(processes.values()):  # in a virtual machine, or on a part of a GPU
            used = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(device).used) or 0
            processes[min(processes)] = used >> 20
        return Reading(
            gpu.index, tuple(Process(pid, mem) for pid, mem in sorted(processes.items()))
        )

    def faults(self) -> "Faults | None":
        """A way to wait for faults of GPUs; None where the driver has none."""
        with self._lock:
            if not self._open:
                self._open = self._connect()
            if not self._open:
                return None
            nvml = self._nvml
            events = self._ask(nvml.nvmlEventSetCreate)
            if events is None:
                return None
            kind, indices = nvml.nvmlEventTypeXidCriticalError, {}
            for gpu in (gpu for gpu in self._gpus if gpu.uuid):
                assert gpu.uuid
                device = self._ask(partial(nvml.nvmlDeviceGetHandleByUUID, gpu.uuid.encode()))
                if device is not None:
                    self._ask(partial(nvml.nvmlDeviceRegisterEvents, device, kind, events))
                    indices[gpu.uuid] = gpu.index
            return Faults(nvml, events, indices)

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
