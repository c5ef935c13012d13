"""Which GPUs there are: declared by whoever starts the daemon, or found by asking the driver (NVML).

The driver's order may change from boot to boot, so a GPU is known by its UUID; jobs are given indices in PCI order,
which `CUDA_DEVICE_ORDER=PCI_BUS_ID` makes theirs.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rised.log import log
from riseml_proto.errors import InvalidInput

MAX_GPUS = 1024


@dataclass(frozen=True)
class Gpu:
    """One GPU; what nobody knows is None."""

    index: int
    uuid: str | None = None
    name: str | None = None
    memory: int | None = None
    """MiB."""
    driver: str | None = None
    serial: str | None = None
    bus_id: str | None = None


def find(setting: str | int) -> list[Gpu]:
    """The GPUs for the setting `gpus`: `auto`, a number, or indices as `0,2,3`. Raises `InvalidInput`."""
    if setting == "auto":
        return ask_driver()
    return [Gpu(index) for index in declared(setting)]


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


def ask_driver(nvml: Any = None) -> list[Gpu]:
    """Every GPU that the NVIDIA driver knows; none where there is no driver.

    `nvml` is the module `pynvml`; by default that, where the machine has the driver.
    """
    if nvml is None:
        if not os.path.exists("/dev/nvidiactl"):  # saves loading a library that is not there
            return []
        import pynvml

        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        log.warning("no GPUs: the NVIDIA driver does not answer", error=str(error))
        return []
    try:
        driver = _told(nvml, nvml.nvmlSystemGetDriverVersion)
        found = (_describe(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount()))
        return [gpu for gpu in found if gpu]
    except nvml.NVMLError as error:
        log.warning("no GPUs: the NVIDIA driver cannot count them", error=str(error))
        return []
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _describe(nvml: Any, index: int, driver: str | None) -> Gpu | None:
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = _text(nvml.nvmlDeviceGetUUID(device))
    except nvml.NVMLError as error:  # such as one that has fallen off its bus
        log.warning("a GPU is left out: it does not answer", index=index, error=str(error))
        return None
    memory = _told(nvml, lambda: nvml.nvmlDeviceGetMemoryInfo(device).total)
    return Gpu(
        index,
        uuid=uuid,
        name=_told(nvml, lambda: nvml.nvmlDeviceGetName(device)),
        memory=None if memory is None else int(memory) >> 20,
        driver=driver,
        serial=_told(nvml, lambda: nvml.nvmlDeviceGetSerial(device)),
        bus_id=_told(nvml, lambda: nvml.nvmlDeviceGetPciInfo(device).busId),
    )


def _told(nvml: Any, question: Callable[[], Any]) -> Any:
    """The answer; None where this model does not tell, as consumer cards their serial number."""
    try:
        return _text(question())
    except nvml.NVMLError:
        return None


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
