"""Which GPUs there are: declared in the settings, or listed by the driver (NVML).

The driver's order may change from boot to boot, so a GPU is known by its UUID. Jobs get indices in PCI order, and
`CUDA_DEVICE_ORDER=PCI_BUS_ID` makes CUDA count in that order, too.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rised.log import log
from riseml_proto.errors import InvalidInput

_DRIVER = "/dev/nvidiactl"
MAX_GPUS = 1024


@dataclass(frozen=True)
class GpuDevice:
    """One GPU; a value that is unknown is None."""

    index: int
    uuid: str | None = None
    name: str | None = None
    memory: int | None = None
    """MiB."""
    driver: str | None = None
    serial: str | None = None
    bus_id: str | None = None


def find(setting: str | int) -> list[GpuDevice]:
    """The GPUs that the setting `gpus` means: `auto`, a number, or indices. Raises `InvalidInput`."""
    if setting == "auto":
        return ask_driver()
    return [GpuDevice(index) for index in declared(setting)]


def declared(setting: str | int) -> list[int]:
    """The indices that `4`, `0,2,3`, or `2,` for one alone declare. Raises `InvalidInput`."""
    text = str(setting).strip()
    parts = [part.strip() for part in text.split(",")]
    several = len(parts) > 1
    if several and not parts[-1]:
        parts.pop()
    if not all(part.isascii() and part.isdigit() and len(part) <= 4 for part in parts):
        raise InvalidInput(
            f"must be auto, a number such as 4, or indices such as 0,2,3, not {text!r}"
        )
    numbers = [int(part) for part in parts]
    if max(numbers) > MAX_GPUS:
        raise InvalidInput(f"{max(numbers)} GPUs are more than any machine has")
    if not several:
        return list(range(numbers[0]))
    if len(set(numbers)) < len(numbers):
        raise InvalidInput(f"{text} names an index twice")
    return sorted(numbers)


def ask_driver(nvml: Any = None) -> list[GpuDevice]:
    """Every GPU that the NVIDIA driver knows; none where there is no driver.

    `nvml` is the module `pynvml`; by default that, where the machine has the driver.
    """
    nvml = nvml or library()
    if nvml is None:
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        log.warning("no GPUs: the NVIDIA driver does not answer", error=str(error))
        return []
    try:
        driver = ask(nvml, nvml.nvmlSystemGetDriverVersion)
        gpus = (_describe(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount()))
        return [gpu for gpu in gpus if gpu]
    except nvml.NVMLError as error:
        log.warning("no GPUs: the NVIDIA driver cannot count them", error=str(error))
        return []
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _describe(nvml: Any, index: int, driver: str | None) -> GpuDevice | None:
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _decoded(nvml.nvmlDeviceGetUUID(device))
    except nvml.NVMLError as error:  # such as one that has fallen off its bus
        log.warning("a GPU is left out: it does not answer", index=index, error=str(error))
        return None
    memory = ask(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device).total)
    return GpuDevice(
        index,
        uuid=uuid,
        name=ask(nvml, lambda: nvml.nvmlDeviceGetName(device)),
        memory=None if memory is None else int(memory) >> 20,
        driver=driver,
        serial=ask(nvml, lambda: nvml.nvmlDeviceGetSerial(device)),
        bus_id=ask(nvml, lambda: nvml.nvmlDeviceGetPciInfo(device).busId),
    )


def library() -> Any:
    """The module `pynvml`; None where the machine has no NVIDIA driver."""
    if not os.path.exists(_DRIVER):
        return None
    import pynvml

    return pynvml


def ask(nvml: Any, call: Callable[[], Any]) -> Any:
    """The result of a call; None where the model does not support it, or the GPU is lost."""
    try:
        return _decoded(call())
    except nvml.NVMLError:
        return None


def _decoded(value: Any) -> Any:
    """Bytes as text: some versions of `pynvml` return bytes where others return text."""
    return value.decode() if isinstance(value, bytes) else value
