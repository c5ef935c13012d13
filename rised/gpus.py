"""Which GPUs there are: declared by whoever starts the daemon, or found by asking the driver (NVML).

The driver's order may change from boot to boot, so a GPU is known by its UUID; jobs are given indices in PCI order,
which `CUDA_DEVICE_ORDER=PCI_BUS_ID` makes theirs.
"""

import os
from dataclasses import dataclass

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


def ask_driver() -> list[Gpu]:
    """Every GPU that the NVIDIA driver knows; none where there is no driver."""
    if not os.path.exists("/dev/nvidiactl"):  # saves loading a library that is not there
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.warning("no GPUs: the NVIDIA driver does not answer", error=str(error))
        return []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return [_describe(index, driver) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _describe(index: int, driver: str) -> Gpu:
    import pynvml

    device = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        serial = _text(pynvml.nvmlDeviceGetSerial(device))
    except pynvml.NVMLError:  # consumer cards have none
        serial = None
    return Gpu(
        index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(device)),
        name=_text(pynvml.nvmlDeviceGetName(device)),
        memory=int(pynvml.nvmlDeviceGetMemoryInfo(device).total) >> 20,
        driver=driver,
        serial=serial,
        bus_id=_text(pynvml.nvmlDeviceGetPciInfo(device).busId),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
